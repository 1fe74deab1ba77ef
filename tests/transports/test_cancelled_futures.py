"""The mend for AnyIO's unix streams on asyncio: it works, and it is still needed.

The bug: AnyIO's unix streams and listener register ``future.set_result`` itself as the loop's
callback. Where the waiting task is cancelled between the poll that found the descriptor ready and
that callback, the callback raises InvalidStateError into the loop's exception handler.

That moment can be hit at will. asyncio runs what was ready before the poll, then the callbacks of
the poll: cancelling one turn after the peer has sent is right in between. uvloop polls after all
that is ready, and AnyIO takes the callback away only in the turn after: cancelling right after the
peer has sent is enough.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile

import anyio
import pytest
from anyio.abc import SocketAttribute

from harness.settling import settle
from harness.transports.cancelled_futures import tolerate_cancelled_futures

#: Turns between the peer's act and the cancellation that hit the moment.
TURNS = {"asyncio": 1, "uvloop": 0}

pytestmark = [
    pytest.mark.harness(backends=["asyncio", "uvloop"]),
    pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no unix-domain sockets here"),
]

each_operation = pytest.mark.parametrize("operation", ["receive", "send", "accept"])


class Peers:
    """A listener, a stream accepted by nobody yet, and plain non-blocking sockets against them."""

    async def open(self, mend, stack):
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="t-", dir="/tmp"))
        self.path = os.path.join(directory, "s")
        self.listener = mend(await anyio.create_unix_listener(self.path))
        stack.push_async_callback(self.listener.aclose)
        self.raw = stack.enter_context(socket.socket(socket.AF_UNIX))
        self.raw.setblocking(False)
        self.raw.connect(self.path)
        self.stream = mend(await self.listener.accept())
        stack.push_async_callback(self.stream.aclose)
        self.other = stack.enter_context(socket.socket(socket.AF_UNIX))
        self.other.setblocking(False)

    def blocked(self, operation):
        """What blocks."""
        return {
            "receive": self.stream.receive,
            "send": lambda: self.stream.send(bytes(32 * 1024 * 1024)),
            "accept": self.listener.accept,
        }[operation]

    def unblock(self, operation):
        """What the peer does that makes the descriptor ready."""
        if operation == "receive":
            self.raw.send(b"x")
        elif operation == "accept":
            self.other.connect(self.path)
        else:
            self.read_all()

    def read_all(self):
        total = 0
        try:
            while data := self.raw.recv(1024 * 1024):
                total += len(data)
        except BlockingIOError:
            pass
        return total


async def errors_of_a_cancellation_at_the_worst_moment(operation, mend):
    """What reached the loop's exception handler, and whether the operation was cancelled."""
    loop = asyncio.get_running_loop()
    turns = TURNS["uvloop" if type(loop).__module__.startswith("uvloop") else "asyncio"]
    errors = []
    before = loop.get_exception_handler()
    scope = anyio.CancelScope()
    peers = Peers()

    async def run():
        with scope:
            await peers.blocked(operation)()

    async with contextlib.AsyncExitStack() as stack:
        await peers.open(mend, stack)
        loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))
        stack.callback(loop.set_exception_handler, before)
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(run)
            await settle()
            peers.unblock(operation)
            for _ in range(turns):
                await asyncio.sleep(0)
            scope.cancel()
        await settle()
    assert scope.cancelled_caught
    return [type(error) for error in errors]


@each_operation
async def test_plain_anyio_still_needs_the_mend(anyio_backend, operation):
    """If this fails, AnyIO was mended: `harness/transports/cancelled_futures.py` can go."""
    errors = await errors_of_a_cancellation_at_the_worst_moment(operation, lambda plain: plain)
    assert errors == [asyncio.InvalidStateError]


@each_operation
async def test_with_the_mend_a_cancellation_is_silent_at_the_worst_moment(anyio_backend, operation):
    errors = await errors_of_a_cancellation_at_the_worst_moment(
        operation, tolerate_cancelled_futures
    )
    assert errors == []


@pytest.fixture
async def peers(anyio_backend):
    peers = Peers()
    async with contextlib.AsyncExitStack() as stack:
        await peers.open(tolerate_cancelled_futures, stack)
        yield peers


async def test_a_mended_receive_that_was_cancelled_loses_no_byte(peers):
    for turns in range(4):
        scope = anyio.CancelScope()
        received = []

        async def receive(scope=scope, received=received):
            with scope:
                received.append(await peers.stream.receive())

        async with anyio.create_task_group() as task_group:
            task_group.start_soon(receive)
            await settle()
            peers.raw.send(b"x")
            for _ in range(turns):
                await asyncio.sleep(0)
            scope.cancel()
        if scope.cancelled_caught:
            received.append(await peers.stream.receive())
        assert received == [b"x"]


