"""``receive(4)`` is an upper bound and not a promise: four bytes come as two and two."""

from __future__ import annotations

import struct

import pytest
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

from harness import Harness

FOUND = [r"^E +struct\.error: unpack requires a buffer of 4 bytes", r"^> .*struct\.unpack\("]


async def buggy(stream: ByteStream) -> None:
    (length,) = struct.unpack("!I", await stream.receive(4))
    await stream.send(str(length).encode())


async def correct(stream: ByteStream) -> None:
    buffered = BufferedByteReceiveStream(stream)
    (length,) = struct.unpack("!I", await buffered.receive_exactly(4))
    await stream.send(str(length).encode())


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_a_header_in_two_pieces(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"\0\0")
    await harness.settle()
    await client.send(b"\1\0")
    assert await client.receive() == b"256"
