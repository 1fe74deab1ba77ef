"""The Model Context Protocol's client and server: lines as on standard output, and HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import httpx2
import mcp_types
import pytest
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.message import SessionMessage

from harness import Harness, Server
from harness.adapters import ASGI
from harness.faults import Proxy

pytestmark = pytest.mark.harness(transports=["tcp", "unix", "tls", "memory", "tcp6"])

GONE = (
    anyio.EndOfStream,
    anyio.IncompleteRead,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
)


@asynccontextmanager
async def lines(stream: ByteStream) -> AsyncIterator[tuple[Any, Any]]:
    """A message a line, as the protocol has it on standard input and output."""
    incoming, read = anyio.create_memory_object_stream[Any]()
    write, outgoing = anyio.create_memory_object_stream[Any]()
    buffered = BufferedByteReceiveStream(stream)

    async def receive() -> None:
        async with incoming:
            try:
                while True:
                    line = await buffered.receive_until(b"\n", 1_000_000)
                    message = mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False)
                    await incoming.send(SessionMessage(message))
            except GONE:
                pass

    async def send() -> None:
        async with outgoing:
            try:
                async for each in outgoing:
                    text = each.message.model_dump_json(by_alias=True, exclude_unset=True)
                    await stream.send(text.encode() + b"\n")
            except GONE:
                pass

    async with read, write, anyio.create_task_group() as tasks:
        tasks.start_soon(receive)
        tasks.start_soon(send)
        yield read, write
        tasks.cancel_scope.cancel()


def calculator() -> MCPServer:
    server = MCPServer("calculator")

    @server.tool()
    def add(a: int, b: int) -> int:
        return a + b

    @server.tool()
    async def wait(context: Context) -> str:
        await context.report_progress(1)  # to those who asked for it
        await anyio.sleep_forever()
        return "never"

    return server


async def serve_lines(stream: ByteStream) -> None:
    server = calculator()._lowlevel_server
    async with lines(stream) as (read, write):
        await server.run(read, write, server.create_initialization_options())


@pytest.fixture
async def server(harness: Harness) -> Server:
    return await harness.serve(serve_lines)


class Body(httpx2.AsyncByteStream):
    """The body of a response of httpx, for httpx2."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._response.aiter_raw():
                yield part
        except httpx.TransportError as exc:
            raise getattr(httpx2, type(exc).__name__)(str(exc)) from exc

    async def aclose(self) -> None:
        await self._response.aclose()


class ByHttpx(httpx2.AsyncBaseTransport):
    """Sends what httpx2, which mcp 2 has taken the place of httpx with, asks for by httpx."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        asked = httpx.Request(
            request.method,
            str(request.url),
            headers=request.headers.raw,
            content=await request.aread(),
        )
        try:
            response = await self._client.send(asked, stream=True)
        except httpx.TransportError as exc:
            raise getattr(httpx2, type(exc).__name__)(str(exc)) from exc
        return httpx2.Response(
            response.status_code, headers=response.headers.raw, stream=Body(response)
        )


@asynccontextmanager
async def http_client(server: Server | Proxy) -> AsyncIterator[Client]:
    async with server.http_client(timeout=None) as client:
        by_httpx = httpx2.AsyncClient(transport=ByHttpx(client), timeout=None, trust_env=False)
        url = str(client.base_url.join("/mcp"))
        async with by_httpx, Client(streamable_http_client(url, http_client=by_httpx)) as each:
            yield each


@pytest.fixture
async def http_server(harness: Harness) -> Server:
    # Its default are the hosts with a port, and a unix socket or memory has none.
    security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    return await harness.serve(ASGI(calculator().streamable_http_app(transport_security=security)))


async def added(client: Client, a: int, b: int) -> Any:
    result = await client.call_tool("add", {"a": a, "b": b})
    return result.structured_content["result"]


@asynccontextmanager
async def in_the_middle_of_a_call(client: Client) -> AsyncIterator[None]:
    """A call of which there is some progress, and that fails by what is done meanwhile."""
    begun = anyio.Event()

    async def note(progress: float, total: float | None, message: str | None) -> None:
        begun.set()

    async def ask() -> None:
        with pytest.raises(MCPError) as failed:
            await client.call_tool("wait", {}, progress_callback=note)
        assert failed.value.code == mcp_types.CONNECTION_CLOSED

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await begun.wait()
        yield


async def test_over_streams(server: Server) -> None:
    async with Client(lines(await server.connect())) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == {"add", "wait"}
        assert await added(client, 2, 3) == 5


async def test_several_clients(server: Server) -> None:
    answers = set()

    async def ask(number: int) -> None:
        async with Client(lines(await server.connect())) as client:
            answers.add(await added(client, number, 100))

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(ask, number)
    assert answers == {100, 101, 102}


async def test_a_client_that_stays(server: Server) -> None:
    """It waits for an answer that never comes, and the server is stopped."""
    async with Client(lines(await server.connect())) as client:
        assert await added(client, 2, 3) == 5
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                with pytest.raises(Exception, match="closed"):
                    await client.call_tool("wait", {})

            tasks.start_soon(ask)
            await server.stop(grace=0)


@pytest.mark.parametrize("how", ["reset_all", "disconnect_all"])
async def test_a_cut_in_the_middle_of_a_call(harness: Harness, server: Server, how: str) -> None:
    proxy = await harness.proxy(server)
    async with Client(lines(await proxy.connect())) as client:
        async with in_the_middle_of_a_call(client):
            await getattr(proxy, how)()
        await server.wait_connections(0)
    async with Client(lines(await proxy.connect())) as client:
        assert await added(client, 2, 3) == 5
    assert not server.errors


# HTTP


async def test_over_http(http_server: Server) -> None:
    async with http_client(http_server) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == {"add", "wait"}
        assert await added(client, 2, 3) == 5
    assert http_server.accepted


async def test_several_clients_over_http(http_server: Server) -> None:
    answers = set()

    async def ask(number: int) -> None:
        async with http_client(http_server) as client:
            answers.add(await added(client, number, 100))

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(ask, number)
    assert answers == {100, 101, 102}


async def test_a_client_that_stays_over_http(http_server: Server) -> None:
    """The server is stopped; the client finds out when it wants something, and says so."""
    with pytest.RaisesGroup(httpx2.ConnectError, flatten_subgroups=True):
        async with http_client(http_server) as client:
            assert await added(client, 2, 3) == 5
            await http_server.stop(grace=0)
            await added(client, 2, 3)


@pytest.mark.parametrize("how", ["reset_all", "disconnect_all"])
async def test_a_cut_in_the_middle_of_an_answer_over_http(
    harness: Harness, http_server: Server, how: str
) -> None:
    """The call fails, and no other: the next one has a connection of its own."""
    proxy = await harness.proxy(http_server)
    async with http_client(proxy) as client:
        async with in_the_middle_of_a_call(client):
            await getattr(proxy, how)()
        assert await added(client, 2, 3) == 5
    assert not http_server.errors


@pytest.mark.xfail(
    strict=True,
    raises=pytest.RaisesGroup(httpx2.TransportError, flatten_subgroups=True),
    reason="mcp 2.3.0 cancels all calls of the client: docs/upstream-bugs.md",
)
async def test_a_reset_before_an_answer_over_http(harness: Harness, http_server: Server) -> None:
    """The same, of a call that the server has said nothing to."""
    proxy = await harness.proxy(http_server)
    async with http_client(proxy) as client:
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                with pytest.raises(MCPError):
                    await client.call_tool("wait", {})

            tasks.start_soon(ask)
            await harness.settle()
            await proxy.reset_all()
        assert await added(client, 2, 3) == 5
