"""A client reconnects at once and without end to a server that will not come back."""

from __future__ import annotations

import pytest
from anyio import ConnectionFailed
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint

from harness import Harness, Server

FOUND = [
    r"(?i)time(d )?[- ]?out",
    r"reconnect_storm\.py:\d+ in buggy: ",
]
NEEDS = "timeout"


async def buggy(server: Server) -> ByteStream:
    while True:
        try:
            return await server.connect()
        except ConnectionFailed:
            await checkpoint()


async def correct(server: Server) -> ByteStream:
    for _ in range(5):
        try:
            return await server.connect()
        except ConnectionFailed:
            await checkpoint()
    raise ConnectionFailed("gave up after 5 attempts")


async def greet(stream: ByteStream) -> None:
    await stream.send(b"hello")


@pytest.mark.parametrize("reconnect", [buggy, correct])
async def test_the_server_is_gone(harness: Harness, reconnect) -> None:
    server = await harness.serve(greet)
    await server.stop()
    with pytest.raises(ConnectionFailed):
        await reconnect(server)
