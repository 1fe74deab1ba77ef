"""A subscription has two ends, and only one of them is closed.

In the wild: https://github.com/encode/starlette/pull/2778
"""

from __future__ import annotations

import pytest
from anyio import create_memory_object_stream
from anyio.abc import ByteStream
from anyio.streams.memory import MemoryObjectReceiveStream

from harness import Harness

FOUND = [
    r"leaked memory (object )?(receive )?stream",
    r"created at .*memory_stream\.py:\d+ in buggy: .*create_memory_object_stream",
]
NEEDS = "leaks"

subscriptions: list[MemoryObjectReceiveStream[bytes]] = []


async def buggy(stream: ByteStream) -> None:
    send, receive = create_memory_object_stream[bytes](1)
    subscriptions.append(receive)
    async with send:
        await send.send(await stream.receive())
        await stream.send(await receive.receive())


async def correct(stream: ByteStream) -> None:
    send, receive = create_memory_object_stream[bytes](1)
    subscriptions.append(receive)
    async with send, receive:
        await send.send(await stream.receive())
        await stream.send(await receive.receive())


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_echo(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"hello")
    assert await client.receive() == b"hello"
    await server.wait_connections(0)
