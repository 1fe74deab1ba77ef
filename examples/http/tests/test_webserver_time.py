"""What takes time: idle connections, and clients that try again. None of it takes any here."""

from __future__ import annotations

import anyio
import httpx
import pytest
from anyio import EndOfStream, sleep
from webserver import Request, Response, WebServer

from harness import Harness, Server, VirtualClock
from harness.faults import Proxy


async def hello(request: Request) -> Response:
    return Response(b"hello\n")


async def slow(request: Request) -> Response:
    await sleep(3600)
    return Response(b"at last\n")


async def test_an_idle_connection_is_closed(harness: Harness, virtual_clock: VirtualClock) -> None:
    server = await harness.serve(WebServer({"GET /": hello}, idle_timeout=300))
    async with await server.connect() as client:
        await sleep(299)
        await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        reply = b""
        while not reply.endswith(b"hello\n"):
            reply += await client.receive()
        assert virtual_clock.now == 299
        with pytest.raises(EndOfStream):
            await client.receive()
        assert virtual_clock.now == 599


async def test_a_request_that_trickles_in_is_too_late(
    harness: Harness, virtual_clock: VirtualClock
) -> None:
    server = await harness.serve(WebServer({"GET /": hello}, idle_timeout=10))
    async with await server.connect() as client:
        for byte in b"GET / HTTP":
            await client.send(bytes([byte]))
            await sleep(1.5)
            if virtual_clock.now > 10:
                break
        with pytest.raises(EndOfStream):
            await client.receive()


@pytest.mark.harness(transports=["tcp", "tls", "unix"])
async def test_httpx_waits_for_a_slow_answer_as_long_as_it_said(
    harness: Harness, virtual_clock: VirtualClock
) -> None:
    server = await harness.serve(WebServer({"GET /": slow}), grace=0)
    async with http_client(harness, server, timeout=30) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/")
        assert virtual_clock.now == 30
    async with http_client(harness, server, timeout=None) as client:
        assert (await client.get("/")).text == "at last\n"
        assert virtual_clock.now == 30 + 3600


@pytest.mark.harness(transports=["tcp", "tls", "unix"])
async def test_httpx_tries_to_connect_again(harness: Harness, virtual_clock: VirtualClock) -> None:
    """Its pauses are 0, 0.5, 1 and 2 s; the server is back after 3 s."""
    server = await harness.serve(WebServer({"GET /": hello}))
    await server.stop()

    async def come_back() -> None:
        await sleep(3)
        await server.restart()

    async with anyio.create_task_group() as group, http_client(harness, server) as client:
        group.start_soon(come_back)
        assert (await client.get("/")).text == "hello\n"
        assert virtual_clock.now == 3.5


def http_client(
    harness: Harness, server: Server | Proxy, *, timeout: float | None = None
) -> httpx.AsyncClient:
    """httpx, set up for a server on the test's transport, or a proxy in front of it."""
    options: dict[str, object] = {"retries": 5, "trust_env": False}
    url = "http://localhost"
    if harness.transport.name == "unix":
        options["uds"] = server.path
    elif harness.transport.name == "tls":
        options["verify"] = server.client_ssl_context
        url = server.url("https")
    else:
        url = server.url("http")
    return httpx.AsyncClient(
        base_url=url,
        transport=httpx.AsyncHTTPTransport(**options),  # type: ignore[arg-type]
        timeout=timeout,
    )
