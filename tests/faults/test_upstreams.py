"""What a proxy can stand in front of, and what it can be turned to later."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

import anyio
import pytest
from anyio import BrokenResourceError, ConnectionFailed, EndOfStream
from anyio.abc import ByteStreamConnectable
from anyio.streams.tls import TLSConnectable
from plain import Server, connect, context_of, echo, in_thread

from harness import Harness
from harness.faults import Latency
from harness.transports.tcp import TCPTransport
from harness.transports.temporary import remove_directory
from harness.transports.tls import TLSTransport, authority
from harness.transports.unix import UnixTransport, short_directory


async def answer(stream, by):
    async for data in stream:
        await stream.send(by + data)


def answering(by):
    async def handler(stream):
        await answer(stream, by)

    return handler


async def ask(proxy, message=b"?"):
    """What the server behind a proxy answers."""
    async with await proxy.connect() as client:
        await client.send(message)
        return await client.receive()


def ask_in_thread(proxy, message=b"?"):
    def asked():
        with connect(proxy.address, context_of(proxy)) as sock:
            sock.sendall(message)
            return sock.recv(100)

    return in_thread(asked)


@pytest.fixture
def plain_server():
    with Server(echo) as server:
        yield server


@pytest.fixture
def plain_unix_server():
    directory = short_directory()
    try:
        with Server(echo, os.path.join(directory, "s")) as server:
            yield server
    finally:
        remove_directory(directory)


# Each kind


async def test_a_server_of_the_harness(harness):
    server = await harness.serve(answering(b"!"))
    proxy = await harness.proxy(server)
    assert await ask(proxy) == b"!?"
    if harness.transport.name != "memory":
        assert await ask_in_thread(proxy) == b"!?"
    assert type(proxy.address) is type(server.address)
    assert proxy.address != server.address
    assert "in front of server 'handler'" in repr(proxy)


@pytest.mark.harness(transports=["tcp", "memory"])
@pytest.mark.parametrize("host", ["127.0.0.1", ipaddress.ip_address("127.0.0.1"), "localhost"])
async def test_a_host_and_a_port_outside_of_the_event_loop(harness, plain_server, host):
    proxy = await harness.proxy((host, plain_server.address[1]))
    assert proxy.host == "127.0.0.1"
    assert await ask(proxy, b"hello") == b"hello"
    assert await ask_in_thread(proxy, b"hello") == b"hello"


@pytest.mark.harness(transports=["unix", "tcp"])
@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
async def test_a_path_outside_of_the_event_loop(harness, plain_unix_server, kind):
    proxy = await harness.proxy(kind(plain_unix_server.address))
    assert proxy.path != plain_unix_server.address
    assert await ask(proxy, b"hello") == b"hello"
    assert await ask_in_thread(proxy, b"hello") == b"hello"


async def test_connectables_of_anyio(harness, plain_server, plain_unix_server):
    """It listens on the test's transport, without TLS, whatever the way behind it is."""
    for connectable in (
        anyio.TCPConnectable(*plain_server.address),
        anyio.UNIXConnectable(plain_unix_server.address),
    ):
        proxy = await harness.proxy(connectable)
        for _ in range(3):
            assert await ask(proxy, b"hello") == b"hello"
        if harness.transport.name != "memory":
            assert await ask_in_thread(proxy, b"hello") == b"hello"
        with pytest.raises(AttributeError, match="no TLS is passed through"):
            proxy.client_ssl_context  # noqa: B018


@pytest.mark.parametrize("compatible", [True, False])
async def test_tls_behind_a_proxy(harness, compatible):
    """The proxy's clients speak without TLS, and their end is one that TLS has a word for."""
    endings = []

    async def echo_and_note(stream):
        async for data in stream:
            await stream.send(data)
        endings.append("ended")

    transport = TLSTransport(standard_compatible=compatible)
    server = await harness.serve(echo_and_note, transport=transport)
    below = anyio.TCPConnectable(*server.address)
    proxy = await harness.proxy(
        TLSConnectable(
            below,
            hostname="127.0.0.1",
            ssl_context=authority().client_context,
            standard_compatible=compatible,
        )
    )
    for _ in range(3):
        assert await ask(proxy, b"hello") == b"hello"
    await proxy.wait_connections(0)
    await server.wait_connections(0)
    assert endings == ["ended"] * 3


@pytest.mark.parametrize("compatible", [True, False])
async def test_tls_behind_a_proxy_that_ends_first(harness, compatible):
    async def say_goodbye(stream):
        await stream.send(b"goodbye")
        await stream.aclose()

    transport = TLSTransport(standard_compatible=compatible)
    server = await harness.serve(say_goodbye, transport=transport)
    below = anyio.TCPConnectable(*server.address)
    connectable = TLSConnectable(
        below,
        hostname="127.0.0.1",
        ssl_context=authority().client_context,
        standard_compatible=compatible,
    )
    proxy = await harness.proxy(connectable)
    async with await proxy.connect() as client:
        assert await client.receive() == b"goodbye"
        with pytest.raises(EndOfStream):
            await client.receive()
    await proxy.wait_connections(0)


