"""A loop in pure Python over a large upload, with no ``await`` in it."""

from __future__ import annotations

import pytest
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint
from anyio.streams.buffered import BufferedByteReceiveStream

from harness import Harness

FOUND = [r"blocked the event loop for", r"cpu_loop\.py:\d+ in (adler|buggy): "]
NEEDS = "blocking"

LENGTH = 3_000_000
STEP = 20_000


def adler(data: bytes, a: int = 1, b: int = 0) -> tuple[int, int]:
    for byte in data:
        a = (a + byte) % 65521
        b = (b + a) % 65521
    return a, b


async def buggy(stream: ByteStream) -> None:
    data = await BufferedByteReceiveStream(stream).receive_exactly(LENGTH)
    a, b = adler(data)
    await stream.send(b"%d" % (b << 16 | a))


async def correct(stream: ByteStream) -> None:
    data = await BufferedByteReceiveStream(stream).receive_exactly(LENGTH)
    a, b = 1, 0
    for start in range(0, LENGTH, STEP):
        a, b = adler(data[start : start + STEP], a, b)
        await checkpoint()
    await stream.send(b"%d" % (b << 16 | a))


@pytest.mark.harness(transports=["memory"])
@pytest.mark.parametrize("handler", [buggy, correct])
async def test_checksum(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(bytes(LENGTH))
    assert int(await client.receive()) == LENGTH % 65521 << 16 | 1
