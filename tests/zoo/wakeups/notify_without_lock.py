"""``Condition.notify()`` without holding the condition's lock."""

from __future__ import annotations

import pytest
from anyio import Condition
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint

from harness import Harness

FOUND = [r"^E +RuntimeError: .*(lock|Condition)", r"self\.arrived\.notify\(\)$"]


class Buggy:
    def __init__(self) -> None:
        self.queue: list[bytes] = []
        self.arrived = Condition()

    async def put(self, job: bytes) -> None:
        await checkpoint()
        self.queue.append(job)
        self.arrived.notify()

    async def take(self) -> bytes:
        async with self.arrived:
            while not self.queue:
                await self.arrived.wait()
            return self.queue.pop(0)

    async def handle(self, stream: ByteStream) -> None:
        """A producer says its job, a worker says nothing and is given one."""
        job = await stream.receive()
        if job == b"worker":
            await stream.send(await self.take())
        else:
            await self.put(job)


class Correct(Buggy):
    async def put(self, job: bytes) -> None:
        async with self.arrived:
            self.queue.append(job)
            self.arrived.notify()


@pytest.mark.parametrize("queue", [Buggy, Correct])
async def test_a_worker_and_a_producer(harness: Harness, queue) -> None:
    server = await harness.serve(queue())
    worker = await server.connect()
    await worker.send(b"worker")
    await harness.settle()
    producer = await server.connect()
    await producer.send(b"job 1")
    assert await worker.receive() == b"job 1"
