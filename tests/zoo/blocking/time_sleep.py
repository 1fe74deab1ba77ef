"""``time.sleep`` in a handler: the retry of one client holds up all the others."""

from __future__ import annotations

import time

import anyio
import pytest
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"blocked the event loop for", r"time_sleep\.py:\d+ in buggy: time\.sleep\("]
NEEDS = "blocking"


async def buggy(stream: ByteStream) -> None:
    await stream.receive()
    time.sleep(0.5)  # noqa: ASYNC251
    await stream.send(b"done")


async def correct(stream: ByteStream) -> None:
    await stream.receive()
    await anyio.sleep(0.05)
    await stream.send(b"done")


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_retry(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"go")
    assert await client.receive() == b"done"
