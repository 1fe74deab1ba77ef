"""A method that holds the lock calls another one that takes it; AnyIO's locks say so."""

from __future__ import annotations

import pytest
from anyio import Lock
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"^E +RuntimeError: .*already held", r"lock_taken_twice\.py:\d+"]


class Buggy:
    def __init__(self) -> None:
        self.lock = Lock()
        self.values: dict[bytes, bytes] = {}

    async def get(self, key: bytes) -> bytes:
        async with self.lock:
            return self.values.get(key, b"0")

    async def increment(self, key: bytes) -> bytes:
        async with self.lock:
            self.values[key] = b"%d" % (int(await self.get(key)) + 1)
            return self.values[key]

    async def handle(self, stream: ByteStream) -> None:
        async for key in stream:
            await stream.send(await self.increment(key))


class Correct(Buggy):
    async def increment(self, key: bytes) -> bytes:
        async with self.lock:
            self.values[key] = b"%d" % (int(self.values.get(key, b"0")) + 1)
            return self.values[key]


@pytest.mark.parametrize("store", [Buggy, Correct])
async def test_increment(harness: Harness, store) -> None:
    server = await harness.serve(store())
    client = await server.connect()
    await client.send(b"visits")
    assert await client.receive() == b"1"
