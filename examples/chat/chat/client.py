"""The client: says lines and hears lines."""

from __future__ import annotations

from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

#: Bytes of a line from the server: what somebody said, and their nick.
MAX_LINE = 128 * 1024


class RefusedError(Exception):
    """The server did not let us in."""


class ChatClient:
    """A member of the chat, over a connected stream."""

    def __init__(self, stream: ByteStream, nick: str) -> None:
        self.nick = nick
        self.stream = stream
        self._incoming = BufferedByteReceiveStream(stream)

    @classmethod
    async def join(cls, stream: ByteStream, nick: str) -> ChatClient:
        """Join as ``nick``. Raises :exc:`RefusedError` if the server does not want that."""
        client = cls(stream, nick)
        await client.say(nick)
        answer = await client.hear()
        if not answer.startswith("* welcome "):
            raise RefusedError(answer)
        return client

    async def say(self, line: str) -> None:
        """Send a line to everybody else."""
        await self.stream.send(f"{line}\n".encode())

    async def hear(self) -> str:
        """Wait for the next line. Raises :exc:`anyio.IncompleteRead` when the server hangs up."""
        return (await self._incoming.receive_until(b"\n", MAX_LINE)).decode()

    async def leave(self) -> None:
        """Hang up."""
        await self.stream.aclose()
