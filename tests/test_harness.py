"""What a test holds: the promises of ``Harness`` and ``Server``, in every cell."""

from __future__ import annotations

import functools
import gc
import os
import shutil
from contextlib import AsyncExitStack
from contextvars import ContextVar
from typing import Any
from unittest.mock import AsyncMock

import anyio
import pytest
from anyio import BrokenResourceError, EndOfStream, Event
from anyio.abc import ByteStream, ByteStreamConnectable, SocketAttribute, TaskStatus

from harness import Harness, NotRaised, open_harness


async def echo(stream: ByteStream) -> None:
    async with stream:
        async for chunk in stream:
            await stream.send(chunk)


async def test_echo(harness: Harness) -> None:
    server = await harness.serve(echo)
    async with await server.connect() as client:
        await client.send(b"hello")
        assert await client.receive() == b"hello"


async def test_a_server_is_a_connectable_of_anyio(harness: Harness) -> None:
    server = await harness.serve(echo)
    assert isinstance(server, ByteStreamConnectable)
    async with await harness.connect(server) as client:
        await client.send(b"x")
        assert await client.receive() == b"x"


async def test_several_servers_and_mixed_transports(harness: Harness) -> None:
    servers = [await harness.serve(echo)]
    servers += [
        await harness.serve(echo, transport=name) for name in ("tcp", "unix", "tls", "memory")
    ]
    for number, server in enumerate(servers):
        async with await server.connect() as client:
            await client.send(b"%d" % number)
            assert await client.receive() == b"%d" % number
    assert len({str(server.address) for server in servers}) == 5


class Greeter:
    def __init__(self, greeting: bytes) -> None:
        self.greeting = greeting

    async def handle(self, stream: ByteStream) -> None:
        await stream.send(self.greeting)


class CallableGreeter(Greeter):
    async def __call__(self, stream: ByteStream) -> None:
        await self.handle(stream)


async def greet(greeting: bytes, stream: ByteStream) -> None:
    await stream.send(greeting)


HANDLERS: dict[str, Any] = {
    "an object with handle()": Greeter(b"hi"),
    "a bound method": Greeter(b"hi").handle,
    "a callable object": CallableGreeter(b"hi"),
    "a partial": functools.partial(greet, b"hi"),
    "a lambda": lambda stream: greet(b"hi", stream),
}


@pytest.mark.harness(transports=["memory"])
@pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS.keys())
async def test_any_async_callable_is_a_handler(harness: Harness, handler: Any) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    assert await client.receive() == b"hi"
    with pytest.raises(EndOfStream):  # the stream is closed when the handler returns
        await client.receive()


async def test_connections_are_recorded_while_they_live(harness: Harness) -> None:
    server = await harness.serve(echo)
    first, second = await server.connect(), await server.connect()
    await server.wait_connections(2)
    await first.send(b"12345")
    assert await first.receive() == b"12345"
    await harness.settle()
    assert server.accepted == 2
    connection, other = server.connections
    assert (connection.bytes_in, connection.bytes_out) == (5, 5)
    assert (other.bytes_in, other.bytes_out) == (0, 0)
    assert connection.id != other.id
    assert connection.state == "established"
    assert connection.waiting == "receive"
    assert connection.local_address == first.extra(SocketAttribute.remote_address)
    assert connection.remote_address == first.extra(SocketAttribute.local_address)
    await first.aclose()
    await second.aclose()
    await server.wait_connections(0)
    assert server.connections == []
    assert connection.state == "closed"
    assert server.accepted == 2


async def test_drop_connections_cancels_the_handlers_and_goes_on_accepting(
    harness: Harness,
) -> None:
    server = await harness.serve(echo)
    clients = [await server.connect() for _ in range(3)]
    await server.wait_connections(3)
    await server.drop_connections()
    assert server.connections == []
    for client in clients:
        with pytest.raises((EndOfStream, BrokenResourceError)):
            await client.receive()
    again = await server.connect()
    await again.send(b"x")
    assert await again.receive() == b"x"


