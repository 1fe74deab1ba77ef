"""Mains that listen by themselves: however they say where, and under the same rules."""

from __future__ import annotations

import asyncio
import functools
import re
from unittest import SkipTest

import anyio
import mains
import pytest
from anyio import ConnectionFailed, EndOfStream

from harness import Harness, open_harness
from harness.adapters import Main
from harness.adapters.addresses import address_of
from harness.transports.tcp import TCPTransport


async def answers(target) -> None:
    async with await target.connect() as client:
        await client.send(b"hello")
        assert await client.receive() == b"hello"


def only_on(harness: Harness, *backends: str) -> None:
    if harness.backend not in backends:
        pytest.skip(f"a server for {' and '.join(backends)}")


# Where it is


@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize(
    "main",
    [
        mains.reports_its_port,
        mains.reports_an_address,
        mains.reports_its_listener,
        mains.reports_a_url,
    ],
)
async def test_however_it_says_where(harness: Harness, main):
    server = await harness.serve(Main(main))
    assert server.name == main.__name__
    assert server.host == "127.0.0.1"
    assert server.address == (server.host, server.port)
    await answers(server)


@pytest.mark.harness(transports=["tcp"])
async def test_of_trio(harness: Harness):
    only_on(harness, "trio")
    await answers(await harness.serve(Main(mains.of_trio)))


@pytest.mark.harness(transports=["tcp"])
async def test_of_asyncio_with_clients_that_stay(harness: Harness):
    """`close()` would wait for ever: the handlers have no end but the client's."""
    only_on(harness, "asyncio", "uvloop")
    server = await harness.serve(Main(mains.OfAsyncio().main))
    client = await server.connect()
    await client.send(b"hello")
    assert await client.receive() == b"hello"


@pytest.mark.harness(transports=["tcp6"])
async def test_over_ipv6(harness: Harness):
    server = await harness.serve(Main(mains.reports_an_address, "::1"))
    assert server.host == "::1"
    await answers(server)


@pytest.mark.harness(transports=["unix"])
async def test_at_a_path(harness: Harness, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("s") / "s")
    server = await harness.serve(Main(mains.at_a_path, path))
    assert server.path == path
    await answers(server)


@pytest.mark.harness(transports=["tls"])
async def test_with_tls(harness: Harness):
    server = await harness.serve(Main(mains.with_tls, harness.transport.server_ssl_context))
    assert server.client_ssl_context is not None
    await answers(server)


@pytest.mark.harness(transports=["tcp"])
async def test_what_it_reports_can_be_translated(harness: Harness):
    async def reports_something(*, task_status):
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            task_status.started({"listener": listener})
            await listener.serve(mains.echo)

    shape = Main(reports_something, endpoint=lambda reported: reported["listener"])
    await answers(await harness.serve(shape))


@pytest.mark.parametrize(
    ("reported", "address"),
    [
        (80, 80),
        (("127.0.0.1", 80), ("127.0.0.1", 80)),
        (("::1", 80, 0, 0), ("::1", 80)),
        ([("127.0.0.1", 80), ("::1", 80, 0, 0)], ("127.0.0.1", 80)),
        ("/run/s", "/run/s"),
        ("http://127.0.0.1:80/path", ("127.0.0.1", 80)),
        ("https://[::1]:443", ("::1", 443)),
        ("unix:/run/s", "/run/s"),
        ("unix:///run/s", "/run/s"),
        ("http+unix://%2Frun%2Fs", "/run/s"),
    ],
)
def test_addresses(reported, address):
    assert address_of(reported) == address


@pytest.mark.parametrize(
    "reported", [True, object(), [], {}, "http://127.0.0.1", 1.5, 0, "8080", "localhost"]
)
def test_what_is_no_address(reported):
    with pytest.raises(TypeError, match="a server has to say where it is"):
        address_of(reported)


def test_what_listens_everywhere_is_reached_at_loopback():
    assert TCPTransport().at(("0.0.0.0", 80)).address == ("127.0.0.1", 80)
    assert TCPTransport().at(("::", 80)).address == ("::1", 80)


# Where it cannot be


@pytest.mark.harness(transports=["unix", "tls", "memory"])
async def test_over_another_transport_it_is_skipped(harness: Harness):
    with pytest.raises(SkipTest, match=r"reports_its_port|mains.py"):
        await harness.serve(Main(mains.reports_its_port))
    # And nothing of it is left, as the end of this test will show.


