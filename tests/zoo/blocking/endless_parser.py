"""A parser that needs more input loops instead of reading: it never yields again.

In the wild: CVE-2024-30251, aiohttp before 3.9.4, a multipart reader that did so.
"""

from __future__ import annotations

import pytest
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"(?i)time(d )?[- ]?out", r"endless_parser\.py:\d+ in buggy: "]
NEEDS = "timeout"
ALONE = True


async def buggy(stream: ByteStream) -> None:
    buffer = await stream.receive()
    while b"\n" not in buffer:
        buffer = buffer.lstrip()
    await stream.send(buffer.partition(b"\n")[0])


async def correct(stream: ByteStream) -> None:
    buffer = await stream.receive()
    while b"\n" not in buffer:
        buffer = buffer.lstrip() + await stream.receive()
    await stream.send(buffer.partition(b"\n")[0])


@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize("handler", [buggy, correct])
async def test_a_line_in_two_pieces(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"hel")
    await harness.settle()
    await client.send(b"lo\n")
    assert await client.receive() == b"hello"