class OfOurs(ByteStreamConnectable):
    """Connects to a server of the harness, and counts."""

    def __init__(self, server):
        self.server = server
        self.count = 0

    async def connect(self):
        self.count += 1
        return await self.server.connect()


async def test_a_connectable_of_ones_own(harness):
    connectable = OfOurs(await harness.serve(answering(b"!")))
    proxy = await harness.proxy(connectable)
    for count in (1, 2):
        assert await ask(proxy) == b"!?"
        assert connectable.count == count


@pytest.mark.parametrize("error", [ConnectionRefusedError("no"), BrokenResourceError()])
async def test_a_connectable_that_refuses(harness, error):
    class Refusing(OfOurs):
        async def connect(self):
            raise error

    proxy = await harness.proxy(Refusing(None))
    with pytest.raises(ConnectionFailed, match=r"refuses connection 1: cannot connect to <.*Refus"):
        await proxy.connect()


# Chains


async def test_a_chain_of_three(harness):
    server = await harness.serve(answering(b"!"))
    inner = await harness.proxy(server, name="inner")
    middle = await harness.proxy(inner, name="middle")
    outer = await harness.proxy(middle, name="outer")
    assert len({str(each.address) for each in (server, inner, middle, outer)}) == 4
    assert await ask(outer) == b"!?"
    for each in (inner, middle, outer):
        await each.wait_connections(0)
    async with await outer.connect() as client:
        for each in (inner, middle, outer):  # at once: the way is open to its end
            (connection,) = each.connections
            assert connection.id == each.accepted == 2
        await client.send(b"x")
        assert await client.receive() == b"!x"
        await inner.disconnect_all()
        with pytest.raises(EndOfStream):
            await client.receive()
    for each in (inner, middle, outer):
        await each.wait_connections(0)
    if harness.transport.name == "tls":
        assert outer.client_ssl_context is server.client_ssl_context


@pytest.mark.parametrize("gone", ["server", "inner", "middle"])
async def test_a_chain_that_is_refused_at_its_end(harness, gone):
    server = await harness.serve(echo_back)
    inner = await harness.proxy(server, name="inner")
    middle = await harness.proxy(inner, name="middle")
    outer = await harness.proxy(middle, name="outer")
    await (
        server.stop() if gone == "server" else {"inner": inner, "middle": middle}[gone].disable()
    )
    with pytest.raises(ConnectionFailed, match=r"<Proxy 'outer' at .* refuses connection 1"):
        await outer.connect()
    for each in (inner, middle, outer):
        await each.wait_connections(0)


@pytest.mark.parametrize("inner_is_over", ["tcp", "unix", "memory"])
async def test_a_chain_is_over_what_the_proxy_before_it_is_over(harness, inner_is_over):
    """Not over what that stands in front of."""
    server = await harness.serve(answering(b"!"))
    inner = await harness.proxy(server, transport=inner_is_over)
    middle = await harness.proxy(inner)
    middle.set_upstream(server)  # it stays where it is
    outer = await harness.proxy(middle)
    for each in (inner, middle, outer):
        assert await ask(each) == b"!?"
        assert type(each._endpoint) is type(inner._endpoint)
        await each.disable()
        await each.enable()
        assert await ask(each) == b"!?"
    if harness.transport.name == "tls":
        assert outer.client_ssl_context is server.client_ssl_context


@pytest.mark.harness(transports=["tcp", "unix"])
async def test_in_front_of_an_address_that_somebody_insists_on(harness):
    """A proxy before a server, or a proxy, that is at such an address is at another one."""
    first = await harness.serve(echo_back)
    address = first.address
    await first.stop()
    fixed = (
        UnixTransport(address) if isinstance(address, str) else TCPTransport(first.host, first.port)
    )
    if isinstance(fixed, TCPTransport):
        first._endpoint.release()  # it has kept the port for itself
    server = await harness.serve(echo_back, transport=fixed)
    assert server.address == address
    proxy = await harness.proxy(server)
    outer = await harness.proxy(proxy)
    assert len({str(each.address) for each in (server, proxy, outer)}) == 3
    assert type(outer.address) is type(address)
    assert await ask(outer) == b"?"
    await server.stop()
    if isinstance(fixed, TCPTransport):
        server._endpoint.release()
    behind = await harness.serve(echo_back)
    proxy = await harness.proxy(behind, transport=fixed)
    assert proxy.address == address
    assert await ask(await harness.proxy(proxy)) == b"?"


async def echo_back(stream):
    async for data in stream:
        await stream.send(data)


