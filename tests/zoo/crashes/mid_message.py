"""A length that is no number ends the handler, in the middle of a message."""

from __future__ import annotations

import pytest
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

from harness import Harness

FOUND = [r"^E +ValueError: invalid literal for int\(\) with base 10: b'twelve'", r"^> .*int\("]


async def buggy(stream: ByteStream) -> None:
    buffered = BufferedByteReceiveStream(stream)
    length = int(await buffered.receive_until(b"\n", 100))
    await stream.send(await buffered.receive_exactly(length))


async def correct(stream: ByteStream) -> None:
    buffered = BufferedByteReceiveStream(stream)
    try:
        length = int(await buffered.receive_until(b"\n", 100))
    except ValueError:
        await stream.send(b"bad length")
    else:
        await stream.send(await buffered.receive_exactly(length))


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_bad_length(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"twelve\n")
    assert await client.receive() == b"bad length"
