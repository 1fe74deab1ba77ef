"""The web server under a real client: httpx over tcp, tls and unix."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from anyio import Event, create_task_group
from webserver import Request, Response, WebServer

from harness import Harness, Server

pytestmark = pytest.mark.harness(transports=["tcp", "tls", "unix"])


@asynccontextmanager
async def http_client(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """httpx, set up for the transport of ``server``."""
    transport, url = None, "http://localhost"
    if server.transport.name == "unix":
        transport = httpx.AsyncHTTPTransport(uds=server.path)
    elif server.transport.name == "tls":
        transport = httpx.AsyncHTTPTransport(verify=server.client_ssl_context)
        url = server.url("https")
    else:
        url = server.url("http")
    # No time-out: a machine that is slow today must not fail a test. No environment: a proxy would
    # be asked for the server.
    async with httpx.AsyncClient(
        base_url=url, transport=transport, timeout=None, trust_env=False
    ) as client:
        yield client


async def hello(request: Request) -> Response:
    return Response(b"hello\n", headers={"Content-Type": "text/plain"})


async def echo(request: Request) -> Response:
    return Response(request.body)


async def test_get(harness: Harness) -> None:
    server = await harness.serve(WebServer({"GET /": hello}))

    async with http_client(server) as client:
        response = await client.get("/?query=ignored")

    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain"
    assert response.text == "hello\n"


async def test_requests_share_a_connection(harness: Harness) -> None:
    server = await harness.serve(WebServer({"GET /": hello, "POST /": echo}))

    async with http_client(server) as client:
        for number in range(3):
            assert (await client.get("/")).text == "hello\n"
            assert (await client.post("/", content=b"%d" % number)).content == b"%d" % number
        assert server.accepted == 1
        assert len(server.connections) == 1
    await server.wait_connections(0)


@pytest.mark.parametrize("size", [0, 1, 300_000])
async def test_body_comes_back(harness: Harness, size: int) -> None:
    server = await harness.serve(WebServer({"POST /": echo}))
    body = bytes(range(256)) * (size // 256) + b"!" * (size % 256)

    async with http_client(server) as client:
        assert (await client.post("/", content=body)).content == body


async def test_chunked_request(harness: Harness) -> None:
    server = await harness.serve(WebServer({"POST /": echo}))

    async def upload() -> AsyncGenerator[bytes, None]:
        for part in (b"one ", b"two ", b"three"):
            yield part

    async with http_client(server) as client:
        response = await client.post("/", content=upload())

    assert response.request.headers["transfer-encoding"] == "chunked"
    assert response.content == b"one two three"


async def test_chunks_are_sent_as_they_are_made(harness: Harness) -> None:
    first_has_arrived = Event()

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"first"
        await first_has_arrived.wait()  # a server that collected the body would stay here
        yield b"second"

    async def stream(request: Request) -> Response:
        return Response(chunks())

    server = await harness.serve(WebServer({"GET /": stream}))

    async with http_client(server) as client:
        async with client.stream("GET", "/") as response:
            assert response.headers["transfer-encoding"] == "chunked"
            received = response.aiter_raw()
            assert await anext(received) == b"first"
            first_has_arrived.set()
            assert [chunk async for chunk in received] == [b"second"]
        assert (await client.get("/nowhere")).status_code == 404  # the connection is still good
        assert server.accepted == 1


@pytest.mark.parametrize("path", ["/plain", "/chunked"])
async def test_head_has_no_body(harness: Harness, path: str) -> None:
    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"chunk"

    async def chunked(request: Request) -> Response:
        return Response(chunks())

    server = await harness.serve(WebServer({"GET /plain": hello, "GET /chunked": chunked}))

    async with http_client(server) as client:
        head = await client.head(path)
        get = await client.get(path)  # on the same connection: a body would be in its way
        assert server.accepted == 1

    assert head.status_code == 200
    assert head.content == b""
    for name in ("content-length", "transfer-encoding"):
        assert head.headers.get(name) == get.headers.get(name)
    assert get.content


async def test_not_found_and_not_allowed(harness: Harness) -> None:
    server = await harness.serve(WebServer({"GET /": hello, "POST /": echo}))

    async with http_client(server) as client:
        not_found = await client.get("/nowhere")
        not_allowed = await client.delete("/")
        assert server.accepted == 1

    assert not_found.status_code == 404
    assert not_allowed.status_code == 405
    assert not_allowed.headers["allow"] == "GET, POST"


async def test_connections_are_served_at_the_same_time(harness: Harness) -> None:
    everybody = 8
    waiting = 0
    complete = Event()

    async def meet(request: Request) -> Response:
        nonlocal waiting
        waiting += 1
        if waiting == everybody:
            complete.set()
        await complete.wait()
        return Response(b"met")

    server = await harness.serve(WebServer({"GET /": meet}))

    async def visit(client: httpx.AsyncClient) -> None:
        assert (await client.get("/")).content == b"met"

    async with http_client(server) as client, create_task_group() as tasks:
        for _ in range(everybody):
            tasks.start_soon(visit, client)
    assert server.accepted == everybody


async def test_bug_in_a_route_is_a_500_and_is_told(harness: Harness) -> None:
    async def buggy(request: Request) -> Response:
        raise LookupError("a bug")

    server = await harness.serve(WebServer({"GET /": buggy}), expect=LookupError)

    async with http_client(server) as client:
        assert (await client.get("/")).status_code == 500
    await server.wait_connections(0)
    assert [str(error) for error in server.errors] == ["a bug"]


async def test_client_that_leaves_a_long_response(harness: Harness) -> None:
    closed = Event()

    async def endless() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"x" * 65536
        finally:
            closed.set()

    async def stream(request: Request) -> Response:
        return Response(endless())

    server = await harness.serve(WebServer({"GET /": stream}))

    async with http_client(server) as client, client.stream("GET", "/") as response:
        assert response.status_code == 200
    await server.wait_connections(0)
    assert closed.is_set()
