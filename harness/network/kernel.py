"""Sockets, listening sockets and the network between them, in memory.

A connection is two pipes and two sockets. What happens at its end follows TCP as Linux implements
it, because that is what code under test will meet in production:

* ``shutdown_write()`` sends FIN: the peer reads what is queued and then the end of the stream,
  and can go on sending (RFC 9293, 3.6, half-closed connections).
* ``close()`` with everything read sends FIN. The peer's *next* send is accepted and answered with
  RST; from then on its sends fail, and its receives fail once the queue is empty.
* ``close()`` with unread bytes sends RST at once (RFC 2525, 2.17; RFC 1122, 4.2.2.13).
* ``abort()`` sends RST at once. Bytes that had already arrived can still be read first.
* A reset is told by every later operation, as AnyIO's streams do on asyncio. (Linux tells it
  once; a ``recv`` after that finds the end of the stream.)
* Connecting where nobody listens is refused; closing a listener resets what it had not accepted.

Readiness is told by two callbacks a socket (`on_readable`, `on_writable`), each called every time
something changed that may let a blocked operation go on. Whoever waits has to look again.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable

from .datagrams import Address, DatagramSocket
from .pipe import DEFAULT_CAPACITY, Pipe

#: The one host of a network without rules. It is a loopback literal, so that it parses as an IP
#: address, and not 127.0.0.1, so that dialling it for real by mistake reaches nobody.
LOOPBACK = "127.1.0.1"
FIRST_EPHEMERAL_PORT = 49152
LAST_PORT = 65535


class Socket:
    """One end of a connection. Every method returns at once or raises an :exc:`OSError`.

    Raises :exc:`BlockingIOError` where a real non-blocking socket would.
    """

    __slots__ = (
        "_incoming",
        "_outgoing",
        "_peer",
        "_reset",
        "closed",
        "local_address",
        "on_readable",
        "on_writable",
        "remote_address",
    )

    def __init__(self, local: Address, remote: Address, incoming: Pipe, outgoing: Pipe) -> None:
        self.local_address: Address = local
        self.remote_address: Address = remote
        self.closed: bool = False
        self.on_readable: Callable[[], object] | None = None
        self.on_writable: Callable[[], object] | None = None
        self._incoming = incoming
        self._outgoing = outgoing
        self._peer: Socket = self
        self._reset = False

    @classmethod
    def pair(cls, local: Address, remote: Address, capacity: int) -> tuple[Socket, Socket]:
        there, back = Pipe(capacity), Pipe(capacity)
        near = cls(local, remote, back, there)
        far = cls(remote, local, there, back)
        near._peer, far._peer = far, near
        return near, far

    @property
    def unread(self) -> int:
        """How many bytes have arrived and wait to be read."""
        return self._incoming.size

    @property
    def readable(self) -> bool:
        """Whether :meth:`recv` would return or fail now, rather than block."""
        incoming = self._incoming
        return bool(incoming.size) or incoming.finished or self._reset or self.closed

    @property
    def writable(self) -> bool:
        """Whether :meth:`send` would take bytes or fail now, rather than block."""
        outgoing = self._outgoing
        return (
            outgoing.size < outgoing.capacity
            or self._reset
            or self.closed
            or outgoing.finished
            or self._peer.closed
        )

    def recv(self, max_bytes: int) -> bytes:
        """Take up to ``max_bytes`` bytes; ``b""`` is the end of the stream."""
        if self.closed:
            raise OSError("the socket is closed")
        data = self._incoming.read(max_bytes)
        if data:
            peer = self._peer
            if peer.on_writable is not None:
                peer.on_writable()
            return data
        if self._reset:
            raise ConnectionResetError("the connection was reset by the peer")
        if self._incoming.finished:
            return b""
        raise BlockingIOError

    def send(self, data: memoryview) -> int:
        """Take as many bytes as there is room for at the peer; return how many."""
        if self.closed:
            raise OSError("the socket is closed")
        if not len(data):
            return 0
        if self._reset:
            raise ConnectionResetError("the connection was reset by the peer")
        if self._outgoing.finished:
            raise BrokenPipeError("this side has sent its end of the stream")
        peer = self._peer
        if peer.closed:
            # TCP takes the bytes, and learns from the answering RST that nobody is there.
            self._be_reset()
            return len(data)
        taken = self._outgoing.write(data)
        if not taken:
            raise BlockingIOError
        if peer.on_readable is not None:
            peer.on_readable()
        return taken

    def shutdown_write(self) -> None:
        """Send FIN. Does nothing the second time, or when the connection is gone."""
        if self.closed:
            raise OSError("the socket is closed")
        if not self._outgoing.finished:
            self._outgoing.finished = True
            self._wake()
            self._peer._wake()

    def close(self) -> None:
        """Close this end: FIN, or RST if bytes were left unread. Idempotent."""
        if self.closed:
            return
        unread = self._incoming.size
        self.closed = True
        self._incoming.clear()
        self._outgoing.finished = True
        if unread and not self._peer.closed:
            self._peer._be_reset()
        self._peer._wake()
        self._wake()

    def abort(self) -> None:
        """Close this end with RST, whatever is queued. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._incoming.clear()
        if not self._peer.closed:
            self._peer._be_reset()
        self._wake()

    def _be_reset(self) -> None:
        self._reset = True
        self._outgoing.clear()
        self._wake()

    def _wake(self) -> None:
        if self.on_readable is not None:
            self.on_readable()
        if self.on_writable is not None:
            self.on_writable()


