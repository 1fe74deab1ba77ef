"""httpx-ws, a WebSocket client on AnyIO and httpx; Anycorn and Starlette serve it."""

from __future__ import annotations

import anyio
import pytest
from httpx_ws import WebSocketDisconnect, WebSocketNetworkError, aconnect_ws
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from harness import Harness, Server
from harness.adapters import ASGI

pytestmark = pytest.mark.harness(transports=["tcp", "unix", "tls", "memory", "tcp6"])


async def shout(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text.upper())


@pytest.fixture
async def server(harness: Harness) -> Server:
    return await harness.serve(ASGI(Starlette(routes=[WebSocketRoute("/ws", shout)])))


async def test_round_trips(server: Server) -> None:
    async with server.http_client() as client, aconnect_ws("/ws", client) as websocket:
        for text in ("hello", "x" * 50_000):
            await websocket.send_text(text)
            assert await websocket.receive_text() == text.upper()


async def test_several_clients(server: Server) -> None:
    answers = set()

    async def ask(number: int) -> None:
        async with server.http_client() as client, aconnect_ws("/ws", client) as websocket:
            await websocket.send_text(f"client {number}")
            answers.add(await websocket.receive_text())

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(ask, number)
    assert answers == {f"CLIENT {number}" for number in range(5)}


async def test_a_reset(harness: Harness, server: Server) -> None:
    proxy = await harness.proxy(server)
    async with proxy.http_client() as client, aconnect_ws("/ws", client) as websocket:
        await websocket.send_text("hello")
        assert await websocket.receive_text() == "HELLO"
        await proxy.reset_all()
        with pytest.raises((WebSocketNetworkError, WebSocketDisconnect)):
            await websocket.receive_text()
    assert not server.errors
