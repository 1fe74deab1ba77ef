"""A writer thread is started for a log and never told to stop."""

from __future__ import annotations

import queue
import threading

import pytest
from anyio import to_thread
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"leaked thread: .*log writer", r"created at .*thread\.py:\d+ in .*start: .*thread"]
NEEDS = "leaks"


class Buggy:
    def __init__(self) -> None:
        self.lines: queue.Queue[bytes | None] = queue.Queue()

    def start(self) -> None:
        self.thread = threading.Thread(target=self.write, name="log writer", daemon=True)
        self.thread.start()

    def write(self) -> None:
        while self.lines.get() is not None:
            pass

    async def handle(self, stream: ByteStream) -> None:
        async for line in stream:
            self.lines.put(line)
            await stream.send(b"logged")

    async def stop(self) -> None:
        pass


class Correct(Buggy):
    async def stop(self) -> None:
        self.lines.put(None)
        await to_thread.run_sync(self.thread.join)


@pytest.mark.parametrize("log", [Buggy, Correct])
async def test_log(harness: Harness, log) -> None:
    writer = log()
    writer.start()
    client = await (await harness.serve(writer)).connect()
    await client.send(b"hello")
    assert await client.receive() == b"logged"
    await writer.stop()