@pytest.mark.harness(transports=["memory"])
@pytest.mark.parametrize(
    ("transport", "reason"),
    [
        ("unix", "not to be reached over transport 'unix': it is at [0-9]+, which is no path"),
        ("tls", "speaks no TLS; give it harness.transport.server_ssl_context"),
        ("memory", "listens by itself, and transport 'memory' has no socket for it"),
    ],
)
async def test_over_one_that_was_named_it_is_an_error(harness: Harness, transport, reason):
    with pytest.raises(ValueError, match=reason):
        await harness.serve(Main(mains.reports_its_port), transport=transport)


@pytest.mark.harness(transports=["tcp"])
async def test_tls_over_tcp(harness: Harness):
    tls = harness._resolve("tls")
    with pytest.raises(SkipTest, match="speaks TLS, and transport 'tcp' does not"):
        await harness.serve(Main(mains.with_tls, tls.server_ssl_context))


# Its life


@pytest.mark.harness(transports=["tcp"])
async def test_what_it_raises_before_it_has_started(harness: Harness):
    async def fails(*, task_status):
        raise LookupError("no configuration")

    with pytest.raises(LookupError, match="no configuration"):
        await harness.serve(Main(fails))


@pytest.mark.harness(transports=["tcp"])
async def test_a_main_that_never_says_that_it_is_ready(harness: Harness):
    async def silent(*, task_status):
        pass

    with pytest.raises(RuntimeError, match="server 'silent' has ended before it was ready: "):
        await harness.serve(Main(silent))


class Lines:
    """A server of asyncio's streams that listens by itself, and says so to nobody."""

    async def start(self, *, task_status):
        return await asyncio.start_server(self.answer, "127.0.0.1", 0)

    async def listens(self, *, task_status):
        async with await self.start(task_status=task_status) as listener:
            await listener.serve_forever()

    async def run(self): ...

    async def answer(self, reader, writer): ...


CALLBACK_ALONE = r"; the callback that is given to start_server\(\) is served by AsyncioStreams\("


def test_a_main_of_asyncios_streams_without_a_task_status():
    with pytest.raises(TypeError, match=r"run\(\) does not take that: .*" + CALLBACK_ALONE):
        Main(Lines().run)


@pytest.mark.harness(transports=["tcp"])
async def test_a_method_of_asyncios_streams_is_no_handler(harness: Harness):
    with pytest.raises(TypeError, match=r"run\(\) does not take that: .*" + CALLBACK_ALONE):
        await harness.serve(Lines().run)


@pytest.mark.harness(transports=["tcp"], backends=["asyncio", "uvloop"], allow_leaks=["socket"])
async def test_a_start_of_asyncios_streams_that_returns(harness: Harness):
    with pytest.raises(RuntimeError, match=r"not called task_status.started\(\)" + CALLBACK_ALONE):
        await harness.serve(Main(functools.partial(Lines().start)))


@pytest.mark.harness(transports=["tcp"], backends=["asyncio", "uvloop"])
async def test_a_main_of_asyncios_streams_that_is_never_ready(harness: Harness):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(harness.serve, Main(Lines().listens))
        await harness.settle()
        dump = " ".join(harness.dump().split())
        tasks.cancel_scope.cancel()
    assert re.search(r"to call task_status.started\(\)" + CALLBACK_ALONE, dump)


@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize("reported", [None, object()])
async def test_a_main_that_does_not_say_where_it_is(harness: Harness, reported):
    async def vague(*, task_status):
        async with anyio.create_task_group():
            task_status.started(reported)
            await anyio.sleep_forever()

    with pytest.raises(TypeError, match=r"say(ing)? where it is"):
        await harness.serve(Main(vague))


@pytest.mark.harness(transports=["tcp"])
async def test_a_crash_ends_the_test(harness: Harness):
    async def crashes(*, task_status):
        task_status.started(1)
        raise LookupError("the main crashed")

    with pytest.raises(LookupError, match="the main crashed"):
        async with open_harness(transport="tcp") as inner:
            await inner.serve(Main(crashes))
            await anyio.sleep_forever()


@pytest.mark.harness(transports=["tcp"])
async def test_a_crash_that_is_expected(harness: Harness):
    crash = anyio.Event()

    async def crashes(*, task_status):
        task_status.started(1)
        await crash.wait()
        raise LookupError("the main crashed")

    async with open_harness(transport="tcp") as inner:
        server = await inner.serve(Main(crashes), expect=LookupError, expect_required=True)
        crash.set()
        await inner.settle()
        assert [str(error) for error in server.errors] == ["the main crashed"]
        with pytest.raises(ConnectionFailed, match="has ended by itself"):
            await server.connect()


