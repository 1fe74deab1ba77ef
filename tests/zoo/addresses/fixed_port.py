"""A server that binds the port it has in production: a second one cannot start beside it."""

from __future__ import annotations

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketListener, SocketStream

from harness import Harness

FOUND = [r"(?i)address already in use", r"local_port=8421"]


async def buggy() -> SocketListener:
    multi = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=8421)
    return multi.listeners[0]


async def correct() -> SocketListener:
    multi = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    return multi.listeners[0]


async def greet(stream: SocketStream) -> None:
    async with stream:
        await stream.send(b"hello")


@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize("listen", [buggy, correct])
async def test_two_servers(harness: Harness, listen) -> None:
    async with await listen() as first, await listen() as second:
        for listener in (first, second):
            harness.task_group.start_soon(listener.serve, greet)
            address = listener.extra(SocketAttribute.local_address)
            async with await anyio.connect_tcp(*address) as client:
                assert await client.receive() == b"hello"
        harness.task_group.cancel_scope.cancel()
        await harness.settle()
