"""A server test as one writes it by hand under AnyIO's plugin."""

from __future__ import annotations

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute
from common import BACKEND, MESSAGE, ROUND_TRIPS, TESTS


@pytest.fixture
def anyio_backend():
    if BACKEND == "uvloop":
        return ("asyncio", {"use_uvloop": True})
    return BACKEND


async def echo(stream: ByteStream) -> None:
    async with stream:
        async for data in stream:
            await stream.send(data)


def test_nothing():
    pass


@pytest.mark.anyio
@pytest.mark.parametrize("number", range(TESTS))
async def test_echo(anyio_backend, number):
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.serve, echo)
        port = listener.extra(SocketAttribute.local_port)
        async with await anyio.connect_tcp("127.0.0.1", port) as client:
            for _ in range(ROUND_TRIPS):
                await client.send(MESSAGE)
                assert await client.receive() == MESSAGE
        group.cancel_scope.cancel()
