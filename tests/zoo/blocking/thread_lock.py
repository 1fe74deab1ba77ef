"""A handler waits for a lock of ``threading`` that a worker thread holds."""

from __future__ import annotations

import threading

import pytest
from anyio import Event, from_thread, to_thread
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"blocked the event loop for", r"thread_lock\.py:\d+ in (Buggy\.)?read: .*acquire"]
NEEDS = "blocking"


class Buggy:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.compacting = Event()
        self.compacted = threading.Event()

    def compact(self) -> None:
        with self.lock:
            from_thread.run_sync(self.compacting.set)
            self.compacted.wait(0.4)

    async def read(self) -> bytes:
        locked = self.lock.acquire(timeout=10)
        try:
            return b"value" if locked else b"busy"
        finally:
            self.lock.release()

    async def handle(self, stream: ByteStream) -> None:
        await stream.receive()
        await stream.send(await self.read())


class Correct(Buggy):
    async def read(self) -> bytes:
        return await to_thread.run_sync(self.read_in_thread)

    def read_in_thread(self) -> bytes:
        with self.lock:
            return b"value"


@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize("store_class", [Buggy, Correct])
async def test_read_while_compacting(harness: Harness, store_class) -> None:
    store = store_class()
    server = await harness.serve(store)
    client = await server.connect()
    harness.task_group.start_soon(to_thread.run_sync, store.compact)
    await store.compacting.wait()
    await client.send(b"get")
    assert await client.receive() == b"value"
