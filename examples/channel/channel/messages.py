"""The wire format: a message is a JSON object behind its length, four bytes in network order.

A request is ``{"id": 1, "payload": ...}``. Its reply is ``{"id": 1, "result": ...}`` or
``{"id": 1, "error": "text"}``. An error whose id is null is about the connection, which then ends.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from anyio import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    IncompleteRead,
    Lock,
    aclose_forcefully,
)
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

#: Bytes of JSON in one message, if nothing else is said.
MAX_SIZE = 64 * 1024

HEADER = struct.Struct(">I")

#: What an operation raises once the other side has gone: how connections end, not an error.
PEER_GONE = (EndOfStream, IncompleteRead, BrokenResourceError, ClosedResourceError)


class ProtocolError(Exception):
    """The peer sent something that is no message of this protocol."""


class MessageTooLargeError(ProtocolError):
    """A message is larger than this side sends or accepts."""


class MessageStream:
    """Sends and receives whole messages over a byte stream."""

    def __init__(self, stream: ByteStream, *, max_size: int = MAX_SIZE) -> None:
        self._stream = stream
        self._incoming = BufferedByteReceiveStream(stream)
        self._sending = Lock()
        self._max_size = max_size

    async def send(self, message: dict[str, Any]) -> None:
        """Send one message; any number of tasks may do so at once.

        Raises :exc:`MessageTooLargeError`, with nothing sent, and :exc:`TypeError` for what JSON
        cannot express.
        """
        body = json.dumps(message).encode()
        if len(body) > self._max_size:
            raise MessageTooLargeError(f"{len(body)} bytes, the limit is {self._max_size}")
        async with self._sending:
            try:
                await self._stream.send(HEADER.pack(len(body)) + body)
            except BaseException:
                # Perhaps half of it is on its way. The peer would take the next message for the
                # other half, so there must not be one.
                await aclose_forcefully(self._stream)
                raise

    async def receive(self) -> dict[str, Any]:
        """Wait for one message.

        Raises :exc:`~anyio.EndOfStream` at the end of the stream, :exc:`~anyio.IncompleteRead` if
        that is in the middle of a message, and :exc:`ProtocolError`.
        """
        # receive_exactly() calls every end an incomplete read; this tells the clean one apart.
        header = await self._incoming.receive(HEADER.size)
        header += await self._incoming.receive_exactly(HEADER.size - len(header))
        (size,) = HEADER.unpack(header)
        if size > self._max_size:
            # Refused before a byte of it is buffered: the length is the peer's claim.
            raise MessageTooLargeError(f"{size} bytes, the limit is {self._max_size}")
        body = await self._incoming.receive_exactly(size)
        try:
            message = json.loads(body)
        except (ValueError, RecursionError) as exc:  # the latter for ten thousand brackets
            raise ProtocolError(f"not JSON: {exc}") from exc
        if not isinstance(message, dict):
            raise ProtocolError("not a JSON object")
        return message
