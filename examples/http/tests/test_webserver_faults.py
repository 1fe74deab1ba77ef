"""Broken ways: what the server survives, and what httpx makes of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx
import pytest
from anyio import (
    BrokenResourceError,
    EndOfStream,
    create_task_group,
    sleep,
    sleep_forever,
)
from test_webserver_time import http_client
from webserver import Request, Response, WebClient, WebServer

from harness import Harness, VirtualClock
from harness.faults import Bandwidth, FirstConnections, Latency, LimitData, Slicer

#: Where a client of its own gets to.
httpx_can = pytest.mark.harness(transports=["tcp", "tls", "unix"])


async def hello(request: Request) -> Response:
    return Response(b"hello\n")


async def echo(request: Request) -> Response:
    return Response(request.body)


async def endless(request: Request) -> Response:
    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"first"
        await sleep_forever()

    return Response(chunks())


ROUTES = {"GET /": hello, "POST /": echo, "GET /endless": endless}


@httpx_can
async def test_httpx_sees_a_reset_in_the_middle_of_an_answer(harness: Harness) -> None:
    server = await harness.serve(WebServer(ROUTES))
    proxy = await harness.proxy(server)

    async with http_client(harness, proxy) as client:
        async with client.stream("GET", "/endless") as response:
            received = response.aiter_raw()
            assert await anext(received) == b"first"
            await proxy.reset_all()
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
                await anext(received)
        assert (await client.get("/")).text == "hello\n"
    assert proxy.accepted == 2
    assert not server.errors


@httpx_can
async def test_httpx_does_not_take_a_part_for_the_whole(harness: Harness) -> None:
    """All but the last byte of the body arrive; the next connection is a good one."""
    server = await harness.serve(WebServer(ROUTES))
    proxy = await harness.proxy(server)
    body = b"x" * 100_000

    async with http_client(harness, proxy) as client:
        assert (await client.post("/", content=body)).content == body
        (connection,) = proxy.connections
        proxy.add(LimitData(len(body)), when=FirstConnections(1))
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await client.post("/", content=body)
        assert connection.fired == {"LimitData": 1}
        assert (await client.post("/", content=body)).content == body
    assert not server.errors


@httpx_can
async def test_httpx_on_a_long_way(harness: Harness, virtual_clock: VirtualClock) -> None:
    """An answer takes one way there and one back, and no more of either."""
    server = await harness.serve(WebServer(ROUTES))
    proxy = await harness.proxy(server)

    async with http_client(harness, proxy, timeout=30) as client:
        await client.get("/")
        latency = proxy.add(Latency(10), direction="both")
        asked = virtual_clock.now
        assert (await client.post("/", content=b"x" * 100_000)).content == b"x" * 100_000
        assert virtual_clock.now == asked + 20

        latency.update(delay=15.5)
        asked = virtual_clock.now
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/")
        assert virtual_clock.now == asked + 30


@pytest.mark.harness(transports=["tcp", "unix"])  # of TLS, 16 kB come at once, or nothing does
async def test_httpx_waits_for_every_part_anew(
    harness: Harness, virtual_clock: VirtualClock
) -> None:
    """Its time-out of 5 s is for each receive: an answer that trickles may take for ever."""
    server = await harness.serve(WebServer(ROUTES))
    proxy = await harness.proxy(server)

    async with http_client(harness, proxy, timeout=5) as client:
        await client.get("/")
        proxy.add(Bandwidth(100))
        asked = virtual_clock.now
        assert (await client.post("/", content=b"x" * 6000)).content == b"x" * 6000
        assert virtual_clock.now > asked + 60


@httpx_can
async def test_httpx_connects_while_the_proxy_is_down(
    harness: Harness, virtual_clock: VirtualClock
) -> None:
    """Its pauses are 0, 0.5, 1 and 2 s; the server is back after 3 s."""
    proxy = await harness.proxy(await harness.serve(WebServer(ROUTES)))

    async def come_back() -> None:
        await sleep(3)
        await proxy.enable()

    async with http_client(harness, proxy) as client, create_task_group() as tasks:
        assert (await client.get("/")).text == "hello\n"
        await proxy.disable()
        tasks.start_soon(come_back)
        assert (await client.get("/")).text == "hello\n"
        assert virtual_clock.now == 3.5


@pytest.mark.parametrize("limit", [1, 20, 60])
async def test_a_request_that_is_cut_off(harness: Harness, limit: int) -> None:
    server = await harness.serve(WebServer(ROUTES))
    proxy = await harness.proxy(server)
    client = WebClient(stream := await proxy.connect())
    assert (await client.request("GET", "/")).body == b"hello\n"
    proxy.add(LimitData(limit), direction="upstream")

    with pytest.raises((EndOfStream, BrokenResourceError)):
        await stream.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 30\r\n\r\n" + b"x" * 30)
        while await stream.receive():
            pass
    await server.wait_connections(0)
    assert not server.errors


async def test_a_slow_reader_holds_up_nobody(harness: Harness, virtual_clock: VirtualClock) -> None:
    async def large(request: Request) -> Response:
        return Response(b"x" * 1_000_000)

    server = await harness.serve(WebServer({**ROUTES, "GET /large": large}), grace=0)
    proxy = await harness.proxy(server)
    slow = WebClient(await proxy.connect())
    await slow.request("GET", "/")
    proxy.add(Bandwidth(1000))

    async def read_slowly() -> None:
        reply = await slow.request("GET", "/large")
        assert reply.body == b"x" * 1_000_000
        assert 1000 <= virtual_clock.now < 1100

    async with create_task_group() as tasks:
        tasks.start_soon(read_slowly)
        quick = WebClient(await server.connect())
        for _ in range(10):
            assert len((await quick.request("GET", "/large")).body) == 1_000_000
        assert virtual_clock.now == 0


@pytest.mark.harness(transports=["tcp", "unix", "memory"])
async def test_bytes_one_by_one(harness: Harness) -> None:
    server = await harness.serve(WebServer(ROUTES))
    proxy = await harness.proxy(server)
    proxy.add(Slicer(1), direction="both")
    client = WebClient(await proxy.connect())
    assert (await client.request("GET", "/")).body == b"hello\n"
    assert (await client.request("POST", "/", body=b"one by one")).body == b"one by one"
