"""One task closes the stream that another one reads from."""

from __future__ import annotations

import pytest
from anyio import EndOfStream, Event, create_task_group
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"ClosedResourceError", r"closed_while_reading\.py", r"raised in connection 1 of server"]


class Buggy:
    def __init__(self) -> None:
        self.kicked = Event()

    async def read(self, stream: ByteStream) -> None:
        async for _ in stream:
            pass

    async def handle(self, stream: ByteStream) -> None:
        async with create_task_group() as task_group:
            task_group.start_soon(self.read, stream)
            await self.kicked.wait()
            await stream.send(b"kicked")
            await stream.aclose()


class Correct(Buggy):
    async def handle(self, stream: ByteStream) -> None:
        async with create_task_group() as task_group:
            task_group.start_soon(self.read, stream)
            await self.kicked.wait()
            await stream.send(b"kicked")
            task_group.cancel_scope.cancel()


@pytest.mark.parametrize("game_class", [Buggy, Correct])
async def test_kick(harness: Harness, game_class) -> None:
    game = game_class()
    server = await harness.serve(game)
    client = await server.connect()
    await server.wait_connections(1)
    await harness.settle()
    game.kicked.set()
    assert await client.receive() == b"kicked"
    with pytest.raises(EndOfStream):
        await client.receive()
