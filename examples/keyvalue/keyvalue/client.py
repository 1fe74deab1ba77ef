"""A client over any byte stream, one command at a time: for where no Redis client gets to."""

from __future__ import annotations

from collections import deque

from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

from .resp import ErrorReply, Push, Value, encode, read_value


class RespClient:
    """Sends commands and reads replies and pushes. Speaks RESP2 until it says ``HELLO 3``."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._incoming = BufferedByteReceiveStream(stream)
        self._pushes: deque[Push] = deque()

    async def send(self, *words: bytes | str | int) -> None:
        """Send a command without waiting for anything."""
        command = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        await self._stream.send(encode(command, 2))

    async def receive(self) -> Value:
        """The next value, of any kind."""
        return await read_value(self._incoming)

    async def call(self, *words: bytes | str | int) -> Value:
        """Send a command and return its reply. Raises :exc:`~keyvalue.ErrorReply`."""
        await self.send(*words)
        while isinstance(value := await self.receive(), Push):
            self._pushes.append(value)
        if isinstance(value, ErrorReply):
            raise value
        return value

    async def next_push(self) -> list[Value]:
        """The next message that answers no command. RESP3 only: RESP2 has no mark for them."""
        if self._pushes:
            return list(self._pushes.popleft())
        value = await self.receive()
        if not isinstance(value, Push):
            raise TypeError(f"expected a push, got {value!r}")
        return list(value)
