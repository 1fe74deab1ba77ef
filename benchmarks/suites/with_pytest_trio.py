"""The same with pytest-trio and trio's own streams."""

from __future__ import annotations

import functools

import pytest
import trio
from common import MESSAGE, ROUND_TRIPS, TESTS


async def echo(stream):
    async for data in stream:
        await stream.send_all(data)


def test_nothing():
    pass


@pytest.mark.trio
@pytest.mark.parametrize("number", range(TESTS))
async def test_echo(nursery, number):
    serve = functools.partial(trio.serve_tcp, echo, 0, host="127.0.0.1")
    listeners = await nursery.start(serve)
    client = await trio.open_tcp_stream(*listeners[0].socket.getsockname())
    async with client:
        for _ in range(ROUND_TRIPS):
            await client.send_all(MESSAGE)
            assert await client.receive_some() == MESSAGE
