"""What is the same for each shape of server: attributes, crashes, proxies, restarts, the end."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable

import anyio
import mains
import pytest
from anyio import ConnectionFailed

from harness import Harness, open_harness
from harness.adapters import (
    ASGI,
    AsyncioProtocol,
    AsyncioStreams,
    Bound,
    Datagram,
    Main,
    Process,
    Shape,
)

pytest.importorskip("anycorn")

ECHO = """
import os, socket, sys
listening = socket.socket(fileno=int(sys.argv[1]))
while True:
    client, _ = listening.accept()
    if os.fork() == 0:
        while data := client.recv(100):
            client.sendall(data)
        os._exit(0)
    client.close()
"""


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = scope["path"].encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def datagrams(socket):
    async for data, peer in socket:
        await socket.send((data, peer))


async def main(*, task_status):
    """Where the transport of the test is."""
    await mains.reports_its_port(task_status=task_status)


async def over_streams(target):
    async with await target.connect() as client:
        await client.send(b"/hello")
        received = b""
        while len(received) < 6:
            received += await client.receive()
        return received


async def over_http(target):
    async with target.http_client() as client:
        return (await client.get("/hello")).content


async def over_datagrams(target):
    client = await target.datagram_client()
    await client.send(b"/hello")
    return await client.receive()


def streams_on_asyncio() -> Shape:
    return AsyncioStreams(mains.OfAsyncio().handle)


class Echo(mains.asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


SHAPES: dict[str, tuple[Callable[[], object], Callable]] = {
    "a handler": (lambda: mains.echo, over_streams),
    "Main": (lambda: Main(main), over_streams),
    "Bound": (lambda: Bound(mains.on_a_socket), over_streams),
    "AsyncioStreams": (streams_on_asyncio, over_streams),
    "AsyncioProtocol": (lambda: AsyncioProtocol(Echo), over_streams),
    "Process": (lambda: Process([sys.executable, "-SIc", ECHO, "{fd}"]), over_streams),
    "ASGI": (lambda: ASGI(app), over_http),
    "Datagram": (lambda: Datagram(datagrams), over_datagrams),
}

pytestmark = pytest.mark.harness(transports=["tcp"])


@pytest.fixture(params=SHAPES)
def shape(request, harness: Harness):
    if request.param.startswith("Asyncio") and harness.backend == "trio":
        pytest.skip("a server for asyncio")
    if request.param == "Process" and not hasattr(socket, "AF_UNIX"):
        pytest.skip("no processes on Windows")
    return SHAPES[request.param]


async def test_the_same_attributes(harness: Harness, shape):
    make, ask = shape
    server = await harness.serve(make(), name="mine")
    assert server.name == "mine"
    assert server.transport is harness.transport
    assert server.address == (server.host, server.port)
    assert server.url("x") == f"x://127.0.0.1:{server.port}"
    with pytest.raises(AttributeError):
        _ = server.path
    with pytest.raises(AttributeError):
        _ = server.client_ssl_context
    assert (server.accepted, list(server.connections), list(server.errors)) == (0, [], [])
    assert await ask(server) == b"/hello"
    if ask is not over_datagrams:
        assert server.accepted == 1
    await server.wait_connections(0)
    await server.drop_connections()
    assert repr(server).startswith("<Server 'mine' at ('127.0.0.1', ")


async def test_stop_and_restart(harness: Harness, shape):
    make, ask = shape
    server = await harness.serve(make())
    for _ in range(2):
        assert await ask(server) == b"/hello"
        await server.stop(grace=0)
        with pytest.raises(ConnectionFailed):
            await server.connect()
        await server.stop()
        await server.restart()
    assert await ask(server) == b"/hello"


async def test_a_client_that_stays(harness: Harness, shape):
    make, ask = shape
    async with open_harness(transport="tcp") as inner:
        server = await inner.serve(make())
        assert await ask(server) == b"/hello"
        if ask is over_datagrams:
            await server.datagram_client()
        else:
            await server.connect()


async def test_behind_a_proxy(harness: Harness, shape):
    make, ask = shape
    server = await harness.serve(make())
    if ask is over_datagrams:
        with pytest.raises(TypeError, match="serves datagrams"):
            await harness.proxy(server)
        return
    proxy = await harness.proxy(server)
    assert await ask(proxy) == b"/hello"
    await server.restart()
    assert await ask(proxy) == b"/hello"


async def test_nothing_is_served_after_the_end(harness: Harness, shape):
    make, _ = shape
    async with open_harness(transport="tcp") as inner:
        server = await inner.serve(make())
        address = server.address
    with pytest.raises(RuntimeError, match="this harness is closed"):
        await server.connect()
    with pytest.raises(RuntimeError, match="cannot restart"):
        await server.restart()
    with pytest.raises(OSError):  # noqa: PT011 (whatever the backend makes of a refused connection)
        await anyio.connect_tcp(*address)
