"""The ways to close a stream at once: with RST (RFC 9293, 3.5.2), or with FIN (3.6).

What a plain ``close`` sends is up to what its peer has sent: RST if some of that is unread (RFC
2525, 2.17), FIN otherwise. And AnyIO's streams on asyncio and uvloop close an event loop's turn
later. So both are told to the socket itself.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Any

from anyio import aclose_forcefully
from anyio.abc import ByteStream, SocketAttribute

from ..connection import RecordedStream
from ..network import MemoryStream
from ..network.kernel import Socket

#: ``struct linger``: on, for 0 seconds. ``close`` then discards what is unsent and sends RST.
LINGER = struct.pack("ii", 1, 0)

TCP = (socket.AF_INET, socket.AF_INET6)

#: Bytes that are read at once to be thrown away, and how often: more than a kernel keeps.
DRAIN = 256 * 1024
DRAINS = 256


async def reset(stream: ByteStream) -> None:
    """Close ``stream`` so that its peer finds it broken, and not ended.

    A unix socket has no RST: it is closed, and its peer sees the end of the stream, or on Linux
    ``ECONNRESET`` if it had sent something that nobody has read.
    """
    stream = lowest(stream)
    if isinstance(stream, MemoryStream):
        await stream.reset()
        return
    with raw_socket_of(stream) as raw:
        if raw is not None:
            let_reset(raw)
    await aclose_forcefully(stream)


async def disconnect(stream: ByteStream) -> None:
    """Close ``stream`` so that its peer sees it end, whatever that has sent meanwhile.

    Below TLS: nobody says ``close_notify``, as when a process ends.
    """
    stream = lowest(stream)
    if isinstance(stream, MemoryStream):
        let_end(stream._socket)
    else:
        with raw_socket_of(stream) as raw:
            if raw is not None:
                let_end(raw)
    await aclose_forcefully(stream)


def close_socket(raw: socket.socket | Socket, *, with_reset: bool) -> None:
    """The same for what is no stream yet."""
    if isinstance(raw, Socket):
        if with_reset:
            raw.abort()
        else:
            let_end(raw)
            raw.close()
        return
    with raw:
        raw.setblocking(False)
        (let_reset if with_reset else let_end)(raw)


def let_reset(raw: socket.socket) -> None:
    """Let ``close`` send RST."""
    if raw.family in TCP:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)


def let_end(raw: socket.socket | Socket) -> None:
    """Send FIN, and read what is there, so that it is not unread when ``close`` comes."""
    with contextlib.suppress(OSError):
        if isinstance(raw, Socket):
            raw.shutdown_write()
        else:
            raw.shutdown(socket.SHUT_WR)
        for _ in range(DRAINS):
            if not raw.recv(DRAIN):
                break


def lowest(stream: Any) -> Any:
    """What carries the bytes of a stream that the harness or TLS has wrapped."""
    while isinstance(stream, RecordedStream) or is_tls(stream):
        stream = stream._stream if isinstance(stream, RecordedStream) else stream.transport_stream
    return stream


def is_tls(stream: Any) -> bool:
    """Whether it has no other end than that of the connection: no ``send_eof``."""
    return hasattr(stream, "transport_stream")


@contextlib.contextmanager
def raw_socket_of(stream: ByteStream) -> Iterator[socket.socket | None]:
    """The socket below a stream, non-blocking; ``None`` if it has none, or none any more.

    What fails because that is closed already, or has nothing to read, is passed over.
    """
    # uvloop's stand-in for a socket has no `setsockopt`; another object for its descriptor has. It
    # is not another descriptor, of which the process may have none left.
    try:
        stands_for = stream.extra(SocketAttribute.raw_socket, None)
        if stands_for is None or stands_for.fileno() < 0:
            raw = None
        else:
            raw = socket.socket(stands_for.family, socket.SOCK_STREAM, fileno=stands_for.fileno())
            raw.setblocking(False)
    except (OSError, ValueError, AttributeError):
        raw = None  # it is closed; uvloop says so in other words
    if raw is None:
        yield None
        return
    try:
        with contextlib.suppress(OSError):
            yield raw
    finally:
        raw.detach()
