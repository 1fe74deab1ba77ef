"""A client sends a long pipeline and then reads the replies; the server cannot send them."""

from __future__ import annotations

import pytest
from anyio import create_task_group
from anyio.abc import ByteStream

from harness import Harness

FOUND = [
    r"(?i)time(d )?[- ]?out",
    r"pipeline\.py:\d+ in buggy: await client\.send\(",
    r"pipeline\.py:\d+ in echo: await stream\.send\(",
]
NEEDS = "timeout"

REQUEST = bytes(50_000)
REQUESTS = 40


async def receive_all(client: ByteStream) -> int:
    received = 0
    while received < REQUESTS * len(REQUEST):
        received += len(await client.receive())
    return received


async def buggy(client: ByteStream) -> int:
    for _ in range(REQUESTS):
        await client.send(REQUEST)
    return await receive_all(client)


async def correct(client: ByteStream) -> int:
    async def send_all() -> None:
        for _ in range(REQUESTS):
            await client.send(REQUEST)

    async with create_task_group() as task_group:
        task_group.start_soon(send_all)
        received = await receive_all(client)
    return received


async def echo(stream: ByteStream) -> None:
    async for data in stream:
        await stream.send(data)


@pytest.mark.harness(transports=["unix", "memory"])
@pytest.mark.parametrize("pipeline", [buggy, correct])
async def test_pipeline(harness: Harness, pipeline) -> None:
    server = await harness.serve(echo)
    client = await server.connect()
    assert await pipeline(client) == REQUESTS * len(REQUEST)
