"""A ``finally`` awaits without a shield: on cancellation, what is given back never arrives.

In the wild: https://github.com/encode/httpcore/issues/642
"""

from __future__ import annotations

import pytest
from anyio import CancelScope
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint

from harness import Harness

FOUND = [r"^E +AssertionError: the pool has lost a connection", r"^E +assert 0 == 1"]


class Pool:
    def __init__(self) -> None:
        self.free = 1

    async def acquire(self) -> None:
        await checkpoint()
        self.free -= 1

    async def release(self) -> None:
        await checkpoint()  # says goodbye to the database
        self.free += 1


class Buggy(Pool):
    async def handle(self, stream: ByteStream) -> None:
        await self.acquire()
        try:
            await stream.receive()
        finally:
            await self.release()


class Correct(Pool):
    async def handle(self, stream: ByteStream) -> None:
        await self.acquire()
        try:
            await stream.receive()
        finally:
            with CancelScope(shield=True):
                await self.release()


@pytest.mark.parametrize("pool_server", [Buggy, Correct])
async def test_the_pool_is_whole_again(harness: Harness, pool_server) -> None:
    pool = pool_server()
    server = await harness.serve(pool)
    await server.connect()
    await server.wait_connections(1)
    await harness.settle()
    await server.drop_connections()
    assert pool.free == 1, "the pool has lost a connection"
