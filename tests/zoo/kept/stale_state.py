"""A registry in a global still has the streams of a client whose server is long gone."""

from __future__ import annotations

import pytest
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"^E +.*ClosedResourceError", r"^> .*member\.send\(|member\.send\("]
FAILS = "test_second"

everybody: list[ByteStream] = []


class Buggy:
    def __init__(self) -> None:
        self.members = everybody

    async def handle(self, stream: ByteStream) -> None:
        self.members.append(stream)
        async for message in stream:
            for member in self.members:
                await member.send(message)


class Correct(Buggy):
    def __init__(self) -> None:
        self.members = []


@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize("chat", [Buggy, Correct])
class TestChat:
    async def test_first(self, harness: Harness, chat) -> None:
        await self.talk(harness, chat())

    async def test_second(self, harness: Harness, chat) -> None:
        await self.talk(harness, chat())

    async def talk(self, harness: Harness, chat: Buggy) -> None:
        client = await (await harness.serve(chat)).connect()
        await client.send(b"hello")
        assert await client.receive() == b"hello"
