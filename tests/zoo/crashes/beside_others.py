"""One of three clients sends what the handler cannot stand, while the others are being served."""

from __future__ import annotations

import pytest
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"^E +UnicodeDecodeError", r"raised in connection 3 of server 'buggy'", r"^> .*decode\("]


async def buggy(stream: ByteStream) -> None:
    async for chunk in stream:
        await stream.send(chunk.decode("ascii").upper().encode())


async def correct(stream: ByteStream) -> None:
    async for chunk in stream:
        await stream.send(chunk.upper())


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_three_clients(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    clients = []
    for number in range(3):
        clients.append(await server.connect())
        await server.wait_connections(number + 1)
    await clients[2].send("é".encode())
    assert await clients[2].receive() == "é".encode()
    for client in clients[:2]:
        await client.send(b"hello")
        assert await client.receive() == b"HELLO"
