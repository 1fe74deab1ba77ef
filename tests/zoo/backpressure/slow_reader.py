"""One subscriber does not read, and the publisher waits for it with all the others."""

from __future__ import annotations

import pytest
from anyio import BrokenResourceError, create_task_group, move_on_after
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

from harness import Harness

FOUND = [
    r"(?i)time(d )?[- ]?out",
    r"slow_reader\.py:\d+ in (Buggy\.)?publish: await subscriber\.send\(",
]
NEEDS = "timeout"

NEWS = bytes(4_000_000)


class Buggy:
    def __init__(self) -> None:
        self.subscribers: list[ByteStream] = []

    async def handle(self, stream: ByteStream) -> None:
        self.subscribers.append(stream)
        async for _ in stream:
            pass

    async def publish(self, news: bytes) -> None:
        for subscriber in self.subscribers:
            await subscriber.send(news)


class Correct(Buggy):
    async def publish(self, news: bytes) -> None:
        async with create_task_group() as task_group:
            for subscriber in self.subscribers:
                task_group.start_soon(self.deliver, subscriber, news)

    async def deliver(self, subscriber: ByteStream, news: bytes) -> None:
        with move_on_after(5) as patience:
            try:
                await subscriber.send(news)
            except BrokenResourceError:
                return
        if patience.cancelled_caught:
            await subscriber.aclose()


@pytest.mark.harness(transports=["unix", "memory"])
@pytest.mark.parametrize("publisher", [Buggy, Correct])
async def test_one_does_not_read(harness: Harness, publisher) -> None:
    news = publisher()
    server = await harness.serve(news)
    await server.connect()
    await server.wait_connections(1)
    reader = BufferedByteReceiveStream(await server.connect())
    await server.wait_connections(2)
    harness.task_group.start_soon(news.publish, NEWS)
    assert await reader.receive_exactly(len(NEWS)) == NEWS
