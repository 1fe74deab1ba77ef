"""The event is looked up after an ``await``; by then it was set and replaced by a new one."""

from __future__ import annotations

import pytest
from anyio import Event
from anyio.abc import ByteStream

from harness import Harness

FOUND = [
    r"(?i)time(d )?[- ]?out",
    r"event_replaced\.py:\d+ in (Buggy\.)?handle: await self\.changed\.wait\(\)",
]
NEEDS = "timeout"


class Buggy:
    def __init__(self) -> None:
        self.value = b"old"
        self.changed = Event()

    def change(self, value: bytes) -> None:
        self.value = value
        self.changed.set()
        self.changed = Event()

    async def handle(self, stream: ByteStream) -> None:
        """Say the value, and the next one when the client has read that."""
        await stream.send(self.value)
        await stream.receive()
        await self.changed.wait()
        await stream.send(self.value)


class Correct(Buggy):
    async def handle(self, stream: ByteStream) -> None:
        changed = self.changed
        await stream.send(self.value)
        await stream.receive()
        await changed.wait()
        await stream.send(self.value)


@pytest.mark.parametrize("watcher", [Buggy, Correct])
async def test_a_change_while_the_client_reads(harness: Harness, watcher) -> None:
    watched = watcher()
    server = await harness.serve(watched)
    client = await server.connect()
    assert await client.receive() == b"old"
    watched.change(b"new")
    await client.send(b"next")
    assert await client.receive() == b"new"
