"""Which of the connections that a proxy accepts is the one that its own client has made.

Others may connect at the same time, so the order in which they come says nothing. A client is known
by its address. On Linux a unix socket that connects is given one for that (unix(7), autobind);
elsewhere it has none, and the first that comes without a name is taken for it.
"""

from __future__ import annotations

import socket
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from anyio import Event
from anyio.abc import ByteStream, Listener, SocketAttribute, UNIXSocketStream
from anyio.lowlevel import checkpoint

from ..network import ListeningSocket, MemoryListener, Socket
from ..transports.base import Endpoint

if TYPE_CHECKING:
    from ..transports.unix import UnixEndpoint

T = TypeVar("T")

#: Connections that a listening socket may have waiting: more than any system's default.
MOST_WAITING = 4096


class Arrivals(Generic[T]):
    """What was accepted, by the address of its client, for as long as somebody looks for it."""

    def __init__(self) -> None:
        self._looking = 0
        self._arrived: dict[Any, deque[T]] = {}
        self._awaited: dict[Any, Event] = {}

    def __enter__(self) -> Arrivals[T]:
        self._looking += 1
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._looking -= 1
        if not self._looking:
            self._arrived.clear()

    def note(self, address: Any, arrived: T) -> None:
        """A client has come from ``address``."""
        if self._looking:
            self._arrived.setdefault(address, deque()).append(arrived)
            if address in self._awaited:
                self._awaited[address].set()

    def end(self) -> None:
        """Nobody comes any more: wake whoever waits."""
        for event in self._awaited.values():
            event.set()

    def take(self, address: Any) -> T | None:
        """What has come from ``address``, once."""
        arrived = self._arrived.get(address)
        if not arrived:
            return None
        # An address that comes again is of the last one, and is nobody's who has none.
        return arrived.popleft() if address is None else arrived.pop()

    async def change(self, address: Any) -> None:
        """Wait until something comes from ``address``, or nothing comes any more."""
        event = self._awaited.setdefault(address, Event())
        try:
            await event.wait()
        finally:
            self._awaited.pop(address, None)


def local_name(stream: ByteStream) -> Any:
    """The address that the other side knows ``stream`` by; ``None`` if it has no name.

    Raises :exc:`OSError` if it is closed already.
    """
    try:
        return stream.extra(SocketAttribute.local_address, None) or None
    except (ValueError, AttributeError) as exc:  # as uvloop and asyncio say it
        raise ConnectionResetError("it was reset at once") from exc


def peer_name(stream: ByteStream) -> Any:
    """The address of the other side of ``stream``; ``None`` if it has no name, or has gone."""
    try:
        return stream.extra(SocketAttribute.remote_address, None) or None
    except (OSError, ValueError, AttributeError):
        return None


def waiting_at(listener: Listener[Any]) -> Iterator[tuple[socket.socket | Socket, Any]]:
    """Accept all who have connected and are not accepted yet, at once; each with his address."""
    listening: socket.socket | ListeningSocket | None
    if isinstance(listener, MemoryListener):
        listening = listener._socket
    else:
        listening = listener.extra(SocketAttribute.raw_socket, None)
    if listening is None:
        return
    for _ in range(MOST_WAITING):
        try:
            accepted = listening.accept()
        except OSError:  # there are no more, or it is closed
            return
        if isinstance(accepted, Socket):
            yield accepted, accepted.remote_address
        else:
            raw, address = accepted
            yield raw, (address[:2] if isinstance(address, tuple) else address) or None


def stop_reading_ahead(stream: ByteStream) -> None:
    """Let ``stream``, which was accepted, take nothing from its peer that nobody asks it for.

    AnyIO leaves the transport of an accepted stream reading, without limit, until a ``receive`` has
    once been blocked (anyio/_backends/_asyncio.py, ``TCPSocketListener.accept``; where it connects,
    ``connect_tcp`` pauses it).
    """
    transport = getattr(stream, "_transport", None)
    if transport is not None:
        with suppress(RuntimeError):  # uvloop: it is closed already
            transport.pause_reading()


async def connect_with_a_name(endpoint: Endpoint) -> ByteStream:
    """Connect to ``endpoint`` so that the client has an address, wherever the system can do it."""
    if sys.platform == "linux" and isinstance(endpoint.address, str):
        from ..transports.unix import UnixEndpoint

        if type(endpoint) is UnixEndpoint:
            return await _connect_unix(endpoint)
    return await endpoint.connect()


async def _connect_unix(endpoint: UnixEndpoint) -> ByteStream:
    from ..transports.cancelled_futures import tolerate_cancelled_futures

    await checkpoint()
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        raw.setblocking(False)
        raw.bind("")
        while True:
            try:
                raw.connect(endpoint.address)
                break
            except BlockingIOError:  # too many that are not accepted yet
                await checkpoint()
        return tolerate_cancelled_futures(await UNIXSocketStream.from_socket(raw))
    except BaseException:
        raw.close()
        raise
