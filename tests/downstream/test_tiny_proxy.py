"""tiny-proxy, HTTP and SOCKS proxies on AnyIO, and python-socks, a client for them."""

from __future__ import annotations

import anyio
import pytest
from anyio.abc import ByteStream
from python_socks import ProxyError
from python_socks.async_.anyio import Proxy
from tiny_proxy import HttpProxyHandler, Socks4ProxyHandler, Socks5ProxyHandler

from harness import Harness, Server

#: The client connects to the proxy by itself, and the proxy to the server.
pytestmark = pytest.mark.harness(transports=["tcp"])

HANDLERS = {"http": HttpProxyHandler, "socks4": Socks4ProxyHandler, "socks5": Socks5ProxyHandler}


async def shout(stream: ByteStream) -> None:
    async for data in stream:
        await stream.send(data.upper())


@pytest.fixture
async def server(harness: Harness) -> Server:
    return await harness.serve(shout)


@pytest.fixture(params=HANDLERS)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def middle(harness: Harness, scheme: str) -> Server:
    return await harness.serve(HANDLERS[scheme](), name="the proxy")


async def test_round_trips(server: Server, middle: Server, scheme: str) -> None:
    stream = await Proxy.from_url(middle.url(scheme)).connect(server.host, server.port)
    for data in (b"hello", b"again"):
        await stream.send(data)
        assert await stream.receive() == data.upper()
    await stream.aclose()
    await server.wait_connections(0)
    await middle.wait_connections(0)


async def test_several_clients(server: Server, middle: Server, scheme: str) -> None:
    answers = set()

    async def ask(number: int) -> None:
        stream = await Proxy.from_url(middle.url(scheme)).connect(server.host, server.port)
        await stream.send(b"client %d" % number)
        answers.add(await stream.receive())
        await stream.aclose()

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(ask, number)
    assert answers == {b"CLIENT %d" % number for number in range(5)}


async def test_nobody_is_there(server: Server, middle: Server, scheme: str) -> None:
    await server.stop()
    with pytest.raises(ProxyError):
        await Proxy.from_url(middle.url(scheme)).connect(server.host, server.port)
    await middle.wait_connections(0)


async def test_a_client_that_stays(server: Server, middle: Server, scheme: str) -> None:
    stream = await Proxy.from_url(middle.url(scheme)).connect(server.host, server.port)
    await stream.send(b"hello")
    assert await stream.receive() == b"HELLO"
    await middle.stop(grace=0)
    await server.wait_connections(0)
    await stream.aclose()