async def test_dropping_right_after_the_client_has_sent(harness: Harness) -> None:
    """The step in which AnyIO's unix streams on asyncio trip over a cancelled future."""
    server = await harness.serve(echo)
    for _ in range(20):
        client = await server.connect()
        await server.wait_connections(1)
        await client.send(b"x")
        await server.drop_connections()
        await client.aclose()


async def test_stop_refuses_new_connections_and_restart_accepts_at_the_same_address(
    harness: Harness,
) -> None:
    server = await harness.serve(echo)
    address = server.address
    client = await server.connect()
    await server.wait_connections(1)
    await server.stop(grace=0)
    assert server.connections == []
    with pytest.raises((EndOfStream, BrokenResourceError)):
        await client.receive()
    with pytest.raises(anyio.ConnectionFailed, match=r"Server 'echo'.*is stopped"):
        await server.connect()
    await server.stop()  # once more does nothing
    await server.restart()
    assert server.address == address
    async with await server.connect() as again:
        await again.send(b"x")
        assert await again.receive() == b"x"
    await server.restart()
    assert server.address == address
    assert server.accepted == 2


async def test_pair_is_two_connected_streams(harness: Harness) -> None:
    client, peer = await harness.pair()
    await client.send(b"ping")
    assert await peer.receive() == b"ping"
    await peer.send(b"pong")
    assert await client.receive() == b"pong"
    await peer.aclose()
    with pytest.raises(EndOfStream):
        await client.receive()


async def test_start_returns_what_started_got(harness: Harness) -> None:
    stopped = Event()

    async def service(value: int, *, task_status: TaskStatus[int]) -> None:
        task_status.started(value + 1)
        try:
            await anyio.sleep_forever()
        finally:
            stopped.set()

    async def refuses(*, task_status: TaskStatus[None]) -> None:
        raise LookupError("no such thing")

    assert await harness.start(service, 41) == 42
    with pytest.raises(LookupError, match="no such thing"):
        await harness.start(refuses)
    assert not stopped.is_set()


async def test_settle_returns_when_everybody_has_read(harness: Harness) -> None:
    received: list[bytes] = []

    async def collect(stream: ByteStream) -> None:
        async for chunk in stream:
            received.append(chunk)

    server = await harness.serve(collect)
    client = await server.connect()
    for number in range(100):
        await client.send(b"%d," % number)
        await harness.settle()
        assert b"".join(received).endswith(b"%d," % number)


number: ContextVar[int] = ContextVar("number")


@pytest.fixture
async def numbered(harness: Harness) -> int:
    number.set(7)
    return 7


async def test_a_context_variable_of_a_fixture_reaches_test_and_handler(
    numbered: int, harness: Harness
) -> None:
    async def tell(stream: ByteStream) -> None:
        await stream.send(b"%d" % number.get())

    assert number.get() == numbered
    server = await harness.serve(tell)
    assert await (await server.connect()).receive() == b"7"


async def test_a_handler_that_expects_to_raise_is_recorded_and_not_a_failure(
    harness: Harness,
) -> None:
    async def raises(stream: ByteStream) -> None:
        await stream.receive()
        raise LookupError("as expected")

    server = await harness.serve(raises, expect=LookupError)
    client = await server.connect()
    await client.send(b"x")
    with pytest.raises((EndOfStream, BrokenResourceError)):
        await client.receive()
    await harness.settle()
    assert [str(error) for error in server.errors] == ["as expected"]


@pytest.mark.harness(transports=["tcp"])
async def test_the_backend_has_its_name(harness: Harness, request: pytest.FixtureRequest) -> None:
    assert f"[{harness.backend}-tcp]" in request.node.name
    assert harness.transport.name == "tcp"


def sync_handler(stream: ByteStream) -> None:
    """No handler: not async."""


async def generator_handler(stream: ByteStream) -> Any:
    yield stream


async def two_streams(reader: Any, writer: Any) -> None:
    """What asyncio.start_server takes."""


async def application(scope: Any, receive: Any, send: Any) -> None:
    """What ASGI takes."""


async def says_where(*, task_status: Any) -> None:
    """What Main takes."""


class Handling:
    async def handle(self, stream: ByteStream) -> None:
        """Of an object."""


