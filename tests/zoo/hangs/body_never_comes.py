"""The header promises more than the client sends; the server waits for the rest without a limit."""

from __future__ import annotations

import pytest
from anyio import fail_after
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

from harness import Harness

FOUND = [
    r"(?i)time(d )?[- ]?out",
    r"body_never_comes\.py:\d+ in buggy: .*receive_exactly\(length\)",
]
NEEDS = "timeout"


async def buggy(stream: ByteStream) -> None:
    buffered = BufferedByteReceiveStream(stream)
    length = int(await buffered.receive_until(b"\n", 20))
    body = await buffered.receive_exactly(length)
    await stream.send(body)


async def correct(stream: ByteStream) -> None:
    buffered = BufferedByteReceiveStream(stream)
    try:
        with fail_after(0.05):
            length = int(await buffered.receive_until(b"\n", 20))
            body = await buffered.receive_exactly(length)
    except TimeoutError:
        await stream.send(b"408")
    else:
        await stream.send(body)


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_short_body(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"10\nhello")
    assert await client.receive() == b"408"
