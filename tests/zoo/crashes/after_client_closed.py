"""A chat goes on sending to a member who has left, and the one who spoke is thrown out for it.

In the wild: https://github.com/fastapi/fastapi/pull/1991
"""

from __future__ import annotations

import pytest
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"^E +anyio\.ClosedResourceError", r"raised in connection 2 of server", r"member\.send\("]


class Buggy:
    def __init__(self) -> None:
        self.members: list[ByteStream] = []

    async def handle(self, stream: ByteStream) -> None:
        self.members.append(stream)
        async for message in stream:
            for member in list(self.members):
                await member.send(message)


class Correct(Buggy):
    async def handle(self, stream: ByteStream) -> None:
        try:
            await super().handle(stream)
        finally:
            self.members.remove(stream)


@pytest.mark.parametrize("chat", [Buggy, Correct])
async def test_one_member_leaves(harness: Harness, chat) -> None:
    server = await harness.serve(chat())
    leaving = await server.connect()
    await server.wait_connections(1)
    staying = await server.connect()
    await server.wait_connections(2)
    await leaving.aclose()
    await harness.settle()
    await staying.send(b"still there?")
    assert await staying.receive() == b"still there?"
