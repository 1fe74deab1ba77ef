"""HTTP clients: one request is the same over every transport, through proxies, and to any shape."""

from __future__ import annotations

import subprocess
import sys

import anyio
import httpcore
import httpx
import pytest
from hypertext import http

from harness import Harness, open_harness
from harness.adapters import Connector
from harness.faults import Latency, ResetPeer

ALL = ["tcp", "tcp6", "unix", "tls", "memory"]
everywhere = pytest.mark.harness(transports=ALL)


@http
async def mirror(request, body):
    """The request's first line, its host, and its body."""
    host = dict(request.headers)[b"host"]
    return b" ".join([request.method, request.target, host, body])


def is_on(harness: Harness, *names: str) -> bool:
    return harness.transport.name in names


@everywhere
async def test_a_request(harness):
    server = await harness.serve(mirror)
    async with server.http_client() as client:
        response = await client.post("/path?a=1", content=b"body")
    host = "localhost" if is_on(harness, "unix") else server.url("http").removeprefix("http://")
    assert response.content == f"POST /path?a=1 {host} body".encode()
    scheme = "https" if is_on(harness, "tls") else "http"
    assert str(response.url) == f"{scheme}://{host}/path?a=1"


@everywhere
async def test_one_connection_serves_many_requests(harness):
    server = await harness.serve(mirror)
    async with server.http_client() as client:
        for _ in range(3):
            assert (await client.get("/")).status_code == 200
        assert server.accepted == 1
        (connection,) = server.connections
        assert connection.bytes_in > 0
    await server.wait_connections(0)


@everywhere
async def test_a_client_that_is_left_open(harness):
    """The end of the test closes what is idle; nothing is left and nobody fails."""
    server = await harness.serve(mirror)
    client = server.http_client()
    await client.get("/")
    assert len(server.connections) == 1


@everywhere
async def test_a_response_that_is_left_in_the_middle(harness):
    async def large(stream):
        await stream.receive()
        await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx")
        await anyio.sleep_forever()

    server = await harness.serve(large)
    client = server.http_client()
    request = client.build_request("GET", "/")
    response = await client.send(request, stream=True)
    assert response.status_code == 200


@everywhere
async def test_the_connections_are_those_of_the_harness(harness):
    server = await harness.serve(mirror)
    async with server.http_client() as client:
        await client.get("/")
        local = next(iter(harness._streams)).connection.local_address
        assert [each.remote_address for each in server.connections] == [local]
    assert not harness._streams


@everywhere
async def test_through_a_proxy(harness):
    server = await harness.serve(mirror, expect=anyio.BrokenResourceError)
    proxy = await harness.proxy(server)
    async with proxy.http_client() as client:
        response = await client.get("/")
        assert response.status_code == 200
        assert len(proxy.connections) == 1
        if not is_on(harness, "unix"):
            assert response.url.port == proxy.port
        await proxy.reset_all()
        await harness.settle()
        # The pool sees that its connection is gone, and makes another one.
        assert (await client.get("/")).status_code == 200
        proxy.add(ResetPeer(after=0))
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await client.get("/")


@everywhere
async def test_a_client_after_a_restart(harness):
    server = await harness.serve(mirror)
    async with server.http_client() as client:
        await client.get("/")
        await server.restart()
        await harness.settle()
        assert (await client.get("/")).status_code == 200


@everywhere
async def test_a_server_that_is_stopped(harness):
    server = await harness.serve(mirror)
    await server.stop()
    async with server.http_client() as client:
        with pytest.raises(httpx.ConnectError, match="is stopped"):
            await client.get("/")


@everywhere
async def test_a_server_that_hangs_up(harness):
    async def silent(stream):
        await stream.receive()

    server = await harness.serve(silent)
    async with server.http_client() as client:
        with pytest.raises(httpx.RemoteProtocolError, match="disconnected without"):
            await client.get("/")


@everywhere
async def test_a_body_that_is_cut_off(harness):
    async def cut(stream):
        await stream.receive()
        await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx")

    server = await harness.serve(cut)
    async with server.http_client() as client, client.stream("GET", "/") as response:
        assert response.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            await response.aread()


@everywhere
@pytest.mark.usefixtures("virtual_clock")
async def test_time_outs_are_those_of_virtual_time(harness):
    async def never(stream):
        await stream.receive()
        await anyio.sleep_forever()

    server = await harness.serve(never)
    async with server.http_client(timeout=300) as client:
        start = anyio.current_time()
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/")
        assert anyio.current_time() - start == 300


