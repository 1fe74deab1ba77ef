"""A background task fails, somebody holds its handle, and nobody ever asks it.

On trio no task can fail unseen.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint

from harness import Harness

FOUND = [r"never retrieved", r"KeyError: 'replica'", r"never_retrieved\.py:\d+,? in replicate"]
NEEDS = "leaks"
BACKENDS = ("asyncio", "uvloop")

tasks: list[Any] = []


async def replicate(data: bytes) -> None:
    await checkpoint()
    targets: dict[str, list[bytes]] = {}
    targets["replica"].append(data)


async def buggy(stream: ByteStream) -> None:
    data = await stream.receive()
    tasks.append(asyncio.create_task(replicate(data)))
    await stream.send(b"stored")


async def correct(stream: ByteStream) -> None:
    data = await stream.receive()
    try:
        await replicate(data)
    except KeyError:
        await stream.send(b"not stored")


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_store(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"hello")
    assert (await client.receive()).endswith(b"stored")
    await harness.settle()
