"""ASGI applications: the same promises with every server, backend and transport."""

from __future__ import annotations

import contextlib
import logging
import signal
import ssl
import sys
import warnings

import anyio
import httpx
import pytest
from apps import App, Boom

from harness import Harness, open_harness
from harness.adapters import ASGI, asgi

pytest.importorskip("anycorn")
pytest.importorskip("hypercorn")
pytest.importorskip("uvicorn")

#: hypercorn and uvicorn need sockets, and uvicorn asyncio: the others skip.
everywhere = pytest.mark.harness(transports=["tcp", "unix", "tls", "memory"])
#: For what has nothing to do with the way to the server.
with_and_without_sockets = pytest.mark.harness(transports=["tcp", "memory"])


@pytest.fixture(params=["anycorn", "hypercorn", "uvicorn"])
def name(request, harness: Harness) -> str:
    """A server that can be had; the others do not count as skipped tests."""
    if request.param != "anycorn" and harness.transport.name == "memory":
        pytest.skip(f"{request.param} needs sockets")
    if request.param == "uvicorn" and harness.backend == "trio":
        pytest.skip("uvicorn needs asyncio")
    return request.param


@pytest.fixture(autouse=True)
def nothing_global_is_changed():
    """No server takes a signal, and the logging of the process is what it was."""
    signals = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    filters = list(warnings.filters)
    root = logging.getLogger()
    before = (root.level, logging.root.manager.disable)
    yield
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == signals
    assert list(warnings.filters) == filters
    assert (root.level, logging.root.manager.disable) == before
    for each in ("uvicorn", "hypercorn", "anycorn"):
        for logger in map(logging.getLogger, (each, f"{each}.error", f"{each}.access")):
            assert not logger.handlers
            assert logger.propagate
            assert logger.level == logging.NOTSET


# Requests


@everywhere
async def test_requests(harness, name):
    app = App()
    server = await harness.serve(ASGI(app.asgi, name))
    async with server.http_client() as client:
        assert (await client.get("/hello")).text == "hello"
        large = b"x" * 1_000_000
        assert (await client.post("/echo", content=large)).content == large
        assert (await client.get("/nothing")).status_code == 404
        async with client.stream("GET", "/stream") as response:
            assert [part async for part in response.aiter_text()]
        assert (await client.get("/stream")).text == "0 1 2 "
        assert server.accepted == 1
    await server.wait_connections(0)


