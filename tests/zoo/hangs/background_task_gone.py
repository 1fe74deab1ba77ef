"""The task that fills the queue ends quietly on a time-out; who reads the queue never knows."""

from __future__ import annotations

import pytest
from anyio import EndOfStream, create_memory_object_stream, create_task_group, move_on_after
from anyio.abc import ByteStream
from anyio.streams.memory import MemoryObjectSendStream

from harness import Harness

FOUND = [
    r"(?i)time(d )?[- ]?out",
    r"background_task_gone\.py:\d+ in buggy: async for line in receive",
]
NEEDS = "timeout"


async def pump(stream: ByteStream, send: MemoryObjectSendStream[bytes]) -> None:
    while True:
        with move_on_after(0.02) as patience:
            await send.send(await stream.receive())
        if patience.cancelled_caught:
            return


async def buggy(stream: ByteStream) -> None:
    send, receive = create_memory_object_stream[bytes](1)
    async with send, receive, create_task_group() as task_group:
        task_group.start_soon(pump, stream, send)
        async for line in receive:
            await stream.send(line.upper())


async def correct(stream: ByteStream) -> None:
    send, receive = create_memory_object_stream[bytes](1)

    async def pump_and_close() -> None:
        async with send:
            await pump(stream, send)

    async with receive, create_task_group() as task_group:
        task_group.start_soon(pump_and_close)
        async for line in receive:
            await stream.send(line.upper())


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_an_idle_client_is_let_go(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    with pytest.raises(EndOfStream):
        await client.receive()
