"""A heartbeat and a reply are sent on one stream at the same time.

In the wild: https://github.com/agronholm/anyio/issues/45, which is why AnyIO refuses it.
"""

from __future__ import annotations

import pytest
from anyio import Event, Lock
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

from harness import Harness

FOUND = [r"BusyResourceError", r"two_senders\.py", r"await self\.stream\.send\("]

REPLY = bytes(4_000_000)


class Buggy:
    def __init__(self) -> None:
        self.answering = Event()
        self.lock = Lock()

    async def handle(self, stream: ByteStream) -> None:
        await stream.receive()
        self.stream = stream
        self.answering.set()
        async with self.lock:
            await stream.send(REPLY)
        await stream.receive()

    async def beat(self) -> None:
        await self.answering.wait()
        await self.stream.send(b"beat")


class Correct(Buggy):
    async def beat(self) -> None:
        await self.answering.wait()
        async with self.lock:
            await self.stream.send(b"beat")


@pytest.mark.harness(transports=["unix", "memory"])
@pytest.mark.parametrize("server_class", [Buggy, Correct])
async def test_a_beat_during_a_reply(harness: Harness, server_class) -> None:
    answering = server_class()
    server = await harness.serve(answering)
    client = await server.connect()
    await client.send(b"GET")
    await harness.settle()
    harness.task_group.start_soon(answering.beat)
    await harness.settle()
    assert len(await BufferedByteReceiveStream(client).receive_exactly(len(REPLY))) == len(REPLY)