async def no_stream():
    """Takes nothing."""


@pytest.mark.harness(transports=["memory"])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"handler": sync_handler}, TypeError, r"sync_handler\(\) is not async: write `async def`"),
        ({"handler": generator_handler}, TypeError, "generator_handler.* has a `yield`"),
        (
            {"handler": two_streams},
            TypeError,
            r"calls the handler with the stream alone, and two_streams\(reader.*\) does not take "
            r"that: missing a required argument: 'writer'; AsyncioStreams takes a function of a r",
        ),
        ({"handler": application}, TypeError, r"\(scope, receive, send\) .*; ASGI takes an app"),
        ({"handler": says_where}, TypeError, r"says_where\(\*, task_status\) .*; Main takes a f"),
        ({"handler": Handling}, TypeError, r"expects .*: Handling\(...\), not the class"),
        ({"handler": no_stream}, TypeError, r"no_stream\(\) .*: too many positional arguments$"),
        ({"handler": 7}, TypeError, "expects an async function that takes the stream.*not 7"),
        ({"handler": Greeter}, TypeError, "expects an async function.*Greeter"),
        ({"grace": -1}, ValueError, "grace must be a number of seconds, zero or more, not -1"),
        ({"grace": float("nan")}, ValueError, "grace must be.*nan"),
        ({"grace": "1"}, TypeError, "grace must be a number of seconds, not '1'"),
        ({"transport": "tpc"}, ValueError, "unknown transport 'tpc'; expected one of tcp, unix"),
        ({"transport": 7}, TypeError, "transport must be a Transport or one of the names.*not 7"),
        ({"expect": [7]}, TypeError, "expect takes exception types, not 7"),
        ({"expect": 7}, TypeError, "expect takes exception types, not 7"),
        ({"expect": "boom"}, TypeError, "expect takes exception types, not 'boom'"),
        ({"expect_required": True}, ValueError, "expect_required=True needs expect="),
        ({"name": 5}, TypeError, "name must be a string, not 5"),
    ],
)
async def test_bad_arguments_of_serve_are_named(
    harness: Harness, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await harness.serve(**{"handler": echo, **arguments})


@pytest.mark.harness(transports=["memory"])
async def test_what_a_decorator_adds_is_not_asked_for(harness: Harness) -> None:
    def with_word(handler: Any) -> Any:
        @functools.wraps(handler)
        async def wrapped(*args: Any) -> None:
            await handler(*args, b"added")

        return wrapped

    @with_word
    async def sends(stream: ByteStream, word: bytes) -> None:
        await stream.send(word)

    client = await (await harness.serve(sends)).connect()
    assert await client.receive() == b"added"


@pytest.mark.harness(transports=["memory"])
async def test_nothing_starts_after_the_end(harness: Harness) -> None:
    async with open_harness(transport="memory") as ended:
        server = await ended.serve(echo)
    for call in (
        lambda: ended.serve(echo),
        lambda: ended.connect(server),
        lambda: ended.pair(),
        lambda: ended.start(echo),
    ):
        with pytest.raises(RuntimeError, match="this harness is closed, because the test"):
            await call()
    with pytest.raises(RuntimeError, match="cannot use task_group: this harness is closed"):
        ended.task_group.start_soon(anyio.sleep, 0)
    with pytest.raises(RuntimeError, match="cannot restart"):
        await server.restart()


@pytest.mark.harness(transports=["memory"])
async def test_other_bad_arguments_are_named(harness: Harness) -> None:
    server = await harness.serve(echo)
    with pytest.raises(TypeError, match="expects a Server or another"):
        await harness.connect("127.0.0.1:80")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="takes a number of connections, not -1"):
        await server.wait_connections(-1)
    with pytest.raises(ValueError, match="grace must be"):
        await server.stop(grace=-1)
    with pytest.raises(AttributeError, match="transport 'memory' has no TLS"):
        _ = server.client_ssl_context
    with pytest.raises(AttributeError, match="has no path, only host and port"):
        _ = server.path
    with pytest.raises(ValueError, match="unknown transport 'x'"):
        open_harness(transport="x")
    await server.stop()
    with pytest.raises(RuntimeError, match="there will never be 1"):
        await server.wait_connections(1)


