"""An error path does not give its connection back: with the pool used up, the next client waits.

In the wild: https://github.com/encode/httpcore/issues/830
"""

from __future__ import annotations

import pytest
from anyio import Semaphore
from anyio.abc import ByteStream

from harness import Harness

FOUND = [
    r"(?i)time(d )?[- ]?out",
    r"pool_used_up\.py:\d+ in (Buggy\.)?handle: await self\.pool\.acquire\(\)",
]
NEEDS = "timeout"


class Buggy:
    def __init__(self) -> None:
        self.pool = Semaphore(1)

    def query(self, sql: bytes) -> bytes:
        if not sql.startswith(b"SELECT"):
            raise ValueError("syntax error")
        return b"1 row"

    async def handle(self, stream: ByteStream) -> None:
        sql = await stream.receive()
        await self.pool.acquire()
        try:
            rows = self.query(sql)
        except ValueError as exc:
            await stream.send(str(exc).encode())
            return
        self.pool.release()
        await stream.send(rows)


class Correct(Buggy):
    async def handle(self, stream: ByteStream) -> None:
        sql = await stream.receive()
        async with self.pool:
            try:
                reply = self.query(sql)
            except ValueError as exc:
                reply = str(exc).encode()
        await stream.send(reply)


@pytest.mark.parametrize("database", [Buggy, Correct])
async def test_the_query_after_a_bad_one(harness: Harness, database) -> None:
    server = await harness.serve(database())
    for sql, expected in [(b"SELEKT", b"syntax error"), (b"SELECT", b"1 row")]:
        client = await server.connect()
        await client.send(sql)
        assert await client.receive() == expected
