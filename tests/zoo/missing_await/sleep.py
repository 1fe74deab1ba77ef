"""``anyio.sleep()`` without ``await`` in a polling loop: it never yields, and nothing else runs."""

from __future__ import annotations

import functools

import anyio
import pytest
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"(?i)time(d )?[- ]?out", r"sleep\.py:\d+ in buggy: "]
NEEDS = "timeout"
ALONE = True


async def buggy(ready: list[bytes], stream: ByteStream) -> None:
    while not ready:
        anyio.sleep(0.001)
    await stream.send(ready.pop())


async def correct(ready: list[bytes], stream: ByteStream) -> None:
    while not ready:  # noqa: ASYNC110
        await anyio.sleep(0.001)
    await stream.send(ready.pop())


@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize("handler", [buggy, correct])
async def test_long_poll(harness: Harness, handler) -> None:
    ready: list[bytes] = []
    server = await harness.serve(functools.partial(handler, ready))
    client = await server.connect()
    await server.wait_connections(1)
    ready.append(b"news")
    assert await client.receive() == b"news"
