"""A waiter that does not look at the state first misses what was notified before it came."""

from __future__ import annotations

import pytest
from anyio import Condition
from anyio.abc import ByteStream

from harness import Harness

FOUND = [
    r"(?i)time(d )?[- ]?out",
    r"notified_before_wait\.py:\d+ in (Buggy\.)?wait_ready: await self\.condition\.wait\(\)",
]
NEEDS = "timeout"


class Buggy:
    def __init__(self) -> None:
        self.ready = False
        self.condition = Condition()

    async def become_ready(self) -> None:
        async with self.condition:
            self.ready = True
            self.condition.notify_all()

    async def wait_ready(self) -> None:
        async with self.condition:
            await self.condition.wait()

    async def handle(self, stream: ByteStream) -> None:
        await self.wait_ready()
        await stream.send(b"ready")


class Correct(Buggy):
    async def wait_ready(self) -> None:
        async with self.condition:
            while not self.ready:
                await self.condition.wait()


@pytest.mark.parametrize("service", [Buggy, Correct])
async def test_a_client_that_comes_late(harness: Harness, service) -> None:
    warming_up = service()
    server = await harness.serve(warming_up)
    await warming_up.become_ready()
    client = await server.connect()
    assert await client.receive() == b"ready"
