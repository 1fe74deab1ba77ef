"""What a slow subscriber does not read is kept for it without limit."""

from __future__ import annotations

import math

import pytest
from anyio import WouldBlock, create_memory_object_stream
from anyio.abc import ByteStream
from anyio.streams.memory import MemoryObjectSendStream

from harness import Harness

FOUND = [r"^E +AssertionError: \d{3,} messages wait for one client", r"unbounded_outbox\.py:\d+"]

MESSAGE = bytes(100_000)


class Buggy:
    limit = math.inf

    def __init__(self) -> None:
        self.outboxes: list[MemoryObjectSendStream[bytes]] = []

    async def handle(self, stream: ByteStream) -> None:
        send, receive = create_memory_object_stream[bytes](self.limit)
        self.outboxes.append(send)
        with send, receive:
            async for message in receive:
                await stream.send(message)

    def publish(self, message: bytes) -> None:
        for outbox in list(self.outboxes):
            try:
                outbox.send_nowait(message)
            except WouldBlock:  # too slow: it is sent what it has so far, and no more
                self.outboxes.remove(outbox)
                outbox.close()


class Correct(Buggy):
    limit = 16


@pytest.mark.parametrize("publisher", [Buggy, Correct])
async def test_a_client_that_never_reads(harness: Harness, publisher) -> None:
    news = publisher()
    server = await harness.serve(news, grace=0)
    await server.connect()
    await server.wait_connections(1)
    await harness.settle()
    (outbox,) = news.outboxes
    for _ in range(200):
        news.publish(MESSAGE)
    waiting = outbox.statistics().current_buffer_used
    assert waiting <= 16, f"{waiting} messages wait for one client"
