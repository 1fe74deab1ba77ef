"""Two requests arrive in one segment, and the second is thrown away with the rest of the first."""

from __future__ import annotations

import pytest
from anyio import DelimiterNotFound, EndOfStream, IncompleteRead
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

from harness import Harness

FOUND = [r"(?i)time(d )?[- ]?out", r"second_message_lost\.py:\d+ in test_two_at_once: .*receive"]
NEEDS = "timeout"


async def buggy(stream: ByteStream) -> None:
    async for data in stream:
        line, _, _ = data.partition(b"\n")
        await stream.send(line.upper() + b"\n")


async def correct(stream: ByteStream) -> None:
    buffered = BufferedByteReceiveStream(stream)
    while True:
        try:
            line = await buffered.receive_until(b"\n", 100)
        except (EndOfStream, IncompleteRead, DelimiterNotFound):
            return
        await stream.send(line.upper() + b"\n")


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_two_at_once(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"one\ntwo\n")
    replies = b""
    while replies.count(b"\n") < 2:
        replies += await client.receive()
    assert replies == b"ONE\nTWO\n"
