"""``receive(length)`` is taken for the whole body; a megabyte comes in many parts."""

from __future__ import annotations

import pytest
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

from harness import Harness

FOUND = [r"^E +AssertionError: the server has seen", r"assert b'\d+' == b'1000000'"]

LENGTH = 1_000_000


async def buggy(stream: ByteStream) -> None:
    body = await stream.receive(LENGTH)
    await stream.send(b"%d" % len(body))
    async for _ in stream:
        pass


async def correct(stream: ByteStream) -> None:
    body = await BufferedByteReceiveStream(stream).receive_exactly(LENGTH)
    await stream.send(b"%d" % len(body))
    async for _ in stream:
        pass


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_upload(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(bytes(LENGTH))
    reply = await client.receive()
    assert reply == b"1000000", f"the server has seen {reply!r} bytes"
