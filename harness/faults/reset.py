"""Closing a stream with RST instead of FIN (RFC 9293, 3.5.2)."""

from __future__ import annotations

import socket
import struct

from anyio import aclose_forcefully
from anyio.abc import ByteStream, SocketAttribute

from ..connection import RecordedStream
from ..network import MemoryStream

#: ``struct linger``: on, for 0 seconds. ``close`` then discards what is unsent and sends RST.
LINGER = struct.pack("ii", 1, 0)

TCP = (socket.AF_INET, socket.AF_INET6)


async def reset(stream: ByteStream) -> None:
    """Close ``stream`` so that its peer finds it broken, and not ended.

    A unix socket has no RST: it is closed, and its peer sees the end of the stream, or on Linux
    ``ECONNRESET`` if it had sent something that nobody has read.
    """
    if isinstance(stream, RecordedStream):
        stream = stream._stream
    if isinstance(stream, MemoryStream):
        await stream.reset()
        return
    try:
        raw = stream.extra(SocketAttribute.raw_socket, None)
        if raw is not None and raw.family in TCP:
            # uvloop's stand-in for a socket has no `setsockopt`; another descriptor of it has.
            with socket.fromfd(raw.fileno(), raw.family, socket.SOCK_STREAM) as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    except (OSError, ValueError):
        pass  # it is closed already; uvloop says so with a ValueError
    await aclose_forcefully(stream)
