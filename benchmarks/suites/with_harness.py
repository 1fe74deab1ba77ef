"""The same with the harness."""

from __future__ import annotations

import pytest
from anyio.abc import ByteStream
from common import MESSAGE, ROUND_TRIPS, TESTS

from harness import Harness


async def echo(stream: ByteStream) -> None:
    async with stream:
        async for data in stream:
            await stream.send(data)


def test_nothing():
    pass


@pytest.mark.parametrize("number", range(TESTS))
async def test_echo(harness: Harness, number):
    server = await harness.serve(echo)
    async with await server.connect() as client:
        for _ in range(ROUND_TRIPS):
            await client.send(MESSAGE)
            assert await client.receive() == MESSAGE
