"""A client reads its reply with one ``receive()``: right on every loopback, wrong on a network.

It takes a transport that cuts what arrives at other places than where it was sent.
"""

from __future__ import annotations

import pytest
from anyio import EndOfStream
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

from harness import Harness
from harness.transports.memory import MemoryTransport

FOUND = [r"^E +AssertionError: the client has read", r"assert b'.*' == b'hello, world'"]


async def buggy(client: ByteStream) -> bytes:
    return await client.receive()


async def correct(client: ByteStream) -> bytes:
    return await BufferedByteReceiveStream(client).receive_exactly(12)


async def greet(stream: ByteStream) -> None:
    await stream.send(b"hello, world")


@pytest.mark.harness(transports=["memory"])
@pytest.mark.parametrize("read_reply", [buggy, correct])
async def test_greeting(harness: Harness, read_reply) -> None:
    server = await harness.serve(greet, transport=MemoryTransport(chunking_seed=7))
    client = await server.connect()
    reply = await read_reply(client)
    assert reply == b"hello, world", f"the client has read {reply!r}"
    with pytest.raises(EndOfStream):
        await client.receive()
