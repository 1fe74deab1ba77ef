"""The same with pytest-asyncio and asyncio's own streams."""

from __future__ import annotations

import asyncio

import pytest
from common import MESSAGE, ROUND_TRIPS, TESTS


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


def test_nothing():
    pass


@pytest.mark.asyncio
@pytest.mark.parametrize("number", range(TESTS))
async def test_echo(number):
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for _ in range(ROUND_TRIPS):
            writer.write(MESSAGE)
            await writer.drain()
            assert await reader.read(65536) == MESSAGE
        writer.close()
        await writer.wait_closed()
