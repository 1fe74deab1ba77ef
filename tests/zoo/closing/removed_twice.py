"""Double close: both the reader and the kick take the client off the list."""

from __future__ import annotations

import pytest
from anyio import EndOfStream
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"^E +ValueError: .*not in list", r"^> .*self\.clients\.remove\(stream\)"]


class Buggy:
    def __init__(self) -> None:
        self.clients: list[ByteStream] = []

    async def disconnect(self, stream: ByteStream) -> None:
        self.clients.remove(stream)
        await stream.aclose()

    async def handle(self, stream: ByteStream) -> None:
        self.clients.append(stream)
        async for command in stream:
            if command == b"quit":
                await self.disconnect(stream)
                break
        await self.disconnect(stream)


class Correct(Buggy):
    async def disconnect(self, stream: ByteStream) -> None:
        if stream in self.clients:
            self.clients.remove(stream)
            await stream.aclose()


@pytest.mark.parametrize("chat", [Buggy, Correct])
async def test_quit(harness: Harness, chat) -> None:
    server = await harness.serve(chat())
    client = await server.connect()
    await client.send(b"quit")
    with pytest.raises(EndOfStream):
        await client.receive()
    await server.wait_connections(0)
