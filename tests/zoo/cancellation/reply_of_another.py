"""A request that was cancelled leaves its reply in the connection, for the next one to take.

In the wild: https://github.com/redis/redis-py/issues/2624
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from anyio import BrokenResourceError, CancelScope, Event, create_task_group
from anyio.abc import ByteStream

from harness import Harness, Server

FOUND = [
    r"^E +AssertionError: bob was given alice's data",
    r"assert b'data of alice' == b'data of bob'",
]


class Buggy:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.connection: ByteStream | None = None

    async def get(self, name: bytes) -> bytes:
        if self.connection is None:
            self.connection = await self.server.connect()
        await self.connection.send(name)
        return await self.connection.receive()


class Correct(Buggy):
    async def get(self, name: bytes) -> bytes:
        try:
            return await super().get(name)
        except BaseException:
            connection, self.connection = self.connection, None
            if connection is not None:
                with CancelScope(shield=True):
                    await connection.aclose()
            raise


@pytest.mark.parametrize("client_class", [Buggy, Correct])
async def test_the_request_after_a_cancelled_one(harness: Harness, client_class) -> None:
    answering = Event()

    async def handler(stream: ByteStream) -> None:
        with suppress(BrokenResourceError):  # a client that does not wait
            async for name in stream:
                await answering.wait()
                await stream.send(b"data of " + name)

    server = await harness.serve(handler)
    client = client_class(server)
    async with create_task_group() as task_group:
        task_group.start_soon(client.get, b"alice")
        await harness.settle()
        task_group.cancel_scope.cancel()
    answering.set()
    await harness.settle()
    reply = await client.get(b"bob")
    assert reply == b"data of bob", "bob was given alice's data"
