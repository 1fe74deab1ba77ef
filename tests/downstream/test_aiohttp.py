"""aiohttp, client and server, on asyncio and uvloop.

Its server is an asyncio protocol, so it runs over every transport; its client connects to sockets
without TLS here, and what is written by hand goes over the others.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from ssl import SSLContext

import anyio
import pytest
from aiohttp import ClientPayloadError, ClientSession, TCPConnector, UnixConnector, WSMsgType, web

from harness import Harness, Server
from harness.adapters import AsyncioProtocol, Bound
from harness.faults import Proxy

pytestmark = pytest.mark.harness(
    transports=["tcp", "unix", "tls", "memory", "tcp6"], backends=["asyncio", "uvloop"]
)
has_sockets = pytest.mark.harness(transports=["tcp", "unix", "tls", "tcp6"])

ENDS = (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR)


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"first")
    await anyio.sleep_forever()
    return response


async def shout(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    async for message in websocket:
        await websocket.send_str(message.data.upper())
    return websocket


def application() -> web.Application:
    app = web.Application()
    app.router.add_post("/", echo)
    app.router.add_get("/endless", endless)
    app.router.add_get("/ws", shout)
    return app


@pytest.fixture
async def runner() -> AsyncIterator[web.AppRunner]:
    # By default a handler goes on when its client has gone, for ever if need be.
    runner = web.AppRunner(application(), handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    yield runner
    await runner.cleanup()


@pytest.fixture
async def server(harness: Harness, runner: web.AppRunner) -> Server:
    return await harness.serve(AsyncioProtocol(runner.server))


def session(server: Server | Proxy) -> ClientSession:
    if isinstance(server.address, str):
        return ClientSession("http://localhost", connector=UnixConnector(server.path))
    try:
        context = server.client_ssl_context
    except AttributeError:
        return ClientSession(server.url("http"))
    return ClientSession(server.url("https"), connector=TCPConnector(ssl=context))


@has_sockets
async def test_round_trips(server: Server) -> None:
    async with session(server) as client:
        for body in (b"", b"hello", bytes(range(256)) * 1000):
            async with client.post("/", data=body) as response:
                assert await response.read() == body
        assert server.accepted == 1


async def test_by_hand(server: Server) -> None:
    """Over memory, too."""
    client = await server.connect()
    for _ in range(2):
        await client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
        answer = b""
        while not answer.endswith(b"\r\n\r\nhello"):
            answer += await client.receive()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert server.accepted == 1


@has_sockets
async def test_several_clients(server: Server) -> None:
    answers = set()

    async def ask(number: int) -> None:
        async with session(server) as client, client.ws_connect("/ws") as websocket:
            await websocket.send_str(f"client {number}")
            answers.add(await websocket.receive_str())

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(ask, number)
    assert answers == {f"CLIENT {number}" for number in range(5)}
    assert server.accepted == 5


@has_sockets
async def test_a_client_that_stays(server: Server) -> None:
    async with session(server) as client, client.ws_connect("/ws") as websocket:
        await websocket.send_str("hello")
        assert await websocket.receive_str() == "HELLO"
        await server.stop(grace=0)
        assert (await websocket.receive()).type in ENDS


async def test_it_ends_with_a_client_that_stays(server: Server) -> None:
    client = await server.connect()
    await client.send(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n")
    answer = b""
    while b"first" not in answer:
        answer += await client.receive()


@has_sockets
async def test_a_reset_in_the_middle_of_an_answer(harness: Harness, server: Server) -> None:
    proxy = await harness.proxy(server)
    async with session(proxy) as client:
        async with client.get("/endless") as response:
            assert await response.content.readany() == b"first"
            await proxy.reset_all()
            with pytest.raises((ClientPayloadError, OSError)):
                await response.content.readany()
        async with client.post("/", data=b"hello") as response:
            assert await response.read() == b"hello"


async def serve(sock: socket.socket, ssl_context: SSLContext | None) -> None:
    runner = web.AppRunner(application(), handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.SockSite(runner, sock, ssl_context=ssl_context).start()
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await runner.cleanup()


@has_sockets
async def test_its_own_site(harness: Harness) -> None:
    """aiohttp accepts by itself, and its client stays."""
    context = harness.transport.server_ssl_context
    server = await harness.serve(Bound(serve, ssl_context=context))
    async with session(server) as client, client.ws_connect("/ws") as websocket:
        async with client.post("/", data=b"hello") as response:
            assert await response.read() == b"hello"
        await websocket.send_str("hello")
        assert await websocket.receive_str() == "HELLO"
        await server.stop()
        assert (await websocket.receive()).type in ENDS
