"""A proxy in a process that has no descriptor left: who connects is told, and the proxy goes on."""

from __future__ import annotations

import errno
import os
import resource
import socket
import sys
from contextlib import contextmanager

import anyio
import pytest
from anyio import BrokenResourceError, ConnectionFailed
from anyio.abc import Listener
from echoing import echo, is_answered
from plain import BOUND, ENDED, RESET, end_of, in_thread

from harness.descriptors import open_descriptors
from harness.faults import SlowAccept
from harness.faults.spare import Spare
from harness.settling import settle

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it has no such limit")

#: What an outside client sees that is reset; a unix socket has no RST.
REFUSED = {"tcp": RESET, "tls": RESET, "unix": ENDED}


@contextmanager
def left(count):
    """A block in which the process can open so many descriptors more, and no others."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_descriptors()) + 20, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                held.append(os.dup(2))
        for _ in range(count):
            os.close(held.pop())
        yield
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def socket_for(address):
    made = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    made.settimeout(BOUND)
    return made


async def is_up(proxy, server):
    """Whether a client is answered; of whom nothing is left then."""
    async with await proxy.connect() as client:
        answered = await is_answered(client)
    await proxy.wait_connections(0)
    await server.wait_connections(0)
    await settle()
    return answered


@pytest.mark.harness(transports=["tcp", "unix", "tls"])
@pytest.mark.parametrize("free", [0, 1])
async def test_an_outside_client_is_told(harness, free):
    """Nothing is left to accept it with, or nothing to connect to the server with."""
    server = await harness.serve(echo)
    proxy = await harness.proxy(server)
    assert await is_up(proxy, server)
    for number in range(2, 12):
        with socket_for(proxy.address) as sock, left(free):
            sock.connect(proxy.address)
            assert await in_thread(end_of, sock) == REFUSED[harness.transport.name]
        assert proxy.accepted == number
        await proxy.wait_connections(0)
        await settle()
    assert await is_up(proxy, server)


@pytest.mark.harness(transports=["tcp", "unix", "tls"])
async def test_a_reset_needs_none(harness):
    with socket.create_server(("127.0.0.1", 0)) as upstream:  # the kernel accepts
        proxy = await harness.proxy(await harness.serve(echo))
        proxy.set_upstream(upstream.getsockname())
        async with await proxy.connect():  # uvloop keeps a spare descriptor, too, from the first on
            await proxy.disconnect_all()
        await settle()
        with socket_for(proxy.address) as sock, left(2):
            sock.connect(proxy.address)
            await proxy.wait_connections(1)
            (connection,) = proxy.connections
            await connection._settled.wait()
            assert connection._server is not None
            await proxy.reset_all()
            assert await in_thread(end_of, sock) == REFUSED[harness.transport.name]


@pytest.mark.harness(transports=["tcp", "unix", "tls"])
@pytest.mark.parametrize(
    ("free", "says"),
    [
        (0, "cannot connect to <Proxy .*Too many open files"),
        # Over TCP the reset may come before connect() returns.
        (1, "refuses connection 2: .*Too many open files|reset by peer"),
        (2, "refuses connection 2: cannot connect to server .*Too many open files"),
    ],
)
async def test_a_client_of_the_harness_is_told(harness, free, says):
    server = await harness.serve(echo)
    proxy = await harness.proxy(server)
    assert await is_up(proxy, server)
    with left(free), pytest.raises(ConnectionFailed, match=says):
        await proxy.connect()
    await proxy.wait_connections(0)
    assert await is_up(proxy, server)


@pytest.mark.harness(transports=["tcp", "unix", "tls"])
async def test_all_who_wait_are_told_and_live_connections_go_on(harness):
    server = await harness.serve(echo)
    proxy = await harness.proxy(server)
    live = await proxy.connect()
    assert await is_answered(live)
    socks = [socket_for(proxy.address) for _ in range(30)]
    with left(0):
        for sock in socks:
            sock.connect(proxy.address)
        for sock in socks:
            assert await in_thread(end_of, sock) == REFUSED[harness.transport.name]
        assert proxy.accepted == 31
        assert await is_answered(live)
    for sock in socks:
        sock.close()
    assert len(proxy.connections) == 1
    await live.aclose()
    assert await is_up(proxy, server)


@pytest.mark.harness(transports=["memory"])
async def test_memory_needs_none(harness):
    server = await harness.serve(echo)
    proxy = await harness.proxy(server)
    before = open_descriptors()
    with left(0):
        assert await is_up(proxy, server)
        client = await proxy.connect()
    assert open_descriptors() == before
    await client.aclose()


@pytest.mark.harness(transports=["tcp", "unix"])
async def test_somebody_else_takes_the_spare_one(harness, virtual_clock, monkeypatch):
    """Then the client waits until there is one again."""
    server = await harness.serve(echo)
    proxy = await harness.proxy(server)
    assert await is_up(proxy, server)
    taken = []

    def let_go(spare):
        if not taken:
            original(spare)
            taken.append(os.dup(2))

    original = Spare._let_go
    monkeypatch.setattr(Spare, "_let_go", let_go)
    sock = socket_for(proxy.address)
    with left(0):
        sock.connect(proxy.address)
        await anyio.sleep(10)
        assert taken
        assert proxy.accepted == 1
    monkeypatch.undo()
    os.close(taken[0])
    await proxy.wait_connections(1)
    sock.close()
    await proxy.wait_connections(0)
    assert await is_up(proxy, server)


class Breaking(Listener):
    """A listener that raises once what it is told."""

    def __init__(self, listener, error):
        self._listener = listener
        self._errors = [error]

    async def serve(self, handler, task_group=None):
        while self._errors:
            await anyio.lowlevel.checkpoint()
            raise self._errors.pop()
        await self._listener.serve(handler, task_group)

    async def aclose(self):
        await self._listener.aclose()

    @property
    def extra_attributes(self):
        return self._listener.extra_attributes


def broken_by(error):
    broken = BrokenResourceError()
    broken.__cause__ = error
    return broken


@pytest.mark.parametrize("as_it_is", [True, False], ids=["as it is", "as AnyIO says it"])
@pytest.mark.parametrize("number", ["ECONNABORTED", "EPROTO", "ENFILE", "ENOBUFS", "ENOMEM"])
async def test_what_else_is_no_fault_of_a_listener(harness, number, as_it_is):
    """A client that has gone before it was accepted, where that is an error; a system in need."""
    server = await harness.serve(echo)
    proxy = await harness.proxy(server)
    await proxy.disable()
    error = OSError(getattr(errno, number), "not now")
    original = proxy._endpoint.listen_again

    async def listen_again():
        await original()
        listener = Breaking(proxy._endpoint.listener, error if as_it_is else broken_by(error))
        proxy._endpoint.listener = listener

    proxy._endpoint.listen_again = listen_again
    await proxy.enable()
    await settle()
    assert await is_up(proxy, server)


@pytest.mark.harness(transports=["tcp", "unix", "tls"])
async def test_a_connection_that_waits_is_not_affected(harness):
    """It has what it needs but for the way to the server, which is there again in time."""
    server = await harness.serve(echo)
    proxy = await harness.proxy(server, SlowAccept(0.001))
    with socket_for(proxy.address) as sock:
        with left(1):
            sock.connect(proxy.address)
            await proxy.wait_connections(1)
        assert len(proxy.connections) == 1
        if harness.transport.name != "tls":

            def ask():
                sock.sendall(b"x")
                return sock.recv(1)

            assert await in_thread(ask) == b"x"
    await proxy.wait_connections(0)
