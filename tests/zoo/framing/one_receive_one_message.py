"""One ``receive()`` is taken for one message; the network cuts the message in two."""

from __future__ import annotations

import json

import pytest
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

from harness import Harness

FOUND = [r"^E +json\.decoder\.JSONDecodeError", r"^> .*json\.loads\("]


async def buggy(stream: ByteStream) -> None:
    request = json.loads(await stream.receive())
    await stream.send(request["name"].encode())


async def correct(stream: ByteStream) -> None:
    buffered = BufferedByteReceiveStream(stream)
    request = json.loads(await buffered.receive_until(b"\n", 1000))
    await stream.send(request["name"].encode())


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_a_request_in_two_pieces(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b'{"name": ')
    await harness.settle()
    await client.send(b'"alice"}\n')
    assert await client.receive() == b"alice"
