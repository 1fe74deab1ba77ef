"""What every transport promises: an address of its own, refusal after stop, the address kept."""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import sys
import tempfile
import threading

import pytest
from anyio import (
    ConnectionFailed,
    EndOfStream,
    connect_tcp,
    connect_unix,
    create_task_group,
)
from anyio.abc import SocketAttribute

from harness.transports import BUILT_IN, DEFAULT, make_transport
from harness.transports.tcp import TCP6Transport

no_ipv6 = TCP6Transport().missing()
tcp6 = pytest.param("tcp6", marks=pytest.mark.skipif(no_ipv6 is not None, reason=str(no_ipv6)))

each_transport = pytest.mark.parametrize(
    "transport", ["tcp", tcp6, "unix", "tls", "memory"], indirect=True
)
each_tcp = pytest.mark.parametrize("transport", ["tcp", tcp6, "tls"], indirect=True)
each_real = pytest.mark.parametrize("transport", ["tcp", tcp6, "unix", "tls"], indirect=True)


async def echo(stream):
    async for data in stream:
        await stream.send(data)


async def assert_serves(server):
    async with await server.connect() as client:
        await client.send(b"ping")
        assert await client.receive() == b"ping"


async def connect_raw(address):
    """Connect with plain AnyIO, without TLS and without the harness."""
    if isinstance(address, str):
        return await connect_unix(address)
    return await connect_tcp(*address)


@each_transport
async def test_a_server_is_reached_over_it(harness):
    server = await harness.serve(echo)
    assert server.transport is harness.transport
    await assert_serves(server)


@each_tcp
async def test_an_address_is_an_ip_literal_and_a_port(harness):
    server = await harness.serve(echo)
    assert ipaddress.ip_address(server.host).is_loopback
    assert 0 < server.port < 65536
    assert server.address == (server.host, server.port)


@each_transport
async def test_the_address_is_the_one_that_both_ends_see(harness):
    seen = []

    async def handler(stream):
        seen.append(stream.extra(SocketAttribute.local_address))
        await stream.send(b"seen")

    server = await harness.serve(handler)
    async with await server.connect() as client:
        assert await client.receive() == b"seen"
        seen.append(client.extra(SocketAttribute.remote_address))
    assert [address if isinstance(address, str) else address[:2] for address in seen] == [
        server.address,
        server.address,
    ]


@each_transport
async def test_two_servers_have_two_addresses(harness):
    async def name(stream):
        await stream.send(repr(stream.extra(SocketAttribute.local_address)).encode())

    first, second = await harness.serve(name), await harness.serve(name)
    assert first.address != second.address
    said = []
    for server in (first, second):
        async with await server.connect() as client:
            said.append(await client.receive())
    assert said[0] != said[1]


@each_transport
async def test_no_name_is_resolved_and_no_thread_is_started(harness, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"getaddrinfo{args} was called")

    before = set(threading.enumerate())
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    server = await harness.serve(echo)
    await assert_serves(server)
    await server.restart()
    await assert_serves(server)
    assert set(threading.enumerate()) == before


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
@pytest.mark.parametrize("on", ["asyncio", "uvloop", "trio"])
def test_not_even_a_resolver_thread_outside_python_is_started(on):
    """uvloop resolves in libuv's thread pool, which `threading` does not know of."""
    if on == "uvloop":
        pytest.importorskip("uvloop")
    run_python(f"""
        import os
        async def main():
            before = len(os.listdir("/proc/self/task"))
            for name in {DEFAULT!r}:
                await serve_over(name)
            assert len(os.listdir("/proc/self/task")) == before
        run(main, {on!r})
    """)


@each_transport
async def test_after_stop_the_server_says_that_it_is_stopped(harness):
    server = await harness.serve(echo, name="the echo server")
    await server.stop()
    with pytest.raises(ConnectionFailed, match=r"'the echo server'.* is stopped"):
        await server.connect()


@each_real
async def test_after_stop_a_raw_connection_is_refused(harness):
    server = await harness.serve(echo)
    await server.stop()
    with pytest.raises(OSError) as caught:  # noqa: PT011
        await connect_raw(server.address)
    cause = caught.value.__cause__ or caught.value
    assert isinstance(cause, ConnectionRefusedError)


@pytest.mark.harness(transports=["memory"])
async def test_after_stop_the_memory_network_refuses(harness):
    server = await harness.serve(echo)
    await server.stop()
    with pytest.raises(ConnectionRefusedError):
        harness.transport.network.connect(server.address)


