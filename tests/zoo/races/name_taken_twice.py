"""A name is looked up, a password is asked for, the name is taken: two clients get the same one."""

from __future__ import annotations

import pytest
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"^E +AssertionError: the name was given twice", r"b'welcome', b'welcome'"]


class Buggy:
    def __init__(self) -> None:
        self.users: dict[bytes, ByteStream] = {}

    async def handle(self, stream: ByteStream) -> None:
        name = await stream.receive()
        if name in self.users:
            await stream.send(b"taken")
            return
        await stream.send(b"password?")
        await stream.receive()
        self.users[name] = stream
        await stream.send(b"welcome")
        await stream.receive()


class Correct(Buggy):
    async def handle(self, stream: ByteStream) -> None:
        name = await stream.receive()
        await stream.send(b"password?")
        await stream.receive()
        if self.users.setdefault(name, stream) is not stream:
            await stream.send(b"taken")
            return
        await stream.send(b"welcome")
        await stream.receive()


@pytest.mark.parametrize("chat", [Buggy, Correct])
async def test_two_of_one_name(harness: Harness, chat) -> None:
    server = await harness.serve(chat())
    clients = [await server.connect() for _ in range(2)]
    for client in clients:
        await client.send(b"alice")
        assert await client.receive() == b"password?"
    replies = []
    for client in clients:
        await client.send(b"secret")
        replies.append(await client.receive())
    assert replies == [b"welcome", b"taken"], "the name was given twice"