@pytest.mark.harness(transports=["tcp"])
async def test_a_main_that_ends_by_itself(harness: Harness):
    async def ends(*, task_status):
        task_status.started(1)

    server = await harness.serve(Main(ends))
    await harness.settle()
    assert "stopped" in repr(server)
    with pytest.raises(
        ConnectionFailed, match=r"by itself: ends\(\) has returned, not run until it"
    ):
        await server.connect()
    await server.stop()


@pytest.mark.harness(transports=["tcp"])
async def test_stop_and_restart(harness: Harness):
    server = await harness.serve(Main(mains.reports_its_port))
    proxy = await harness.proxy(server)
    await answers(proxy)
    await server.stop()
    with pytest.raises(ConnectionFailed, match="is stopped"):
        await server.connect()
    before = server.port
    with pytest.raises(OSError):  # noqa: PT011 (whatever the backend makes of a refused connection)
        await anyio.connect_tcp("127.0.0.1", before)
    await server.restart()
    await answers(server)
    await answers(proxy)


@pytest.mark.harness(transports=["tcp"])
async def test_a_main_that_does_not_stop(harness: Harness):
    release = anyio.Event()

    async def stubborn(*, task_status):
        task_status.started(1)
        with anyio.CancelScope(shield=True):
            await release.wait()

    server = await harness.serve(Main(stubborn))
    server._cancel_timeout = 0.01
    with pytest.raises(RuntimeError, match=r"<Server 'stubborn'.* did not stop within 0.01 s"):
        await server.stop()
    release.set()
    await harness.settle()


# Its connections


@pytest.mark.harness(transports=["tcp"])
async def test_its_connections_are_those_that_were_made_here(harness: Harness):
    server = await harness.serve(Main(mains.reports_its_port))
    clients = [await server.connect() for _ in range(3)]
    assert server.accepted == 3
    assert [connection.id for connection in server.connections] == [1, 2, 3]
    assert server.connections[0].remote_address == server.address
    await server.wait_connections(3)
    with pytest.raises(RuntimeError, match=r"accepts by itself.* put a proxy before it"):
        await server.drop_connections()
    for client in clients:
        await client.aclose()
    await server.wait_connections(0)
    assert server.connections == []
    await server.drop_connections()
    assert server.accepted == 3


@pytest.mark.harness(transports=["tcp"])
async def test_through_a_proxy(harness: Harness):
    server = await harness.serve(Main(mains.reports_its_port))
    proxy = await harness.proxy(server)
    client = await proxy.connect()
    await client.send(b"hello")
    assert await client.receive() == b"hello"
    await proxy.disconnect_all()
    with pytest.raises(EndOfStream):
        await client.receive()


# What it takes


async def called_already():
    raise AssertionError


@pytest.mark.harness(transports=["tcp"])
async def test_an_endpoint_that_returns_nothing(harness: Harness):
    message = "endpoint= has to turn [0-9]+, which the server has reported, .* has returned None"
    with pytest.raises(TypeError, match=message):
        await harness.serve(Main(mains.reports_its_port, endpoint=lambda port: None))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((), {}, r"does_not_say\(app\) .*: missing a required argument: 'app'$"),
        (("app",), {}, "unexpected keyword argument 'task_status'; .* given a socket by Bound"),
        (("app",), {"port": 0}, "unexpected keyword argument 'port'"),
    ],
)
def test_a_main_that_cannot_be_called_so(arguments, options, message):
    async def does_not_say(app):
        raise AssertionError

    with pytest.raises(TypeError, match=message):
        Main(does_not_say, *arguments, **options)


@pytest.mark.parametrize("what", [None, 1, "main"])
def test_what_is_no_main(what):
    with pytest.raises(TypeError, match="Main takes an async function, not "):
        Main(what)


def test_a_main_that_was_called():
    with pytest.raises(TypeError, match=r"Main .*, and called_already\(\) was called already"):
        Main(called_already())


@pytest.mark.harness(transports=["tcp"])
async def test_a_function_that_is_not_async(harness: Harness):
    def plain(*, task_status):
        return 5

    message = r"Main takes an async function; plain\(\) has returned 5, .* await \(.*test_main"
    with pytest.raises(TypeError, match=message):
        await harness.serve(Main(plain))
    with pytest.raises(TypeError, match="Main: endpoint has to be a function, not 3"):
        Main(mains.reports_its_port, endpoint=3)
