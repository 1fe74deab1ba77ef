"""What the harness does with handlers that do not stop by themselves, in every cell."""

from __future__ import annotations

import contextlib
import threading

import anyio
import pytest
from anyio import CancelScope, EndOfStream, Event
from anyio.abc import ByteStream

from harness import DidNotStop, Harness, Server, open_harness


class EndlessServer:
    """The server of the question asked most: it loops for ever per client."""

    def __init__(self) -> None:
        self.cancelled = 0

    async def handle(self, stream: ByteStream) -> None:
        try:
            while True:
                data = await stream.receive()
                await stream.send(data.upper())
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise


async def test_a_server_that_loops_for_ever_is_stopped(harness: Harness) -> None:
    server = await harness.serve(EndlessServer())
    client = await server.connect()
    await client.send(b"hello")
    assert await client.receive() == b"HELLO"
    # The client is left open: nothing here ends the handler.


async def test_lingering_handlers_are_cancelled_not_fed_an_end(harness: Harness) -> None:
    endless = EndlessServer()
    async with open_harness(transport=harness.transport) as inner:
        server = await inner.serve(endless)
        for _ in range(3):
            await server.connect()
        await server.wait_connections(3)
        await inner.settle()
    assert endless.cancelled == 3
    assert server.connections == []
    assert server.errors == []


async def test_a_handler_that_ignores_the_end_of_the_stream_is_cancelled(harness: Harness) -> None:
    ended = Event()

    async def ignores_eof(stream: ByteStream) -> None:
        while True:
            try:
                await stream.receive()
            except EndOfStream:
                ended.set()
                await anyio.lowlevel.checkpoint()

    async with open_harness(transport=harness.transport, grace=0) as inner:
        server = await inner.serve(ignores_eof)
        await (await server.connect()).aclose()
        await ended.wait()
    assert server.connections == []


async def test_a_handler_that_awaits_in_finally_finishes_its_cleanup(harness: Harness) -> None:
    done: list[str] = []

    async def cleans_up(stream: ByteStream) -> None:
        try:
            await stream.receive()
        finally:
            with CancelScope(shield=True):
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()
            done.append("cleaned up")

    async with open_harness(transport=harness.transport) as inner:
        server = await inner.serve(cleans_up)
        await server.connect()
        await server.wait_connections(1)
        await inner.settle()
    assert done == ["cleaned up"]


async def test_a_handler_that_shields_itself_is_named_and_stopped(harness: Harness) -> None:
    stopped: list[str] = []

    async def stubborn(stream: ByteStream) -> None:
        try:
            with CancelScope(shield=True):
                await anyio.sleep_forever()
        finally:
            stopped.append("stopped")

    with pytest.raises(DidNotStop) as caught:
        async with open_harness(transport=harness.transport, grace=0, cancel_timeout=0.01) as inner:
            server = await inner.serve(stubborn)
            await server.connect()
            await server.wait_connections(1)
            await inner.settle()
    assert "a handler of server 'stubborn'" in str(caught.value)
    assert "await anyio.sleep_forever()" in str(caught.value)
    assert stopped == ["stopped"]


async def test_a_handler_in_the_middle_of_its_work_gets_the_grace(harness: Harness) -> None:
    written: list[bytes] = []
    release = Event()

    async def writes_late(stream: ByteStream) -> None:
        data = await stream.receive()
        await release.wait()
        written.append(data)

    async def release_when_nothing_else_runs() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            release.set()

    async with open_harness(transport=harness.transport, grace=60) as inner:
        server = await inner.serve(writes_late)
        client = await server.connect()
        await client.send(b"to disk")
        await inner.settle()
        async with anyio.create_task_group() as tg:
            tg.start_soon(release_when_nothing_else_runs)
            await anyio.lowlevel.checkpoint()
            tg.cancel_scope.cancel()
    assert written == [b"to disk"]