class ListeningSocket:
    """Holds an address of a network and queues the connections made to it."""

    __slots__ = ("_backlog", "_network", "address", "closed", "on_acceptable")

    def __init__(self, network: Network, address: Address) -> None:
        self._network = network
        self._backlog: deque[Socket] = deque()
        self.address: Address = address
        self.closed: bool = False
        self.on_acceptable: Callable[[], object] | None = None

    def accept(self) -> Socket:
        if self.closed:
            raise OSError("the listening socket is closed")
        if not self._backlog:
            raise BlockingIOError
        return self._backlog.popleft()

    def close(self) -> None:
        """Give the address back and reset what was not accepted. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._network._release(self)
        while self._backlog:
            self._backlog.popleft().abort()
        if self.on_acceptable is not None:
            self.on_acceptable()

    def _enqueue(self, socket: Socket) -> None:
        self._backlog.append(socket)
        if self.on_acceptable is not None:
            self.on_acceptable()


class Network:
    """Addresses and who listens at them. One host, no rules.

    ``capacity`` is what one direction of a connection buffers, in bytes.
    """

    def __init__(self, *, host: str = LOOPBACK, capacity: int = DEFAULT_CAPACITY) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1 byte, not {capacity!r}")
        self.host = host
        self.capacity = capacity
        self._listening: dict[Address, ListeningSocket] = {}
        self._datagram_sockets: dict[Address, DatagramSocket] = {}
        self._ports = itertools.count(FIRST_EPHEMERAL_PORT)

    def listen(self, address: Address | None = None) -> ListeningSocket:
        """Listen at ``address``, or at a fresh port.

        Raises :exc:`OSError` if somebody listens there already.
        """
        if address is None:
            address = self._fresh_address()
        if address in self._listening:
            raise OSError(f"{address[0]}:{address[1]} is already in use")
        socket = self._listening[address] = ListeningSocket(self, address)
        return socket

    def connect(self, address: Address) -> Socket:
        """Connect to whoever listens at ``address``.

        Raises :exc:`ConnectionRefusedError` if nobody does.
        """
        listening = self._listening.get(address)
        if listening is None:
            raise ConnectionRefusedError(f"nobody listens at {address[0]}:{address[1]}")
        near, far = self.pair(address)
        listening._enqueue(far)
        return near

    def pair(self, remote: Address | None = None) -> tuple[Socket, Socket]:
        """Two sockets connected to one another, without a listener between them."""
        if remote is None:
            remote = self._fresh_address()
        return Socket.pair(self._fresh_address(), remote, self.capacity)

    def datagram_socket(
        self, address: Address | None = None, *, peer: Address | None = None
    ) -> DatagramSocket:
        """A socket for datagrams at ``address``, or at a fresh port; connected, with a ``peer``.

        Raises :exc:`OSError` if somebody has that address.
        """
        if address is None:
            address = self._fresh_address()
        return DatagramSocket(self._datagram_sockets, address, peer)

    def _fresh_address(self) -> Address:
        """One that nobody listens at; given out again only when all others were."""
        while True:
            port = next(self._ports)
            if port > LAST_PORT:
                self._ports = itertools.count(FIRST_EPHEMERAL_PORT)
            elif (self.host, port) not in self._listening and (
                self.host,
                port,
            ) not in self._datagram_sockets:
                return (self.host, port)

    def _release(self, socket: ListeningSocket) -> None:
        self._listening.pop(socket.address, None)
