"""Closing a channel sets a flag that its waiters look at, and does not wake them to look."""

from __future__ import annotations

import pytest
from anyio import EndOfStream, Event
from anyio.abc import ByteStream

from harness import Harness

FOUND = [
    r"(?i)time(d )?[- ]?out",
    r"close_wakes_nobody\.py:\d+ in (Buggy\.)?handle: await self\.wakeup\.wait\(\)",
]
NEEDS = "timeout"


class Buggy:
    def __init__(self) -> None:
        self.closed = False
        self.wakeup = Event()

    def close(self) -> None:
        self.closed = True

    async def handle(self, stream: ByteStream) -> None:
        """A subscriber stays until the channel is closed."""
        while not self.closed:
            await self.wakeup.wait()


class Correct(Buggy):
    def close(self) -> None:
        self.closed = True
        self.wakeup.set()


@pytest.mark.parametrize("channel_class", [Buggy, Correct])
async def test_subscribers_see_the_end(harness: Harness, channel_class) -> None:
    channel = channel_class()
    server = await harness.serve(channel)
    client = await server.connect()
    await server.wait_connections(1)
    await harness.settle()
    channel.close()
    with pytest.raises(EndOfStream):
        await client.receive()
