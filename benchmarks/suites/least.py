"""The least that a harness on AnyIO's plugin can do: a fixture that serves, and nothing else.

A crash there ends the run, nothing has a bound, and nobody looks for leaks.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import ByteStream, SocketListener, TaskGroup
from anyio.streams.stapled import StapledObjectStream
from common import BACKEND, MESSAGE, ROUND_TRIPS, TESTS

Handler = Callable[[ByteStream], Awaitable[None]]


class Least:
    def __init__(self, group: TaskGroup) -> None:
        self._group = group

    async def serve(self, handler: Handler) -> Callable[[], Awaitable[ByteStream]]:
        if os.environ["BENCH_TRANSPORT"] == "memory":

            async def connect_in_memory():
                to_server, from_client = anyio.create_memory_object_stream[bytes](1)
                to_client, from_server = anyio.create_memory_object_stream[bytes](1)
                self._group.start_soon(handler, StapledObjectStream(to_client, from_client))
                return StapledObjectStream(to_server, from_server)

            return connect_in_memory
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        listener = await SocketListener.from_socket(sock)
        self._group.start_soon(listener.serve, handler)
        host, port = sock.getsockname()

        async def connect() -> ByteStream:
            return await anyio.connect_tcp(host, port)

        return connect


@pytest.fixture(params=[BACKEND])
def anyio_backend(request):
    if request.param == "uvloop":
        return ("asyncio", {"use_uvloop": True})
    return request.param


@asynccontextmanager
async def least() -> AsyncIterator[Least]:
    async with anyio.create_task_group() as group:
        yield Least(group)
        group.cancel_scope.cancel()


@pytest.fixture
async def harness(anyio_backend):
    async with least() as made:
        yield made


async def echo(stream: ByteStream) -> None:
    async with stream:
        async for data in stream:
            await stream.send(data)


def test_nothing():
    pass


@pytest.mark.anyio
@pytest.mark.parametrize("number", range(TESTS))
async def test_echo(harness: Least, number):
    connect = await harness.serve(echo)
    async with await connect() as client:
        for _ in range(ROUND_TRIPS):
            await client.send(MESSAGE)
            assert await client.receive() == MESSAGE
