"""Fire and forget: a task that belongs to nobody, and outlives the connection it was made for.

In the wild: https://github.com/python/cpython/issues/88831
"""

from __future__ import annotations

import asyncio

import anyio
import pytest
from anyio import create_task_group
from anyio.abc import ByteStream

from harness import Harness
from harness.backends import current_library

FOUND = [
    r"leaked task: .*keep_alive",
    r"created at .*task\.py:\d+ in fire_and_forget: .*(create_task|spawn_system_task)\(",
]
NEEDS = "leaks"

tasks: list[object] = []


async def keep_alive() -> None:
    await anyio.sleep_forever()


def fire_and_forget() -> None:
    if current_library() == "trio":
        import trio

        tasks.append(trio.lowlevel.spawn_system_task(keep_alive))
    else:
        tasks.append(asyncio.create_task(keep_alive()))


async def buggy(stream: ByteStream) -> None:
    fire_and_forget()
    await stream.send(await stream.receive())


async def correct(stream: ByteStream) -> None:
    async with create_task_group() as task_group:
        task_group.start_soon(keep_alive)
        await stream.send(await stream.receive())
        task_group.cancel_scope.cancel()


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_echo(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"hello")
    assert await client.receive() == b"hello"
    await server.wait_connections(0)