async def test_drain_returns_as_soon_as_the_last_handler_is_done(harness: Harness) -> None:
    # With a grace of an hour this ends only because draining ends with the handler.
    go_on = Event()

    async def waits(stream: ByteStream) -> None:
        await go_on.wait()

    server = await harness.serve(waits)
    await server.connect()
    await server.wait_connections(1)
    async with anyio.create_task_group() as tg:
        tg.start_soon(lambda: server.stop(grace=3600))
        await harness.settle()
        assert len(server.connections) == 1
        go_on.set()
    assert server.connections == []


async def test_a_thousand_lingering_connections_are_torn_down(harness: Harness) -> None:
    endless = EndlessServer()
    async with open_harness(transport=harness.transport, cancel_timeout=60) as inner:
        server = await inner.serve(endless)
        for _ in range(1000):
            await server.connect()
        await server.wait_connections(1000)
        await inner.settle()
    assert endless.cancelled == 1000
    assert server.connections == []


async def test_children_of_the_task_group_end_with_the_test(harness: Harness) -> None:
    ended: list[str] = []

    async def child() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("child")

    async with open_harness(transport=harness.transport) as inner:
        inner.task_group.start_soon(child)
        await inner.settle()
    assert ended == ["child"]


async def test_cancelling_the_task_group_leaves_the_servers_alone(harness: Harness) -> None:
    server = await harness.serve(EndlessServer())
    harness.task_group.start_soon(anyio.sleep_forever)
    harness.task_group.cancel_scope.cancel()
    await harness.settle()
    client = await server.connect()
    await client.send(b"still here")
    assert await client.receive() == b"STILL HERE"


async def test_the_order_of_the_end(harness: Harness) -> None:
    """Stop accepting, cancel the idle, drain the busy: seen from inside one handler each."""
    events: list[str] = []
    release = Event()

    async def working(stream: ByteStream) -> None:
        await release.wait()
        try:
            await anyio.connect_tcp(server.host, server.port)
        except OSError:
            events.append("refused while draining")

    async def lingering(stream: ByteStream) -> None:
        try:
            await stream.receive()
        finally:
            events.append("lingering one cancelled")

    async def release_at_the_end() -> None:
        while working_server._running:
            await anyio.lowlevel.checkpoint()
        await inner.settle()
        release.set()

    async with (
        anyio.create_task_group() as tg,
        open_harness(transport="tcp", grace=60) as inner,
    ):
        working_server = server = await inner.serve(working)
        idle_server = await inner.serve(lingering)
        await server.connect()
        await idle_server.connect()
        await server.wait_connections(1)
        await idle_server.wait_connections(1)
        tg.start_soon(release_at_the_end)
    assert events == ["lingering one cancelled", "refused while draining"]


@pytest.mark.harness(transports=["memory"])
async def test_a_second_close_does_nothing(harness: Harness) -> None:
    async with open_harness(transport="memory") as inner:
        await inner.serve(EndlessServer())
    await inner.aclose()


async def test_a_handler_that_works_beside_reading_gets_the_grace(harness: Harness) -> None:
    done: list[str] = []
    go_on = Event()

    async def reads_and_works(stream: ByteStream) -> None:
        async def work() -> None:
            await go_on.wait()
            done.append("worked")
            tg.cancel_scope.cancel()

        async with anyio.create_task_group() as tg:
            tg.start_soon(work)
            await stream.receive()

    async def go_on_once_the_end_has_begun() -> None:
        while not inner._closed:
            await anyio.lowlevel.checkpoint()
        go_on.set()

    async with (
        anyio.create_task_group() as outer,
        open_harness(transport=harness.transport, grace=60) as inner,
    ):
        server = await inner.serve(reads_and_works)
        await server.connect()
        await server.wait_connections(1)
        await inner.settle()
        outer.start_soon(go_on_once_the_end_has_begun)
    assert done == ["worked"]


@pytest.mark.harness(backends=["trio"], transports=["memory"])
async def test_an_expected_error_in_a_nursery_that_is_cancelled(harness: Harness) -> None:
    """trio raises the child's error and the cancellation of the others in one group."""
    import trio

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise LookupError("while being cancelled")

    async def handler(stream: ByteStream) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            nursery.start_soon(trio.sleep_forever)

    server = await harness.serve(handler, expect=LookupError)
    await server.connect()
    await server.wait_connections(1)
    await server.drop_connections()
    assert len(server.errors) == 1


