"""A proxy opens its connection first, and an early ``return`` forgets to close it."""

from __future__ import annotations

import functools

import anyio
import pytest
from anyio.abc import ByteStream, SocketStream

from harness import Harness, Server

FOUND = [r"leaked socket", r"created at .*socket\.py:\d+ in buggy: .*anyio\.connect_tcp\("]
NEEDS = "leaks"

statistics: list[SocketStream] = []


async def buggy(upstream: Server, stream: ByteStream) -> None:
    connection = await anyio.connect_tcp(upstream.host, upstream.port)
    statistics.append(connection)
    request = await stream.receive()
    if not request.startswith(b"GET "):
        await stream.send(b"400")
        return
    await connection.send(request)
    await stream.send(await connection.receive())
    await connection.aclose()


async def correct(upstream: Server, stream: ByteStream) -> None:
    async with await anyio.connect_tcp(upstream.host, upstream.port) as connection:
        statistics.append(connection)
        request = await stream.receive()
        if not request.startswith(b"GET "):
            await stream.send(b"400")
            return
        await connection.send(request)
        await stream.send(await connection.receive())


async def echo(stream: ByteStream) -> None:
    async for data in stream:
        await stream.send(data)


@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize("proxy", [buggy, correct])
async def test_bad_request(harness: Harness, proxy) -> None:
    upstream = await harness.serve(echo, name="upstream")
    server = await harness.serve(functools.partial(proxy, upstream))
    client = await server.connect()
    await client.send(b"HELO")
    assert await client.receive() == b"400"
