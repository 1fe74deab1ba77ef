"""The server replies after the end of the stream; the client ends its stream after the reply."""

from __future__ import annotations

import pytest
from anyio.abc import ByteStream

from harness import Harness

FOUND = [
    r"(?i)time(d )?[- ]?out",
    r"waits_for_eof\.py:\d+ in buggy: async for chunk in stream",
    r"waits_for_eof\.py:\d+ in test_request: .*client\.receive\(\)",
]
NEEDS = "timeout"


async def buggy(stream: ByteStream) -> None:
    request = b""
    async for chunk in stream:
        request += chunk
    await stream.send(request.upper())


async def correct(stream: ByteStream) -> None:
    request = b""
    async for chunk in stream:
        request += chunk
        if request.endswith(b"\n"):
            await stream.send(request.upper())
            request = b""


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_request(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"hello\n")
    assert await client.receive() == b"HELLO\n"
