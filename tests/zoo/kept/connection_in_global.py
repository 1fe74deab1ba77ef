"""A client keeps its connection in a global: opened in one test's loop, used in the next one's."""

from __future__ import annotations

import anyio
import pytest
from anyio.abc import ByteStream, SocketStream

from harness import Harness, Server

FOUND = [r"leaked socket", r"created at .*connection_in_global\.py:\d+ in ask_kept: .*connect_tcp"]
NEEDS = "leaks"

kept: list[SocketStream] = []


async def ask_kept(server: Server) -> bytes:
    if not kept:
        kept.append(await anyio.connect_tcp(server.host, server.port))
    await kept[0].send(b"ping")
    return await kept[0].receive()


async def buggy(server: Server) -> bytes:
    return await ask_kept(server)


async def correct(server: Server) -> bytes:
    async with await anyio.connect_tcp(server.host, server.port) as connection:
        await connection.send(b"ping")
        return await connection.receive()


async def echo(stream: ByteStream) -> None:
    async for data in stream:
        await stream.send(data)


@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize("ask", [buggy, correct])
async def test_first(harness: Harness, ask) -> None:
    assert await ask(await harness.serve(echo)) == b"ping"
