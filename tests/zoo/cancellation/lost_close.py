"""A ``finally`` says goodbye and then closes; the goodbye is cancelled, the socket stays open."""

from __future__ import annotations

import functools

import anyio
import pytest
from anyio import CancelScope, EndOfStream
from anyio.abc import ByteStream, SocketStream

from harness import Harness, Server

FOUND = [
    r"leaked socket",
    r"created at .*lost_close\.py:\d+ in (buggy|connect_upstream): .*connect_tcp",
]
NEEDS = "leaks"

kept: list[SocketStream] = []


async def connect_upstream(upstream: Server) -> SocketStream:
    connection = await anyio.connect_tcp(upstream.host, upstream.port)
    kept.append(connection)  # a registry, so that no collector closes it
    return connection


async def buggy(upstream: Server, stream: ByteStream) -> None:
    connection = await connect_upstream(upstream)
    try:
        await connection.send(await stream.receive())
    finally:
        await connection.send(b"QUIT")
        await connection.aclose()


async def correct(upstream: Server, stream: ByteStream) -> None:
    connection = await connect_upstream(upstream)
    async with connection:
        try:
            await connection.send(await stream.receive())
        finally:
            with CancelScope(shield=True):
                await connection.send(b"QUIT")


async def upstream_handler(stream: ByteStream) -> None:
    async for _ in stream:
        pass


@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize("handler", [buggy, correct])
async def test_dropped_clients(harness: Harness, handler) -> None:
    upstream = await harness.serve(upstream_handler)
    server = await harness.serve(functools.partial(handler, upstream))
    client = await server.connect()
    await upstream.wait_connections(1)
    await harness.settle()
    await server.drop_connections()
    with pytest.raises(EndOfStream):
        await client.receive()
