"""Datagram sockets in memory. Every method returns at once, like those of ``kernel``.

As UDP on one host does it (RFC 768): a datagram arrives whole, in order, or not at all. It is lost
if nobody has its address, if the receiver is connected to somebody else, or if the receiver's queue
is full.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

Address = tuple[str, int]

#: Bytes that a socket has room for: Linux's ``net.core.rmem_default``.
QUEUE_SIZE = 212_992

#: The longest datagram: 65,535 bytes less the headers of IPv4 and UDP.
LONGEST = 65_507

#: What a datagram takes of the room beside its bytes, so that empty ones are not endless.
OVERHEAD = 256


class DatagramSocket:
    """One bound socket; ``peer`` is whom it is connected to, if so."""

    __slots__ = ("_queue", "_sockets", "_used", "address", "closed", "on_readable", "peer")

    def __init__(
        self,
        sockets: dict[Address, DatagramSocket],
        address: Address,
        peer: Address | None = None,
    ) -> None:
        if address in sockets:
            raise OSError(f"{address[0]}:{address[1]} is already in use")
        self.address: Address = address
        self.peer: Address | None = peer
        self.closed: bool = False
        self.on_readable: Callable[[], object] | None = None
        self._sockets = sockets
        self._queue: deque[tuple[bytes, Address]] = deque()
        self._used = 0
        sockets[address] = self

    @property
    def readable(self) -> bool:
        """Whether :meth:`recvfrom` would not block."""
        return bool(self._queue) or self.closed

    def sendto(self, data: bytes, address: Address) -> None:
        """Send a datagram. Raises :exc:`OSError` if it is too long, or the socket is closed."""
        if self.closed:
            raise OSError("the socket is closed")
        if len(data) > LONGEST:
            raise OSError(f"a datagram has {LONGEST} bytes at the most, not {len(data)}")
        receiver = self._sockets.get(address)
        if receiver is not None:
            receiver._deliver(data, self.address)

    def recvfrom(self) -> tuple[bytes, Address]:
        """The oldest datagram, and who has sent it.

        Raises :exc:`BlockingIOError` if there is none, and :exc:`OSError` if the socket is closed.
        """
        if self.closed:
            raise OSError("the socket is closed")
        if not self._queue:
            raise BlockingIOError
        data, sender = self._queue.popleft()
        self._used -= len(data) + OVERHEAD
        return data, sender

    def close(self) -> None:
        """Give the address back. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._queue.clear()
        del self._sockets[self.address]
        if self.on_readable is not None:
            self.on_readable()

    def _deliver(self, data: bytes, sender: Address) -> None:
        size = len(data) + OVERHEAD
        if self.peer not in (None, sender) or self._used + size > QUEUE_SIZE:
            return
        self._used += size
        self._queue.append((data, sender))
        if self.on_readable is not None:
            self.on_readable()
