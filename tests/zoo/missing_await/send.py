"""The reply is made and never sent: ``stream.send(...)`` without ``await``."""

from __future__ import annotations

import pytest
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"leaked coroutine: .*\bsend\(\) was never awaited"]


async def buggy(stream: ByteStream) -> None:
    request = await stream.receive()
    stream.send(request.upper())


async def correct(stream: ByteStream) -> None:
    request = await stream.receive()
    await stream.send(request.upper())


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_reply(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"hello")
    assert await client.receive() == b"HELLO"
