"""The end of the stream is taken for a passing error: the handler asks again, for ever."""

from __future__ import annotations

import pytest
from anyio import BrokenResourceError, EndOfStream
from anyio.abc import ByteStream

from harness import Harness

FOUND = [
    r"(?i)time(d )?[- ]?out",
    r"a handler of server 'buggy'",
    r"end_ignored\.py:\d+ in test_the_client_leaves: await server\.wait_connections\(0\)",
]
NEEDS = "timeout"


async def buggy(stream: ByteStream) -> None:
    while True:
        try:
            await stream.send((await stream.receive()).upper())
        except (EndOfStream, BrokenResourceError):
            continue


async def correct(stream: ByteStream) -> None:
    while True:
        try:
            await stream.send((await stream.receive()).upper())
        except (EndOfStream, BrokenResourceError):
            return


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_the_client_leaves(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"hello")
    assert await client.receive() == b"HELLO"
    await client.aclose()
    await server.wait_connections(0)