@pytest.mark.harness(transports=["memory"])
async def test_two_tasks_settle_at_once(harness: Harness) -> None:
    async with anyio.create_task_group() as tg:
        for _ in range(3):
            tg.start_soon(harness.settle)


async def test_restarts_and_stops_at_once_take_turns(harness: Harness) -> None:
    server = await harness.serve(echo)
    async with anyio.create_task_group() as tg:
        tg.start_soon(server.restart)
        tg.start_soon(server.stop)
        tg.start_soon(server.restart)
    await server.restart()  # trio starts tasks in any order; the stop may have been the last
    client = await server.connect()
    await client.send(b"x")
    assert await client.receive() == b"x"


async def test_a_handler_cannot_restart_its_own_server(harness: Harness) -> None:
    async def restarts(stream: ByteStream) -> None:
        with pytest.raises(RuntimeError, match="cannot be restarted by its own handler"):
            await server.restart()
        await stream.send(b"refused")

    server = await harness.serve(restarts)
    assert await (await server.connect()).receive() == b"refused"


async def test_a_cancelled_pair_leaves_nothing_open(harness: Harness) -> None:
    """Cancelled at each of its steps; what was open would be a ResourceWarning, an error here."""
    for turns in range(30):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tg:

                async def cancel_after(turns: int) -> None:
                    for _ in range(turns):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()

                tg.start_soon(cancel_after, turns)
                await harness.pair()
    await harness.settle()
    gc.collect()


@pytest.mark.harness(transports=["memory"])
async def test_a_mock_is_called_and_a_sync_callable_is_refused(harness: Harness) -> None:
    handler = AsyncMock()
    server = await harness.serve(handler)
    await server.connect()
    await harness.settle()
    assert handler.await_count == 1

    class Sync:
        def __call__(self, stream: ByteStream) -> None: ...

    for not_async in (print, Sync()):
        with pytest.raises(TypeError, match="is not async: write `async def`"):
            await harness.serve(not_async)
    with pytest.raises(TypeError, match=r"the handler of .* is not async: it returned None"):
        async with open_harness(transport="memory") as inner:
            await (await inner.serve(lambda stream: None)).connect()
            await anyio.sleep_forever()


@pytest.mark.harness(transports=["unix"])
async def test_a_unix_socket_may_be_removed_by_the_test(harness: Harness) -> None:
    server = await harness.serve(echo)
    await harness.serve(echo)
    shutil.rmtree(os.path.dirname(server.path))


async def test_a_block_may_be_entered_by_a_factory_of_a_fixture(
    harness: Harness, make_server: Any
) -> None:
    server = await make_server(echo)
    client = await server.connect()
    await client.send(b"x")
    assert await client.receive() == b"x"


@pytest.fixture
async def make_server(anyio_backend: Any) -> Any:
    async with AsyncExitStack() as stack:

        async def make(handler: Any) -> Any:
            opened = await stack.enter_async_context(open_harness())
            return await opened.serve(handler)

        yield make


async def test_an_error_that_is_required(harness: Harness) -> None:
    async def raises(stream: ByteStream) -> None:
        await stream.receive()
        raise LookupError("as required")

    server = await harness.serve(raises, expect=LookupError, expect_required=True)
    async with await server.connect() as client:
        await client.send(b"x")


async def test_an_error_that_is_required_and_does_not_come(harness: Harness) -> None:
    async def well_behaved(stream: ByteStream) -> None: ...

    with pytest.raises(NotRaised, match="required to raise LookupError or OSError, and none did"):
        async with open_harness() as inner:
            server = await inner.serve(
                well_behaved, expect=(LookupError, OSError), expect_required=True
            )
            await inner.connect(server)


async def test_a_failed_block_is_not_asked_for_its_required_errors(harness: Harness) -> None:
    async def well_behaved(stream: ByteStream) -> None: ...

    with pytest.raises(AssertionError, match="the block itself"):
        async with open_harness() as inner:
            await inner.serve(well_behaved, expect=LookupError, expect_required=True)
            raise AssertionError("the block itself")
