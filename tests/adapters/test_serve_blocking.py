"""Servers for synchronous code: any backend, in a thread of its own."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import sys
import threading
import urllib.request

import anyio
import mains
import pytest

from harness import Backend
from harness.adapters import AsyncioStreams, Bound, Main, serve_blocking
from harness.faults import Latency

# libuv's, if it is the first event loop of uvloop in this process
pytestmark = pytest.mark.harness(allow_leaks=["file:pipe:*"])


@pytest.mark.parametrize("transport", ["tcp", "tcp6", "unix", "tls"])
def test_a_synchronous_client(backend, transport):
    with serve_blocking(mains.echo, backend=backend, transport=transport) as server:
        assert server.name == "echo"
        assert server.transport.name == transport
        with server.connect() as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"
            server.wait_connections(1)
            assert len(server.connections) == server.accepted == 1
        server.wait_connections(0)
    assert threading.active_count() == 1 or not [
        thread for thread in threading.enumerate() if "portal" in thread.name
    ]


def test_a_client_of_the_standard_library(backend):
    async def answer(stream):
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += await stream.receive()
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    with serve_blocking(answer, backend=backend) as server:
        with urllib.request.urlopen(server.url("http"), timeout=60) as response:
            assert response.read() == b"hello"
        assert server.url("http") == f"http://{server.host}:{server.port}"


def test_smtp(backend):
    async def greet(stream):
        await stream.send(b"220 here\r\n")
        async for _ in stream:
            await stream.send(b"221 bye\r\n")

    with (
        serve_blocking(greet, backend=backend) as server,
        smtplib.SMTP(server.host, server.port, timeout=60) as client,
    ):
        assert client.noop() == (221, b"bye")


def test_clients_that_stay(backend):
    with serve_blocking(mains.echo, backend=backend) as server:
        client = server.connect()
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"
    assert client.recv(100) == b""
    client.close()


def test_stop_restart_and_drop(backend):
    with serve_blocking(mains.echo, backend=backend) as server:
        address = server.address
        with server.connect() as client:
            server.wait_connections(1)
            server.drop_connections()
            assert client.recv(100) == b""
        server.stop(grace=0)
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        server.restart()
        assert server.address == address
        server.connect().close()


def test_shapes(backend):
    for shape in (Main(mains.reports_its_port), Bound(mains.on_a_socket)):
        with serve_blocking(shape, backend=backend) as server, server.connect() as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"


def test_a_proxy(backend):
    with serve_blocking(mains.echo, backend=backend, expect=anyio.BrokenResourceError) as server:
        proxy = server.proxy(Latency(0.001), seed=1)
        with socket.create_connection(proxy.address, timeout=60) as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"
            proxy.reset_all()
            with pytest.raises(ConnectionResetError):
                client.recv(100)
        proxy.call(proxy.inner.disable)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(proxy.address, timeout=60)


async def crash(stream):
    await stream.receive()
    raise LookupError("the handler crashed")


def test_a_crash_is_raised_at_the_end(backend):
    with (
        pytest.raises(LookupError, match="the handler crashed") as caught,
        serve_blocking(crash, backend=backend) as server,
        server.connect() as client,
    ):
        client.sendall(b"x")
        assert client.recv(100) == b""  # at once
    assert caught.traceback[-1].name == "crash"


def test_a_crash_that_the_client_fails_of(backend):
    with (
        pytest.raises(LookupError, match="the handler crashed") as caught,
        serve_blocking(crash, backend=backend) as server,
        server.connect() as client,
    ):
        client.sendall(b"x")
        if not client.recv(100):
            raise ConnectionError("no answer")
    assert caught.value.__notes__[-1] == (
        "(the block has then failed with ConnectionError('no answer'))"
    )
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_a_crash_that_is_expected(backend):
    with serve_blocking(crash, backend=backend, expect=LookupError, expect_required=True) as server:
        with server.connect() as client:
            client.sendall(b"x")
            assert client.recv(100) == b""
        server.wait_connections(0)
        assert [str(error) for error in server.errors] == ["the handler crashed"]


def test_what_the_block_raises(backend):
    with pytest.raises(ZeroDivisionError), serve_blocking(mains.echo, backend=backend):
        raise ZeroDivisionError


def test_ctrl_c_in_the_block(backend):
    with pytest.raises(KeyboardInterrupt), serve_blocking(mains.echo, backend=backend):
        raise KeyboardInterrupt


async def test_an_asyncio_peer_in_a_test_on_any_backend(anyio_backend):
    with serve_blocking(AsyncioStreams(mains.OfAsyncio().handle), backend="asyncio") as server:
        async with await anyio.connect_tcp(server.host, server.port) as client:
            await client.send(b"hello")
            assert await client.receive() == b"hello"


def test_a_backend_of_ones_own():
    loops = []

    def make():
        loop = asyncio.SelectorEventLoop()
        loops.append(loop)
        return loop

    with serve_blocking(
        mains.echo, backend=Backend("mine", "asyncio", {"loop_factory": make})
    ) as server:
        assert server.harness.backend == "mine"
    assert len(loops) == 1


def test_two_at_once():
    with (
        serve_blocking(mains.echo, backend="trio") as first,
        serve_blocking(
            mains.echo, backend="uvloop" if sys.platform != "win32" else "asyncio"
        ) as second,
        first.connect() as one,
        second.connect() as two,
    ):
        for client in (one, two):
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"backend": "twisted"},
            ValueError,
            "unknown backend 'twisted'; expected one of asyncio, ",
        ),
        ({"backend": 5}, TypeError, "backend has to be a name or a harness.Backend, not 5"),
        ({"backend": Backend("x", "asyncio", needs=("no_such",))}, RuntimeError, "needs 'no_such'"),
        ({"transport": "memory"}, ValueError, "cannot be reached from another thread; use 'tcp'"),
        ({"transport": "udp"}, ValueError, "unknown transport 'udp'"),
        ({"grace": -1}, ValueError, "grace must be a number of seconds"),
    ],
)
def test_what_it_cannot_use(options, error, message):
    with pytest.raises(error, match=message), serve_blocking(mains.echo, **options):
        raise AssertionError


def test_what_cannot_be_served():
    with pytest.raises(TypeError, match="expects an async function"), serve_blocking(5):
        raise AssertionError
