"""A task that the handler started beside itself crashes: a counter outgrows its byte."""

from __future__ import annotations

import struct

import pytest
from anyio import create_task_group
from anyio.abc import ByteStream

from harness import Harness

FOUND = [
    r"struct\.error: .*format requires 0 <= number <= 255",
    r"raised in connection 1 of server 'buggy'",
]

BEATS = 300


async def buggy(stream: ByteStream) -> None:
    async def heartbeat() -> None:
        for beat in range(BEATS):
            await stream.send(struct.pack("!B", beat))

    async with create_task_group() as task_group:
        task_group.start_soon(heartbeat)
        async for _ in stream:
            pass


async def correct(stream: ByteStream) -> None:
    async def heartbeat() -> None:
        for beat in range(BEATS):
            await stream.send(struct.pack("!B", beat % 256))

    async with create_task_group() as task_group:
        task_group.start_soon(heartbeat)
        async for _ in stream:
            pass


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_many_heartbeats(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    received = b""
    while len(received) < BEATS:
        received += await client.receive()
    assert received == bytes(beat % 256 for beat in range(BEATS))
