"""A broadcast awaits while it iterates over the clients, and one of them leaves meanwhile.

In the wild: https://github.com/fastapi/fastapi/pull/1991
"""

from __future__ import annotations

import pytest
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

from harness import Harness

FOUND = [r"^E +RuntimeError: dictionary changed size during iteration", r"in self\.clients:"]

NEWS = bytes(4_000_000)


class Buggy:
    def __init__(self) -> None:
        self.clients: dict[ByteStream, None] = {}

    async def handle(self, stream: ByteStream) -> None:
        self.clients[stream] = None
        try:
            async for _ in stream:
                pass
        finally:
            del self.clients[stream]

    async def broadcast(self, news: bytes) -> None:
        for client in self.clients:
            await client.send(news)


class Correct(Buggy):
    async def broadcast(self, news: bytes) -> None:
        for client in list(self.clients):
            if client in self.clients:
                await client.send(news)


@pytest.mark.harness(transports=["unix", "memory"])
@pytest.mark.parametrize("publisher", [Buggy, Correct])
async def test_one_leaves(harness: Harness, publisher) -> None:
    news = publisher()
    server = await harness.serve(news)
    slow = await server.connect()
    await server.wait_connections(1)
    leaving = await server.connect()
    await server.wait_connections(2)
    harness.task_group.start_soon(news.broadcast, NEWS)
    await harness.settle()
    await leaving.aclose()
    await harness.settle()
    assert await BufferedByteReceiveStream(slow).receive_exactly(len(NEWS)) == NEWS
