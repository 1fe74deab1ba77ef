"""The shield that was meant for the cleanup is around all of the handler's work."""

from __future__ import annotations

import pytest
from anyio import CancelScope, Event
from anyio.abc import ByteStream

from harness import Harness

FOUND = [
    r"still running|did not stop",
    r"a handler of server 'buggy'",
    r"shielded_for_ever\.py:\d+ in buggy: await flushed\.wait\(\)",
    r"shielded by a CancelScope\(shield=True\)",
]


async def buggy(stream: ByteStream) -> None:
    flushed = Event()
    with CancelScope(shield=True):
        async for _ in stream:
            pass
        await flushed.wait()  # the flusher was cancelled and will never set it


async def correct(stream: ByteStream) -> None:
    flushed = Event()
    try:
        async for _ in stream:
            pass
        await flushed.wait()
    finally:
        with CancelScope(shield=True):
            await stream.aclose()


@pytest.mark.harness(grace=0)
@pytest.mark.parametrize("handler", [buggy, correct])
async def test_the_client_leaves(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await server.wait_connections(1)
    await client.send(b"x")
    await client.aclose()
    await harness.settle()
