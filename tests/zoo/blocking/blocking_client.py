"""A client library that blocks calls a server in the same event loop, which cannot answer it."""

from __future__ import annotations

import functools
import socket

import anyio
import pytest
from anyio.abc import ByteStream

from harness import Harness, Server

FOUND = [r"blocked the event loop for", r"blocking_client\.py:\d+ in buggy: .*recv\("]
NEEDS = "blocking"


async def buggy(users: Server, stream: ByteStream) -> None:
    name = await stream.receive()
    with socket.create_connection((users.host, users.port), timeout=0.5) as connection:
        connection.sendall(name)
        try:
            await stream.send(connection.recv(100))
        except TimeoutError:
            await stream.send(b"unknown")


async def correct(users: Server, stream: ByteStream) -> None:
    name = await stream.receive()
    async with await anyio.connect_tcp(users.host, users.port) as connection:
        await connection.send(name)
        await stream.send(await connection.receive())


async def user_service(stream: ByteStream) -> None:
    await stream.send(b"user " + await stream.receive())


@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize("handler", [buggy, correct])
async def test_lookup(harness: Harness, handler) -> None:
    users = await harness.serve(user_service)
    server = await harness.serve(functools.partial(handler, users))
    client = await server.connect()
    await client.send(b"alice")
    assert await client.receive() == b"user alice"
