"""trio-websocket, client and server, both on trio only."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest
import trio
from trio_websocket import (
    ConnectionClosed,
    HandshakeError,
    WebSocketConnection,
    WebSocketRequest,
    open_websocket_url,
    serve_websocket,
)

from harness import Harness, Server
from harness.adapters import Main
from harness.faults import Proxy

pytestmark = pytest.mark.harness(
    transports=["tcp", "tls", "tcp6"],
    backends=["trio"],
    # A client whose server has gone does not close its stream (0.12.2): docs/upstream-bugs.md
    allow_leaks=["socket"],
)


async def shout(request: WebSocketRequest) -> None:
    websocket = await request.accept()
    try:
        while True:
            await websocket.send_message((await websocket.get_message()).upper())
    except ConnectionClosed:
        pass


@pytest.fixture
async def server(harness: Harness) -> Server:
    host = "::1" if harness.transport.name == "tcp6" else "127.0.0.1"
    context = harness.transport.server_ssl_context
    main = Main(
        serve_websocket, shout, host, 0, context, endpoint=lambda server: (host, server.port)
    )
    return await harness.serve(main)


def connect(
    harness: Harness, server: Server | Proxy
) -> AbstractAsyncContextManager[WebSocketConnection]:
    if harness.transport.name == "tls":
        return open_websocket_url(server.url("wss"), server.client_ssl_context)
    return open_websocket_url(server.url("ws"))


async def test_round_trips(harness: Harness, server: Server) -> None:
    async with connect(harness, server) as websocket:
        await websocket.send_message("hello")
        assert await websocket.get_message() == "HELLO"
        await websocket.send_message(b"x" * 100_000)
        assert await websocket.get_message() == b"X" * 100_000


async def test_several_clients(harness: Harness, server: Server) -> None:
    answers = set()

    async def ask(number: int) -> None:
        async with connect(harness, server) as websocket:
            await websocket.send_message(f"client {number}")
            answers.add(await websocket.get_message())

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(ask, number)
    assert answers == {f"CLIENT {number}" for number in range(5)}


async def test_a_client_that_stays(harness: Harness, server: Server) -> None:
    async with connect(harness, server) as websocket:
        await websocket.send_message("hello")
        assert await websocket.get_message() == "HELLO"
        await server.stop()
        with pytest.raises(ConnectionClosed):
            await websocket.get_message()
        with pytest.raises(HandshakeError):
            await connect(harness, server).__aenter__()
    await server.restart()


async def test_a_reset(harness: Harness, server: Server) -> None:
    proxy = await harness.proxy(server)
    async with connect(harness, proxy) as websocket:
        await websocket.send_message("hello")
        assert await websocket.get_message() == "HELLO"
        await proxy.reset_all()
        with pytest.raises(ConnectionClosed):
            await websocket.get_message()
    assert not server.errors
