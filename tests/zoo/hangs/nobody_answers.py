"""Two reads for each reply: the server reads the next request before it has answered this one."""

from __future__ import annotations

import pytest
from anyio.abc import ByteStream

from harness import Harness

FOUND = [
    r"(?i)time(d )?[- ]?out",
    r"nobody_answers\.py:\d+ in buggy: following = await stream\.receive\(\)",
    r"nobody_answers\.py:\d+ in test_dialogue: .*client\.receive\(\)",
]
NEEDS = "timeout"


async def buggy(stream: ByteStream) -> None:
    request = await stream.receive()
    while True:
        following = await stream.receive()
        await stream.send(request.upper())
        request = following


async def correct(stream: ByteStream) -> None:
    async for request in stream:
        await stream.send(request.upper())


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_dialogue(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    for request in (b"one", b"two"):
        await client.send(request)
        assert await client.receive() == request.upper()
