"""A semaphore in a global is still held by a handler of the test before, which was cancelled.

(Of a lock, trio would say that its owner is gone.)
"""

from __future__ import annotations

import pytest
from anyio import Semaphore
from anyio.abc import ByteStream

from harness import Harness

FOUND = [
    r"(?i)time(d )?[- ]?out",
    r"semaphore_left_held\.py:\d+ in buggy: await disk\.acquire\(\)",
]
NEEDS = "timeout"
FAILS = "test_second"

disk = Semaphore(1)
another_disk = Semaphore(1)


async def buggy(stream: ByteStream) -> None:
    await disk.acquire()
    await stream.send(b"ready")
    await stream.receive()
    disk.release()


async def correct(stream: ByteStream) -> None:
    async with another_disk:
        await stream.send(b"ready")
        await stream.receive()


@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize("handler", [buggy, correct])
class TestDisk:
    async def test_first(self, harness: Harness, handler) -> None:
        client = await (await harness.serve(handler)).connect()
        assert await client.receive() == b"ready"

    async def test_second(self, harness: Harness, handler) -> None:
        client = await (await harness.serve(handler)).connect()
        assert await client.receive() == b"ready"
