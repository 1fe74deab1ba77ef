"""``if allowed(token)`` without ``await``: a coroutine is true, so everybody is let in."""

from __future__ import annotations

import pytest
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint

from harness import Harness

FOUND = [r"leaked coroutine: allowed\(\) was never awaited", r"^E +AssertionError: .*b'secret'"]


async def allowed(token: bytes) -> bool:
    await checkpoint()  # asks the directory
    return token == b"valid"


async def buggy(stream: ByteStream) -> None:
    if allowed(await stream.receive()):
        await stream.send(b"secret")
    else:
        await stream.send(b"denied")


async def correct(stream: ByteStream) -> None:
    if await allowed(await stream.receive()):
        await stream.send(b"secret")
    else:
        await stream.send(b"denied")


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_strangers_are_denied(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"forged")
    assert await client.receive() == b"denied"