async def test_a_mended_send_that_was_cancelled_leaves_the_stream_usable(peers):
    scope = anyio.CancelScope()

    async def send():
        with scope:
            await peers.stream.send(bytes(32 * 1024 * 1024))

    async with anyio.create_task_group() as task_group:
        task_group.start_soon(send)
        await settle()
        scope.cancel()
    assert scope.cancelled_caught
    peers.read_all()
    await peers.stream.send(b"after")
    assert peers.raw.recv(100) == b"after"


async def test_a_mended_send_waits_for_room_and_goes_on(peers):
    size, read = 4 * 1024 * 1024, 0
    async with anyio.create_task_group() as task_group:
        task_group.start_soon(peers.stream.send, bytes(size))
        while read < size:
            await settle()
            got = peers.read_all()
            assert got
            read += got
    assert read == size


async def test_a_mended_accept_that_was_cancelled_loses_no_connection(peers):
    for turns in range(4):
        scope = anyio.CancelScope()
        accepted = []

        async def accept(scope=scope, accepted=accepted):
            with scope:
                accepted.append(await peers.listener.accept())

        async with anyio.create_task_group() as task_group:
            with socket.socket(socket.AF_UNIX) as client:
                task_group.start_soon(accept)
                await settle()
                client.connect(peers.path)
                for _ in range(turns):
                    await asyncio.sleep(0)
                scope.cancel()
                await settle()
                if scope.cancelled_caught:
                    accepted.append(await peers.listener.accept())
                client.send(b"hello")
                assert await accepted[0].receive() == b"hello"
                await accepted[0].aclose()


async def test_what_a_mended_listener_accepts_is_mended(peers):
    peers.other.connect(peers.path)
    async with await peers.listener.accept() as stream:
        assert "_wait_until_readable" in vars(stream)
        assert "_wait_until_writable" in vars(stream)


@pytest.mark.parametrize("operation", ["receive", "send", "accept"])
async def test_closing_wakes_a_mended_wait(peers, operation):
    ends = []

    async def run():
        with pytest.raises(anyio.ClosedResourceError):
            await peers.blocked(operation)()
        ends.append(operation)

    async with anyio.create_task_group() as task_group:
        task_group.start_soon(run)
        await settle()
        await (peers.listener if operation == "accept" else peers.stream).aclose()
    assert ends == [operation]


async def test_a_mended_listener_can_be_closed_twice(peers):
    await peers.listener.aclose()
    await peers.listener.aclose()
    with pytest.raises(anyio.ClosedResourceError):
        await peers.listener.accept()


@pytest.mark.parametrize("operation", ["receive", "accept"])
async def test_two_mended_waits_at_once_are_refused(peers, operation):
    async with anyio.create_task_group() as task_group:
        task_group.start_soon(peers.blocked(operation))
        await settle()
        with pytest.raises(anyio.BusyResourceError):
            await peers.blocked(operation)()
        task_group.cancel_scope.cancel()


@pytest.mark.harness(backends=["asyncio", "uvloop", "trio"])
async def test_what_is_not_anyios_unix_stream_on_asyncio_is_left_alone(anyio_backend):
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener:
        assert tolerate_cancelled_futures(listener) is listener
        assert not {"accept", "aclose"} & set(vars(listener))
        port = listener.extra(SocketAttribute.local_port)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            before = dict(vars(stream))
            assert tolerate_cancelled_futures(stream) is stream
            assert vars(stream) == before


async def test_a_mended_listener_that_is_closed_as_accept_begins_says_so(peers):
    begun, over = anyio.Event(), anyio.Event()

    async def accept():
        begun.set()
        with pytest.raises(anyio.ClosedResourceError):
            await peers.listener.accept()
        over.set()

    async with anyio.create_task_group() as task_group:
        task_group.start_soon(accept)
        await begun.wait()
        await peers.listener.aclose()
    assert over.is_set()


async def a_close_during_both(mend):
    """How receive and send end, of which each is blocked, and what reached the loop's handler."""
    loop = asyncio.get_running_loop()
    errors, ends = [], {}
    before = loop.get_exception_handler()
    peers = Peers()

    async def run(operation):
        try:
            await peers.blocked(operation)()
        except anyio.ClosedResourceError:
            ends[operation] = "closed"

    async with contextlib.AsyncExitStack() as stack:
        await peers.open(mend, stack)
        loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))
        stack.callback(loop.set_exception_handler, before)
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(run, "receive")
            task_group.start_soon(run, "send")
            await settle()
            await peers.stream.aclose()
            await settle()
            task_group.cancel_scope.cancel()
        await settle()
    return errors, ends


async def test_plain_anyio_needs_the_mend_of_a_close(anyio_backend):
    """If this fails, AnyIO was mended: `mended_close` can go."""
    errors, ends = await a_close_during_both(lambda plain: plain)
    assert errors or len(ends) < 2


async def test_a_mended_close_ends_both_in_silence(anyio_backend):
    errors, ends = await a_close_during_both(tolerate_cancelled_futures)
    assert errors == []
    assert ends == {"receive": "closed", "send": "closed"}
