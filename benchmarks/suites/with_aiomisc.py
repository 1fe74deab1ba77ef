"""The same with aiomisc's plugin, and its service."""

from __future__ import annotations

import asyncio

import pytest
from aiomisc.service import TCPServer
from common import MESSAGE, ROUND_TRIPS, TESTS


class Echo(TCPServer):
    async def handle_client(self, reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@pytest.fixture
def services(request, aiomisc_unused_port):
    if request.function is test_nothing:
        return []
    return [Echo(address="127.0.0.1", port=aiomisc_unused_port)]


def test_nothing():
    pass


@pytest.mark.parametrize("number", range(TESTS))
async def test_echo(services, aiomisc_unused_port, number):
    reader, writer = await asyncio.open_connection("127.0.0.1", aiomisc_unused_port)
    for _ in range(ROUND_TRIPS):
        writer.write(MESSAGE)
        await writer.drain()
        assert await reader.read(65536) == MESSAGE
    writer.close()
    await writer.wait_closed()
