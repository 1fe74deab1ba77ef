"""The reply has no length, so its end is the end of the stream, which the server never sends."""

from __future__ import annotations

import pytest
from anyio.abc import ByteStream

from harness import Harness

FOUND = [
    r"(?i)time(d )?[- ]?out",
    r"never_closes\.py:\d+ in buggy: ",
    r"never_closes\.py:\d+ in test_page: async for chunk in client",
]
NEEDS = "timeout"


async def buggy(stream: ByteStream) -> None:
    async for _ in stream:
        await stream.send(b"<p>hello</p>")  # and waits for the next request


async def correct(stream: ByteStream) -> None:
    await stream.receive()
    await stream.send(b"<p>hello</p>")


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_page(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"GET /\r\n")
    page = b""
    async for chunk in client:
        page += chunk
    assert page == b"<p>hello</p>"