@with_and_without_sockets
async def test_without_http_client(harness, name):
    server = await harness.serve(ASGI(App().asgi, name))
    async with await server.connect() as client:
        await client.send(b"GET /hello HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
        received = b""
        async for data in client:
            received += data
        assert received.endswith(b"hello")


@everywhere
async def test_addresses_and_state(harness, name):
    server = await harness.serve(ASGI(App().asgi, name))
    async with server.http_client() as client:
        text = (await client.get("/state")).text
    # uvicorn gives an app at a unix socket an address that is none.
    assert text in ("hello True", f"hello {harness.transport.name != 'unix'}")


@with_and_without_sockets
async def test_options_of_the_server(harness, name):
    option = {"uvicorn": "server_header"}.get(name, "include_server_header")
    server = await harness.serve(ASGI(App().asgi, name, **{option: False}))
    async with server.http_client() as client:
        assert "server" not in (await client.get("/hello")).headers


@pytest.mark.harness(transports=["tls"])
async def test_tls_is_verified(harness, name):
    server = await harness.serve(ASGI(App().asgi, name))
    async with httpx.AsyncClient(verify=server.client_ssl_context, trust_env=False) as client:
        response = await client.get(server.url("https") + "/hello")
        assert response.text == "hello"
        assert response.http_version == "HTTP/1.1"
    with pytest.raises(httpx.ConnectError) as caught:
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.get(server.url("https") + "/hello")
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    assert cause is not None


@pytest.mark.harness(transports=["memory"])
@pytest.mark.usefixtures("virtual_clock")
async def test_virtual_time(harness):
    async def app(scope, receive, send):
        await anyio.sleep(3600)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    server = await harness.serve(ASGI(app, lifespan=False))
    async with server.http_client(timeout=None) as client:
        start = anyio.current_time()
        assert (await client.get("/")).status_code == 200
        assert anyio.current_time() - start == 3600


# The lifespan


@with_and_without_sockets
async def test_the_lifespan_is_run_once(harness, name):
    app = App()
    server = await harness.serve(ASGI(app.asgi, name))
    assert app.log == ["startup"]
    async with server.http_client() as client:
        await client.get("/hello")
    assert app.log == ["startup"]
    await server.stop()
    assert app.log == ["startup", "shutdown"]


@everywhere
async def test_the_end_of_the_test_shuts_it_down(harness, name):
    app = App()
    async with open_harness(transport=harness.transport.name) as inner:
        server = await inner.serve(ASGI(app.asgi, name))
        client = server.http_client()
        await client.get("/hello")
    assert app.log == ["startup", "shutdown"]


@with_and_without_sockets
async def test_no_lifespan(harness, name):
    app = App()
    server = await harness.serve(ASGI(app.asgi, name, lifespan=False))
    async with server.http_client() as client:
        assert (await client.get("/hello")).text == "hello"
    await server.restart()
    assert app.log == []


@with_and_without_sockets
async def test_a_lifespan_that_fails_at_startup(harness, name):
    with pytest.raises(Boom, match="startup") as caught:
        await harness.serve(ASGI(App(fails_at="startup").asgi, name))
    assert caught.traceback[-1].name == "_at"
    assert not getattr(caught.value, "__notes__", [])


@with_and_without_sockets
async def test_a_lifespan_that_fails_at_shutdown(harness, name):
    server = await harness.serve(ASGI(App(fails_at="shutdown").asgi, name), expect=Boom)
    await server.stop()
    (error,) = server.errors
    assert str(error) == "shutdown"


@with_and_without_sockets
async def test_its_failure_at_shutdown_fails_the_test(harness, name):
    with pytest.raises(Boom, match="shutdown"):
        async with open_harness(transport=harness.transport.name) as inner:
            await inner.serve(ASGI(App(fails_at="shutdown").asgi, name))


@with_and_without_sockets
@pytest.mark.usefixtures("virtual_clock")
async def test_a_lifespan_that_hangs_at_shutdown(harness, name):
    app = App(hangs_at="shutdown")
    server = await harness.serve(ASGI(app.asgi, name))
    start = anyio.current_time()
    await server.stop(grace=10)
    assert app.log == ["startup", "shutdown"]
    assert anyio.current_time() - start == 10


@with_and_without_sockets
async def test_serve_is_cancelled_while_the_lifespan_starts(harness, name):
    app = App(hangs_at="startup")
    async with anyio.create_task_group() as group:
        group.start_soon(harness.serve, ASGI(app.asgi, name))
        while not app.log:
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()


async def no_lifespan(scope, receive, send):
    assert scope["type"] == "http"


async def silent_lifespan(scope, receive, send):
    pass


async def says_that_it_has_failed(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


@with_and_without_sockets
async def test_an_app_without_a_lifespan(harness, name):
    with pytest.raises(AssertionError) as caught:
        await harness.serve(ASGI(no_lifespan, name))
    assert "ASGI(app, lifespan=False)" in caught.value.__notes__[0]
    with pytest.raises(RuntimeError, match="has ended before it had started"):
        await harness.serve(ASGI(silent_lifespan, name))
    with pytest.raises(RuntimeError, match="has failed at startup: no database"):
        await harness.serve(ASGI(says_that_it_has_failed, name))


@with_and_without_sockets
async def test_a_lifespan_that_ends_early(harness, name):
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            return
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    server = await harness.serve(ASGI(app, name))
    async with server.http_client() as client:
        assert (await client.get("/")).status_code == 204
    await server.stop()
    assert not server.errors


# Crashes


@everywhere
async def test_a_crash_ends_the_test_with_its_own_traceback(harness, name):
    with pytest.raises(Boom, match="crash") as caught:
        async with open_harness(transport=harness.transport.name) as inner:
            server = await inner.serve(ASGI(App().asgi, name, lifespan=False))
            async with server.http_client() as client:
                await client.get("/crash")
                await anyio.sleep_forever()
    assert caught.traceback[-1].name == "crash"
    assert "(raised in GET /crash of server 'Starlette')" in caught.value.__notes__


@everywhere
async def test_an_expected_crash_is_answered_as_ever(harness, name):
    server = await harness.serve(ASGI(App().asgi, name), expect=Boom)
    async with server.http_client() as client:
        assert (await client.get("/crash")).status_code == 500
    async with server.http_client() as client:  # another one, as uvicorn hangs up after it
        assert (await client.get("/hello")).text == "hello"
    (error,) = server.errors
    assert isinstance(error, Boom)


@with_and_without_sockets
async def test_an_exit_does_not_end_the_event_loop(harness, name):
    with pytest.raises(SystemExit, match="7"):
        async with open_harness(transport=harness.transport.name) as inner:
            server = await inner.serve(ASGI(App().asgi, name))
            async with server.http_client() as client:
                await client.get("/exit")
                await anyio.sleep_forever()


@with_and_without_sockets
async def test_a_crash_that_was_required_and_did_not_come(harness, name):
    from harness import NotRaised

    with pytest.raises(NotRaised, match="was required to raise Boom"):
        async with open_harness(transport=harness.transport.name) as inner:
            await inner.serve(ASGI(App().asgi, name), expect=Boom, expect_required=True)


# The end


@everywhere
async def test_a_graceful_stop_finishes_a_running_request(harness, name):
    app = App()
    server = await harness.serve(ASGI(app.asgi, name))
    async with anyio.create_task_group() as group:

        @group.start_soon
        async def request():
            async with server.http_client() as client:
                assert (await client.get("/wait")).text == "waited"

        await app.begun.wait()
        group.start_soon(lambda: server.stop(grace=60))
        await harness.settle()
        assert app.log == ["startup"]
        app.go_on.set()
    assert app.log == ["startup", "answered", "shutdown"]


@everywhere
async def test_stop_cancels_a_request_that_never_ends(harness, name):
    app = App()
    server = await harness.serve(ASGI(app.asgi, name))
    async with server.http_client() as client, anyio.create_task_group() as group:

        @group.start_soon
        async def request():
            # Whether a server still says 500 or hangs up is its own affair.
            with contextlib.suppress(httpx.ReadError, httpx.RemoteProtocolError):
                assert (await client.get("/never")).status_code == 500

        await app.begun.wait()
        await server.stop(grace=0)
        assert app.log == ["startup", "cancelled", "shutdown"]


@everywhere
async def test_the_end_of_the_test_cancels_it(harness, name):
    app = App()
    async with open_harness(transport=harness.transport.name, grace=0) as inner:
        server = await inner.serve(ASGI(app.asgi, name))
        inner.task_group.start_soon(server.http_client().get, "/never")
        await app.begun.wait()
    assert app.log == ["startup", "cancelled", "shutdown"]


@everywhere
async def test_a_client_that_keeps_its_connection_open(harness, name):
    server = await harness.serve(ASGI(App().asgi, name))
    client = server.http_client()
    await client.get("/hello")
    await server.stop()
    with pytest.raises(httpx.ConnectError):
        await client.get("/hello")


@everywhere
async def test_a_client_that_does_not_read(harness, name):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            await anyio.lowlevel.checkpoint()

    server = await harness.serve(ASGI(app, name, lifespan=False), grace=0)
    client = await server.connect()
    await client.send(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
    await client.receive(1)
    await server.stop()


@everywhere
async def test_a_client_that_resets_its_connection(harness, name):
    """uvicorn leaves a timer behind then; nothing of it is left after the test."""
    server = await harness.serve(ASGI(App().asgi, name))
    proxy = await harness.proxy(server)
    async with proxy.http_client() as client:
        await client.get("/hello")
        await proxy.reset_all()
        await harness.settle()


@everywhere
async def test_a_client_that_says_nothing(harness, name):
    server = await harness.serve(ASGI(App().asgi, name))
    await server.connect()
    await server.stop()


@everywhere
async def test_a_restart_is_at_the_same_address(harness, name):
    app = App()
    server = await harness.serve(ASGI(app.asgi, name))
    address = server.address
    async with server.http_client() as client:
        await client.get("/hello")
        await server.restart()
        await harness.settle()
        assert server.address == address
        assert (await client.get("/hello")).text == "hello"
    assert app.log == ["startup", "shutdown", "startup"]


@everywhere
async def test_a_proxy_and_resets(harness, name):
    app = App()
    server = await harness.serve(ASGI(app.asgi, name))
    proxy = await harness.proxy(server)
    async with proxy.http_client() as client, anyio.create_task_group() as group:
        assert (await client.get("/hello")).text == "hello"

        @group.start_soon
        async def request():
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
                await client.get("/wait")

        await app.begun.wait()
        await proxy.reset_all()
        app.go_on.set()
        await harness.settle()
        assert (await client.get("/hello")).text == "hello"
    assert not server.errors


@everywhere
async def test_a_reset_in_the_middle_of_an_answer(harness, name):
    """anycorn sends an end after what it could not send: `docs/upstream-bugs.md`."""
    server = await harness.serve(ASGI(App().asgi, name))
    proxy = await harness.proxy(server)
    async with proxy.http_client(timeout=None) as client:
        async with client.stream("GET", "/endless") as response:
            received = response.aiter_raw()
            assert await anext(received) == b"first"
            await proxy.reset_all()
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
                await anext(received)
        await harness.settle()
        assert (await client.get("/hello")).text == "hello"
    assert not server.errors


async def uploads(scope, receive, send):
    """Fails if the client goes away in the middle."""
    while (message := await receive()).get("more_body"):
        pass
    if message["type"] == "http.disconnect":
        raise Boom("the client has gone")


@everywhere
async def test_a_client_that_the_end_of_the_test_takes_away(harness, name):
    begun = anyio.Event()

    async def body():
        yield b"x"
        begun.set()
        await anyio.sleep_forever()

    server = await harness.serve(ASGI(uploads, name, lifespan=False))

    async def upload():
        await server.http_client().post("/", content=body())

    harness.task_group.start_soon(upload)
    await begun.wait()
    await harness.settle()


@everywhere
async def test_a_client_that_goes_away_before_the_end(harness, name):
    server = await harness.serve(ASGI(uploads, name, lifespan=False), expect=Boom)
    client = await server.connect()
    await client.send(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nx")
    await harness.settle()
    await client.aclose()
    while not server.errors:
        await anyio.lowlevel.checkpoint()


@pytest.mark.harness(transports=["tcp", "memory"])
async def test_many_clients(harness, name):
    server = await harness.serve(ASGI(App().asgi, name))
    async with server.http_client() as client, anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(client.get, "/hello")


@pytest.mark.harness(transports=["tcp", "memory"])
async def test_one_shape_for_two_servers(harness, name):
    app = App()
    shape = ASGI(app.asgi, name)
    first, second = await harness.serve(shape), await harness.serve(shape)
    await first.stop()
    async with second.http_client() as client:
        assert (await client.get("/hello")).text == "hello"


@pytest.mark.harness(transports=["memory"])
async def test_anycorns_connections_are_the_harness_s(harness):
    app = App()
    server = await harness.serve(ASGI(app.asgi))
    client = await server.connect()
    await client.send(b"GET /never HTTP/1.1\r\nhost: h\r\n\r\n")
    await app.begun.wait()
    (connection,) = server.connections
    assert connection.bytes_in == 32
    await server.drop_connections()
    assert app.log == ["startup", "cancelled"]


# What cannot be


def create_app():
    return no_lifespan


def wsgi(environ, start_response):
    """An application of another kind."""


def test_arguments():
    with pytest.raises(ValueError, match="knows the servers 'anycorn', 'hypercorn', 'uvicorn', "):
        ASGI(no_lifespan, "gunicorn")
    with pytest.raises(TypeError, match="expects an ASGI application, not 5"):
        ASGI(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"create_app\(\) does not take that: .*: ASGI\(create_app"):
        ASGI(create_app)
    with pytest.raises(TypeError, match=r"wsgi\(environ, start_response\) .*: too many positional"):
        ASGI(wsgi)
    for server, option in (("anycorn", "bind"), ("hypercorn", "certfile"), ("uvicorn", "port")):
        with pytest.raises(ValueError, match=f"says by itself what {option} shall be for {server}"):
            ASGI(no_lifespan, server, **{option: None})


@with_and_without_sockets
async def test_an_option_that_there_is_not(harness, name):
    with pytest.raises(TypeError, match="colour"):
        await harness.serve(ASGI(no_lifespan, name, colour="red"))


@pytest.mark.harness(transports=["tcp", "memory"])
@pytest.mark.parametrize("missing", ["anycorn", "hypercorn", "uvicorn"])
async def test_a_server_that_is_not_installed(harness, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    reason = rf"{missing} is not installed: pip install anyio-harness\[asgi\]"
    with pytest.raises(pytest.skip.Exception, match=reason):
        try:
            await harness.serve(ASGI(no_lifespan, missing))
        except Exception as exc:
            pytest.skip(str(exc))
    with pytest.raises(ValueError, match=reason):
        await harness.serve(ASGI(no_lifespan, missing), transport="tcp")


async def test_what_a_server_cannot_do(harness):
    if harness.backend == "trio":
        with pytest.raises(
            ValueError, match=r"uvicorn is a server for asyncio, and .* on trio; .*anyc"
        ):
            await harness.serve(ASGI(no_lifespan, "uvicorn"), transport="tcp")
    for name in ("hypercorn", "uvicorn")[: 1 if harness.backend == "trio" else 2]:
        with pytest.raises(ValueError, match=f"{name} accepts by itself, and transport 'memory'"):
            await harness.serve(ASGI(no_lifespan, name), transport="memory")


@pytest.mark.harness(transports=["tcp"])
async def test_an_address_that_somebody_has(harness, name):
    from harness.transports.tcp import TCPTransport

    server = await harness.serve(ASGI(App().asgi, name))
    app = App()
    with pytest.raises(OSError, match="in use"):
        await harness.serve(ASGI(app.asgi, name), transport=TCPTransport(server.host, server.port))


def test_the_table_is_complete():
    assert set(asgi.SERVERS) == {"anycorn", "hypercorn", "uvicorn"}
