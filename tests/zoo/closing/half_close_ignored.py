"""The client has sent all and says so; the server takes its end of the stream for a hang-up."""

from __future__ import annotations

import pytest
from anyio import EndOfStream
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"anyio\.EndOfStream", r"^> .*await client\.receive\(\)"]


async def buggy(stream: ByteStream) -> None:
    seen = 0
    while True:
        try:
            seen += len(await stream.receive())
        except EndOfStream:
            return
        if seen > 1_000_000:
            await stream.send(b"%d" % seen)
            return


async def correct(stream: ByteStream) -> None:
    seen = 0
    async for chunk in stream:
        seen += len(chunk)
        if seen > 1_000_000:
            break
    await stream.send(b"%d" % seen)


@pytest.mark.harness(transports=["tcp", "unix", "memory"])
@pytest.mark.parametrize("handler", [buggy, correct])
async def test_count(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"hello")
    await client.send_eof()
    assert await client.receive() == b"5"