@pytest.mark.harness(transports=["memory"])
@pytest.mark.usefixtures("virtual_clock")
async def test_a_connection_that_takes_too_long(harness):
    server = await harness.serve(mirror)

    class Far(anyio.abc.ByteStreamConnectable):
        async def connect(self):
            await anyio.sleep(20)
            return await server.connect()

    pool = httpcore.AsyncConnectionPool(network_backend=Connector(Far()))
    async with pool:
        with pytest.raises(httpcore.ConnectTimeout):
            await pool.request("GET", "http://far/", extensions={"timeout": {"connect": 19}})
        response = await pool.request("GET", "http://far/", extensions={"timeout": {"connect": 21}})
        assert response.content == b"GET / far "


@pytest.mark.harness(transports=["memory"])
@pytest.mark.usefixtures("virtual_clock")
async def test_a_write_that_takes_too_long(harness):
    async def deaf(stream):
        await anyio.sleep_forever()

    server = await harness.serve(deaf)
    async with server.http_client(timeout=7) as client:
        start = anyio.current_time()
        with pytest.raises(httpx.WriteTimeout):
            await client.post("/", content=b"x" * 10_000_000)
        assert anyio.current_time() - start == 7


@pytest.mark.harness(transports=["memory"])
@pytest.mark.usefixtures("virtual_clock")
async def test_a_slow_link(harness):
    server = await harness.serve(mirror)
    proxy = await harness.proxy(server, Latency(2))
    async with proxy.http_client() as client:
        start = anyio.current_time()
        await client.get("/")
        assert anyio.current_time() - start == 2


@everywhere
async def test_any_host_is_this_server(harness):
    server = await harness.serve(mirror)
    async with server.http_client(base_url="http://example.com:81/api/") as client:
        response = await client.get("x")
    assert response.content == b"GET /api/x example.com:81 "


@everywhere
async def test_a_pool_of_httpcore(harness):
    server = await harness.serve(mirror)
    async with httpcore.AsyncConnectionPool(network_backend=Connector(server)) as pool:
        response = await pool.request("GET", "http://example.com/")
        assert response.content == b"GET / example.com "
    async with httpcore.AsyncConnectionPool(
        network_backend=Connector(server), uds="/nowhere"
    ) as pool:
        assert (await pool.request("GET", "http://example.com/")).status == 200


@everywhere
async def test_what_httpcore_asks_of_a_stream(harness):
    server = await harness.serve(mirror)
    async with server.http_client() as client, client.stream("GET", "/") as response:
        stream = response.extensions["network_stream"]
        assert (stream.get_extra_info("ssl_object") is not None) == is_on(harness, "tls")
        if not is_on(harness, "unix"):
            assert stream.get_extra_info("server_addr")[:2] == server.address
            assert stream.get_extra_info("client_addr") is not None
        assert stream.get_extra_info("socket") is not None
        assert stream.get_extra_info("weather") is None
        await response.aread()


@pytest.mark.harness(transports=["memory"])
async def test_options(harness):
    server = await harness.serve(mirror)
    async with server.http_client(
        headers={"host": "h"}, limits=httpx.Limits(max_connections=1)
    ) as client:
        assert (await client.get("/")).content == b"GET / h "
    for option in ("verify", "cert", "proxy", "transport", "mounts"):
        with pytest.raises(TypeError, match=f"takes no {option}: the way to the server"):
            server.http_client(**{option: None})
    with pytest.raises(TypeError, match="unexpected keyword"):
        server.http_client(colour="red")
    with pytest.raises(TypeError, match=r"expects a Server or another .*, not 'server'"):
        Connector("server")  # type: ignore[arg-type]


@pytest.mark.harness(transports=["memory"])
async def test_without_httpx(harness, monkeypatch):
    server = await harness.serve(mirror)
    monkeypatch.delitem(sys.modules, "harness.adapters.http", raising=False)
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ModuleNotFoundError, match=r"httpx: pip install anyio-harness\[http\]"):
        server.http_client()


@pytest.mark.harness(transports=["memory"])
async def test_after_the_end():
    async with open_harness(transport="memory") as harness:
        server = await harness.serve(mirror)
    with pytest.raises(RuntimeError, match="this harness is closed"):
        server.http_client()


def test_nothing_optional_is_imported_before_it_is_used():
    code = (
        "import sys, harness, harness.adapters\n"
        "found = {'httpx', 'httpcore', 'anycorn', 'hypercorn', 'uvicorn'} & set(sys.modules)\n"
        "assert not found, found\n"
        "from harness.adapters import ASGI\n"
        "found = {'httpx', 'httpcore', 'anycorn', 'hypercorn', 'uvicorn'} & set(sys.modules)\n"
        "assert not found, found\n"
        "assert set(harness.adapters.__all__) <= set(dir(harness.adapters))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