@each_transport
async def test_a_restarted_server_serves_at_the_same_address(harness):
    server = await harness.serve(echo)
    address = server.address
    for _ in range(3):
        await server.restart()
        assert server.address == address
        await assert_serves(server)
    await server.stop()
    await server.restart()
    assert server.address == address
    await assert_serves(server)


@each_real
async def test_a_restart_with_live_connections_gets_its_address_back(harness):
    async def hold(stream):
        async for _ in stream:
            pass

    server = await harness.serve(hold, grace=0)
    client = await server.connect()
    await server.wait_connections(1)
    await server.restart()
    with pytest.raises(EndOfStream):
        await client.receive()
    async with await server.connect():
        await server.wait_connections(1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a second socket keep a port")
@each_tcp
async def test_between_stop_and_restart_nobody_else_can_have_the_port(harness):
    server = await harness.serve(echo)
    await server.stop()
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as other:
        with pytest.raises(OSError, match="in use"):
            other.bind(server.address)
        other.bind((server.host, 0))
        assert other.getsockname()[1] != server.port


@each_tcp
async def test_at_the_end_the_port_is_given_back(harness, transport):
    endpoint = await transport.listen()
    host, port = endpoint.address
    await endpoint.aclose()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as other:
        other.bind((host, port))


@each_real
async def test_many_clients_can_connect_before_one_is_accepted(transport, anyio_backend):
    endpoint = await transport.listen()
    clients = [await connect_raw(endpoint.address) for _ in range(200)]
    assert len({id(client) for client in clients}) == 200
    for client in clients:
        await client.aclose()
    await endpoint.aclose()


@pytest.mark.parametrize("transport", ["tcp", tcp6, "memory"], indirect=True)
async def test_no_directory_is_made(harness, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a temporary directory was made")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    await assert_serves(await harness.serve(echo))


@each_real
async def test_a_failed_listen_leaves_nothing_open(transport, anyio_backend, monkeypatch):
    """A socket left open would be a ResourceWarning, and a directory would be found here."""
    import anyio.abc

    made = []
    plain_socket = socket.socket

    class Recorded(plain_socket):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    async def fail(*args, **kwargs):
        raise OSError("no listener today")

    if transport.name == "tls":
        from harness.transports.tls import authority

        authority()
    directory = tempfile.mkdtemp(prefix="t-", dir="/tmp")
    monkeypatch.setattr(tempfile, "tempdir", directory)
    monkeypatch.setattr(anyio.abc.SocketListener, "from_socket", fail)
    monkeypatch.setattr(socket, "socket", Recorded)
    with pytest.raises(OSError, match="no listener today"):
        await transport.listen()
    monkeypatch.undo()
    assert made
    assert [each.fileno() for each in made] == [-1] * len(made)
    os.rmdir(directory)


# URLs and the parts of an address


@pytest.mark.harness(transports=["tcp", "tls", "memory"])
async def test_a_url_has_host_and_port(harness):
    server = await harness.serve(echo)
    assert server.url("http") == f"http://{server.host}:{server.port}"


@pytest.mark.parametrize("transport", [tcp6], indirect=True)
async def test_a_url_brackets_an_ipv6_host(harness):
    server = await harness.serve(echo)
    assert server.url("http") == f"http://[::1]:{server.port}"


@pytest.mark.harness(transports=["unix"])
async def test_a_url_of_a_socket_has_its_path_or_its_quoted_path(harness):
    server = await harness.serve(echo)
    assert os.path.isabs(server.path)
    assert server.url("unix") == f"unix://{server.path}"
    assert server.url("http+unix") == f"http+unix://{server.path.replace('/', '%2F')}"


@pytest.mark.harness(transports=["unix"], backends=["asyncio"])
@pytest.mark.parametrize("part", ["host", "port"])
async def test_a_socket_path_has_no_host_and_no_port(harness, part):
    server = await harness.serve(echo)
    with pytest.raises(AttributeError, match=f"has no {part}, only a path") as caught:
        getattr(server, part)
    assert server.path in str(caught.value)


@pytest.mark.harness(backends=["asyncio"])
@each_transport
async def test_only_a_unix_socket_has_a_path(harness):
    server = await harness.serve(echo)
    if harness.transport.name == "unix":
        assert server.path == server.address
    else:
        with pytest.raises(AttributeError, match="has no path, only host and port"):
            server.path  # noqa: B018


@pytest.mark.harness(backends=["asyncio"])
@each_transport
async def test_only_tls_has_a_client_ssl_context(harness):
    server = await harness.serve(echo)
    if harness.transport.name == "tls":
        assert server.client_ssl_context.check_hostname
    else:
        with pytest.raises(AttributeError, match=f"transport '{harness.transport.name}' has no"):
            server.client_ssl_context  # noqa: B018


# Names


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_transport_can_be_made_by_the_name_it_has(name):
    transport = make_transport(name)
    assert transport.name == name
    assert name in repr(transport)
    assert make_transport(name) is not transport
    assert make_transport(transport) is transport


def test_an_unknown_transport_is_refused_with_the_names_there_are():
    with pytest.raises(
        ValueError, match=r"unknown transport 'udp'; expected one of tcp, unix, tls"
    ):
        make_transport("udp")


@pytest.mark.parametrize("what", [None, 1, BUILT_IN["tcp"]])
def test_what_is_no_transport_is_refused(what):
    with pytest.raises(TypeError, match=r"transport must be a Transport or one of the names tcp,"):
        make_transport(what)


def test_tcp6_says_why_it_is_missing(monkeypatch):
    class NoIPv6(socket.socket):
        def bind(self, address):
            raise OSError("Cannot assign requested address")

    monkeypatch.setattr(socket, "socket", NoIPv6)
    assert TCP6Transport().missing() == (
        "this machine cannot bind ::1: Cannot assign requested address"
    )


def test_unix_says_why_it_is_missing(monkeypatch):
    monkeypatch.delattr(socket, "AF_UNIX")
    assert make_transport("unix").missing() == "this platform has no unix-domain sockets"


# Only what is needed is imported


def run_python(code):
    """Run ``code`` in a fresh interpreter, where nothing is imported yet."""
    prelude = """
        import sys
        import anyio
        from harness.core import open_harness

        async def echo(stream):
            async for data in stream:
                await stream.send(data)

        async def serve_over(name):
            async with open_harness(transport=name) as harness:
                server = await harness.serve(echo)
                async with await server.connect() as client:
                    await client.send(b"ping")
                    assert await client.receive() == b"ping"

        def run(main, backend, *args):
            options = {"use_uvloop": True} if backend == "uvloop" else {}
            library = "asyncio" if backend == "uvloop" else backend
            anyio.run(main, *args, backend=library, backend_options=options)
    """
    from textwrap import dedent

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(prelude) + dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["tcp", "unix", "memory"])
def test_a_run_without_tls_imports_no_trustme(name):
    run_python(f"""
        run(serve_over, "asyncio", {name!r})
        assert "harness.transports.{name}" in sys.modules
        others = {{"tls", "unix", "memory"}} - {{{name!r}}}
        extra = [other for other in others if f"harness.transports.{{other}}" in sys.modules]
        assert not extra, extra
        assert "trustme" not in sys.modules
        assert "cryptography" not in sys.modules
    """)


def test_a_run_with_tls_imports_trustme():
    run_python("""
        run(serve_over, "asyncio", "tls")
        assert "trustme" in sys.modules
    """)


@pytest.mark.parametrize("name", DEFAULT)
def test_a_run_on_asyncio_imports_no_other_backend_and_no_pytest(name):
    run_python(f"""
        run(serve_over, "asyncio", {name!r})
        for module in ("trio", "uvloop", "pytest"):
            assert module not in sys.modules, module
    """)


@each_transport
async def test_concurrent_clients_each_get_their_own_bytes_back(harness):
    server = await harness.serve(echo)
    answers = {}

    async def client(number):
        async with await server.connect() as stream:
            await stream.send(b"%d" % number)
            answers[number] = await stream.receive()

    async with create_task_group() as task_group:
        for number in range(10):
            task_group.start_soon(client, number)
    assert answers == {number: b"%d" % number for number in range(10)}


@each_transport
async def test_a_client_that_leaves_without_reading_is_an_end_and_no_error(harness):
    """Over TLS too, where the handshake's aftermath (session tickets) would be left unread."""
    ends = []

    async def handler(stream):
        try:
            await stream.receive()
        except Exception as exc:
            ends.append(type(exc))

    server = await harness.serve(handler)
    for _ in range(5):
        await (await server.connect()).aclose()
        # Whoever connected is in the backlog, or under way to its handler.
        await harness.settle()
    await server.stop(grace=60)
    assert ends == [EndOfStream] * 5