STUBBORN = {
    "shielded": ("await anyio.sleep_forever()", "shielded by a CancelScope(shield=True)"),
    "swallows": ("await anyio.sleep_forever()", "not shielded: it swallows the cancellation"),
    "in a thread": (
        "await anyio.to_thread.run_sync(",
        "waits for a thread: Event.wait, which cannot",
    ),
}


@pytest.mark.parametrize("how", STUBBORN)
@pytest.mark.parametrize("call", ["stop", "drop_connections"])
async def test_a_handler_that_did_not_stop_is_named_with_its_line_and_the_reason(
    harness: Harness, how: str, call: str
) -> None:
    release = threading.Event()

    async def stubborn(stream: ByteStream) -> None:
        if how == "in a thread":
            await anyio.to_thread.run_sync(release.wait)
        elif how == "shielded":
            with CancelScope(shield=True) as scope:
                scopes.append(scope)
                await anyio.sleep_forever()
        while not release.is_set():
            with contextlib.suppress(BaseException):
                await anyio.sleep_forever()

    scopes: list[CancelScope] = []
    async with open_harness(transport=harness.transport, grace=0, cancel_timeout=0.05) as inner:
        server = await inner.serve(stubborn)
        await server.connect()
        await server.wait_connections(1)
        await inner.settle()
        try:
            with pytest.raises(DidNotStop) as caught:
                await (server.stop(grace=0) if call == "stop" else server.drop_connections())
        finally:
            release.set()
            for scope in scopes:
                scope.cancel()
    message = str(caught.value)
    line, why = STUBBORN[how]
    assert message.startswith("1 handler of <Server 'stubborn' ")
    assert "did not stop within 0.05 s of being cancelled (harness_cancel_timeout):\n" in message
    assert f"stubborn: {line}" in message
    assert why in message


@pytest.mark.harness(backends=["asyncio", "uvloop"])  # trio shuffles what is to run
async def test_idle_handlers_end_in_the_order_in_which_they_came(harness: Harness) -> None:
    order: list[int] = []

    async def handle(stream: ByteStream) -> None:
        number = (await stream.receive())[0]
        try:
            await stream.receive()
        finally:
            order.append(number)

    async with open_harness(transport=harness.transport) as inner:
        server = await inner.serve(handle)
        for number in range(20):
            await (await server.connect()).send(bytes([number]))
            await inner.settle()
    assert order == list(range(20))


#: AnyIO's words, and trio's where its nursery is asked first.
REFUSED = r"not active|closed to new"


@pytest.mark.parametrize("used", [False, True])
async def test_nothing_is_started_in_the_task_group_any_more(harness: Harness, used: bool) -> None:
    """Not by a handler that has its grace either, whoever has used it before."""
    drained, both_refused = Event(), Event()

    async def child() -> None:
        raise AssertionError("it was started")

    async def handle(stream: ByteStream) -> None:
        await stream.receive()
        await drained.wait()
        with pytest.raises(RuntimeError, match=REFUSED):
            group.start_soon(child)
        with pytest.raises(RuntimeError, match=REFUSED):
            await group.start(child)
        both_refused.set()

    async with open_harness(transport=harness.transport, grace=60) as inner:
        group = inner.task_group
        if used:
            group.start_soon(anyio.lowlevel.checkpoint)
        server = await inner.serve(handle)
        await (await server.connect()).send(b"x")
        await inner.settle()
        harness.task_group.start_soon(set_when_draining, harness, server, drained)
    assert both_refused.is_set()


async def set_when_draining(harness: Harness, server: Server, event: Event) -> None:
    """When the end has begun, and all but busy handlers have ended."""
    while "stopped" not in repr(server):
        await anyio.lowlevel.checkpoint()
    await harness.settle()
    event.set()