async def test_two_proxies_in_front_of_one_server(harness):
    server = await harness.serve(echo_back, expect=BrokenResourceError)
    first, second = await harness.proxy(server), await harness.proxy(server)
    async with await first.connect() as slow, await second.connect() as fast:
        first.add(Latency(1000))
        for client in (slow, fast):
            await client.send(b"x")
        assert await fast.receive() == b"x"
        await first.reset_all()
        await fast.send(b"y")
        assert await fast.receive() == b"y"
        assert (len(first.connections), len(second.connections)) == (0, 1)


# Another upstream


async def test_new_connections_go_to_another_server(harness):
    proxy = await harness.proxy(await harness.serve(answering(b"one ")))
    async with await proxy.connect() as first:
        proxy.set_upstream(await harness.serve(answering(b"two ")))
        async with await proxy.connect() as second:
            for client, expected in ((first, b"one ?"), (second, b"two ?"), (first, b"one ?")):
                await client.send(b"?")
                assert await client.receive() == expected


async def test_to_all_kinds_in_turn(harness, plain_server, plain_unix_server):
    server = await harness.serve(echo_back)
    proxy = await harness.proxy(server)
    address = proxy.address
    end = await harness.proxy(server)
    chain = await harness.proxy(await harness.proxy(end))
    other = await harness.serve(echo_back, transport="memory")
    upstreams = (
        plain_server.address,
        plain_unix_server.address,
        chain,
        other,
        anyio.TCPConnectable(*plain_server.address),
        server,
    )
    for _ in range(3):
        for number, upstream in enumerate(upstreams):
            proxy.set_upstream(upstream)
            message = b"%d" % number
            assert await ask(proxy, message) == message
    assert proxy.address == address


async def test_the_server_that_a_connection_was_accepted_for(harness):
    """`set_upstream` while somebody connects: TLS goes with the server, not with the moment."""
    one = await harness.serve(answering(b"one "))
    two = await harness.serve(answering(b"two "), transport="memory")
    proxy = await harness.proxy(one)
    answers = []

    async def connect_and_ask():
        answers.append(await ask(proxy))

    for turns in range(20):
        async with anyio.create_task_group() as group:
            group.start_soon(connect_and_ask)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            proxy.set_upstream(two)
        proxy.set_upstream(one)
    assert set(answers) == {b"one ?", b"two ?"}


async def test_a_proxy_cannot_lead_to_itself(harness):
    first = await harness.proxy(await harness.serve(echo_back), name="first")
    second = await harness.proxy(first, name="second")
    third = await harness.proxy(second, name="third")
    for proxy in (first, second, third):
        with pytest.raises(ValueError, match="leads back"):
            first.set_upstream(proxy)
    assert await ask(third, b"x") == b"x"


async def test_a_server_that_restarts(harness):
    server = await harness.serve(echo_back, grace=0)
    proxy = await harness.proxy(server)
    for _ in range(5):
        async with await proxy.connect() as client:
            await client.send(b"x")
            assert await client.receive() == b"x"
            await server.restart()
            with pytest.raises(EndOfStream):
                await client.receive()
        await proxy.wait_connections(0)
    assert await ask(proxy, b"x") == b"x"


# What is none


@pytest.mark.harness(transports=["memory"])
@pytest.mark.parametrize(
    ("upstream", "error", "says"),
    [
        (None, TypeError, "a proxy stands in front of a server, .* not None"),
        (8080, TypeError, "not 8080"),
        ("", TypeError, "not ''"),
        (("127.0.0.1",), TypeError, r"not \('127.0.0.1',\)"),
        (("127.0.0.1", "80"), TypeError, "port has to be a whole number, not '80'"),
        (("127.0.0.1", True), TypeError, "port has to be a whole number, not True"),
        ((None, 80), TypeError, "host has to be a name or an IP address, not None"),
        (("127.0.0.1", 0), ValueError, r"no address \('127.0.0.1', 0\)"),
        (("127.0.0.1", 65536), ValueError, r"no address \('127.0.0.1', 65536\)"),
        (("", 80), ValueError, r"no address \('', 80\)"),
        (answer, TypeError, "not <function answer"),
        ("localhost", ValueError, "takes .host, port., or a path with a slash in it, not 'local"),
        ("127.0.0.1:80", ValueError, "takes .host, port., .*, not '127.0.0.1:80'"),
        (b"redis.sock", ValueError, "a path with a slash in it, not b'redis.sock'"),
        ("http://127.0.0.1:80/", ValueError, "takes .host, port., .*, not 'http://"),
    ],
    ids=lambda value: repr(value).partition(" at 0x")[0],
)
async def test_what_cannot_be_stood_in_front_of(harness: Harness, upstream, error, says):
    with pytest.raises(error, match=says):
        await harness.proxy(upstream)
    proxy = await harness.proxy(await harness.serve(echo_back))
    with pytest.raises(error, match=says):
        proxy.set_upstream(upstream)
    assert await ask(proxy, b"x") == b"x"
