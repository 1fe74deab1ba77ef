"""A time limit whose error is thrown away: the idle client is never told, and never let go."""

from __future__ import annotations

from contextlib import suppress

import pytest
from anyio import fail_after, move_on_after
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"(?i)time(d )?[- ]?out", r"timeout_swallowed\.py:\d+ in buggy: .*receive\("]
NEEDS = "timeout"


async def buggy(stream: ByteStream) -> None:
    while True:
        with suppress(TimeoutError), fail_after(0.01):
            await stream.send((await stream.receive()).upper())


async def correct(stream: ByteStream) -> None:
    while True:
        with move_on_after(0.01) as limit:
            request = await stream.receive()
        if limit.cancelled_caught:
            await stream.send(b"too slow")
            return
        await stream.send(request.upper())


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_an_idle_client_is_told(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    assert await client.receive() == b"too slow"
