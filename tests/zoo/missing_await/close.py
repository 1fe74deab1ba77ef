"""``upstream.aclose()`` without ``await`` closes nothing."""

from __future__ import annotations

import functools

import anyio
import pytest
from anyio.abc import ByteStream, SocketStream

from harness import Harness, Server

FOUND = [
    r"leaked coroutine: .*\baclose\(\) was never awaited",
    r"leaked socket",
    r"created at .*close\.py:\d+ in buggy: .*connect_tcp",
]
NEEDS = "leaks"

pool: list[SocketStream] = []


async def buggy(upstream: Server, stream: ByteStream) -> None:
    connection = await anyio.connect_tcp(upstream.host, upstream.port)
    pool.append(connection)
    await stream.send(await connection.receive())
    connection.aclose()


async def correct(upstream: Server, stream: ByteStream) -> None:
    connection = await anyio.connect_tcp(upstream.host, upstream.port)
    pool.append(connection)
    await stream.send(await connection.receive())
    await connection.aclose()


async def upstream_handler(stream: ByteStream) -> None:
    await stream.send(b"ready")
    async for _ in stream:
        pass


@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize("handler", [buggy, correct])
async def test_proxy(harness: Harness, handler) -> None:
    upstream = await harness.serve(upstream_handler)
    server = await harness.serve(functools.partial(handler, upstream))
    client = await server.connect()
    assert await client.receive() == b"ready"
    await server.wait_connections(0)
