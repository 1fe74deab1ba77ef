"""Both sides send all they have before either reads: each waits for the other to make room."""

from __future__ import annotations

import pytest
from anyio import create_task_group
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

from harness import Harness

FOUND = [
    r"(?i)time(d )?[- ]?out",
    r"both_send_first\.py:\d+ in buggy: await stream\.send\(",
    r"both_send_first\.py:\d+ in test_exchange: await client\.send\(",
]
NEEDS = "timeout"

LENGTH = 4_000_000


async def buggy(stream: ByteStream) -> None:
    await stream.send(bytes(LENGTH))
    await BufferedByteReceiveStream(stream).receive_exactly(LENGTH)


async def correct(stream: ByteStream) -> None:
    async with create_task_group() as task_group:
        task_group.start_soon(stream.send, bytes(LENGTH))
        await BufferedByteReceiveStream(stream).receive_exactly(LENGTH)


@pytest.mark.harness(transports=["unix", "memory"])
@pytest.mark.parametrize("handler", [buggy, correct])
async def test_exchange(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(bytes(LENGTH))
    assert len(await BufferedByteReceiveStream(client).receive_exactly(LENGTH)) == LENGTH
