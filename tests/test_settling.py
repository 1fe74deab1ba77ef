"""settle() returns when every other task is blocked: not before, and not only after a while."""

from __future__ import annotations

import asyncio
import socket

import anyio
import pytest
from anyio import CancelScope, Event, create_memory_object_stream, create_task_group
from anyio.abc import SocketAttribute

from harness.settling import EMPTY_TURNS, QUIET_TURNS, settle

pytestmark = pytest.mark.harness()


@pytest.mark.parametrize("length", [1, 2, 10, 200])
async def test_a_chain_of_tasks_that_wake_one_another_has_run_to_its_end(anyio_backend, length):
    events = [Event() for _ in range(length + 1)]

    async def link(number):
        await events[number].wait()
        events[number + 1].set()

    async with create_task_group() as task_group:
        for number in range(length):
            task_group.start_soon(link, number)
        assert await settle()
        assert not events[-1].is_set()
        events[0].set()
        assert await settle()
        assert events[-1].is_set()


async def test_a_chain_that_starts_new_tasks_has_run_to_its_end(anyio_backend):
    started = []

    async def start(left):
        started.append(left)
        if left:
            task_group.start_soon(start, left - 1)

    async with create_task_group() as task_group:
        task_group.start_soon(start, 50)
        await settle()
        assert started == list(range(50, -1, -1))


async def test_what_is_passed_through_memory_object_streams_has_arrived(anyio_backend):
    arrived = []

    async def pass_on(receive, send):
        async with receive, send:
            async for item in receive:
                await send.send(item)

    async def collect(receive):
        async with receive:
            async for item in receive:
                arrived.append(item)

    async with create_task_group() as task_group:
        first, receive = create_memory_object_stream()
        for _ in range(5):
            send, next_receive = create_memory_object_stream()
            task_group.start_soon(pass_on, receive, send)
            receive = next_receive
        task_group.start_soon(collect, receive)
        async with first:
            for item in range(20):
                await first.send(item)
            await settle()
            assert arrived == list(range(20))


@pytest.mark.harness(transports=["tcp", "unix", "tls", "memory"])
async def test_bytes_sent_before_have_been_received_by_who_waited_for_them(harness):
    near, far = await harness.pair()
    received = bytearray()

    async def receive():
        async for data in far:
            received.extend(data)

    harness.task_group.start_soon(receive)
    await harness.settle()
    for turn in range(50):
        before = len(received)
        await near.send(b"%03d" % turn)
        await harness.settle()
        assert received[before:] == b"%03d" % turn


@pytest.mark.harness(transports=["tcp", "unix", "memory"])
async def test_it_never_returns_in_the_middle_of_a_ping_pong(harness):
    """200 times: some hops to and fro between two tasks, all of which settle() has to wait for."""
    hops = 10
    near, far = await harness.pair()
    counts = {near: 0, far: 0}

    async def bounce(stream):
        while True:
            left = (await stream.receive(1))[0]
            counts[stream] += 1
            if left:
                await stream.send(bytes([left - 1]))

    harness.task_group.start_soon(bounce, near)
    harness.task_group.start_soon(bounce, far)
    for rally in range(1, 201):
        await near.send(bytes([hops - 1]))
        await harness.settle()
        assert sum(counts.values()) == rally * hops


@pytest.mark.harness(transports=["tcp", "unix", "memory"])
async def test_a_relay_of_servers_has_passed_on_everything(harness):
    received = bytearray()

    async def last(stream):
        async for data in stream:
            received.extend(data)

    server = await harness.serve(last, name="last")
    for number in range(4):

        async def relay(stream, target=server):
            async with await target.connect() as onward:
                async for data in stream:
                    await onward.send(data)

        server = await harness.serve(relay, name=f"relay {number}")
    client = await server.connect()
    for _ in range(20):
        await client.send(b"x")
        await harness.settle()
    assert received == b"x" * 20


async def test_a_peer_outside_the_loop_that_has_sent_is_waited_for(anyio_backend):
    """Bytes that lie in the kernel make their reader a task that is not blocked."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        received = []

        async def read():
            while True:
                await anyio.wait_readable(ours)
                received.append(ours.recv(1))

        async with create_task_group() as task_group:
            task_group.start_soon(read)
            await settle()
            theirs.send(b"a")
            await settle()
            assert received == [b"a"]
            theirs.send(b"bcd")
            await settle()
            assert received == [b"a", b"b", b"c", b"d"]
            task_group.cancel_scope.cancel()


async def test_a_task_that_waits_for_a_timer_counts_as_blocked(anyio_backend):
    async with create_task_group() as task_group:
        task_group.start_soon(anyio.sleep, 3600)
        assert await settle()
        task_group.cancel_scope.cancel()


async def test_a_task_that_waits_for_a_thread_counts_as_blocked(anyio_backend):
    import threading

    release = threading.Event()
    over = []

    async def wait_for_thread():
        await anyio.to_thread.run_sync(release.wait)
        over.append(True)

    async with create_task_group() as task_group:
        task_group.start_soon(wait_for_thread)
        assert await settle()
        assert not over
        release.set()
    assert over


async def test_with_nothing_else_to_run_it_settles(anyio_backend):
    assert await settle() is True
    assert await settle() is True


@pytest.mark.parametrize("turns", [1, 5, 64])
async def test_it_gives_up_on_a_task_that_never_blocks(anyio_backend, turns):
    spins = 0

    async def spin():
        nonlocal spins
        while True:
            spins += 1
            await anyio.lowlevel.checkpoint()

    async with create_task_group() as task_group:
        task_group.start_soon(spin)
        assert await settle(turns=turns) is False
        assert spins <= 4 * turns + 4
        task_group.cancel_scope.cancel()


async def test_with_enough_turns_it_settles_after_what_is_left_to_run(anyio_backend):
    ran = []

    async def work():
        for turn in range(20):
            await anyio.lowlevel.checkpoint()
            ran.append(turn)

    async with create_task_group() as task_group:
        task_group.start_soon(work)
        assert await settle(turns=256) is True
        assert ran == list(range(20))


async def test_with_too_few_turns_it_does_not(anyio_backend):
    async def work():
        for _ in range(100):
            await anyio.lowlevel.checkpoint()

    async with create_task_group() as task_group:
        task_group.start_soon(work)
        assert await settle(turns=20) is False
        task_group.cancel_scope.cancel()


async def test_giving_up_leaves_nothing_behind(anyio_backend):
    """On trio it works with an instrument and a cancel scope; neither may outlive the call."""

    async def spin():
        while True:
            await anyio.lowlevel.checkpoint()

    async with create_task_group() as task_group:
        task_group.start_soon(spin)
        for _ in range(10):
            assert await settle(turns=3) is False
        task_group.cancel_scope.cancel()
    for _ in range(10):
        await anyio.lowlevel.checkpoint()
    assert await settle(turns=64) is True


async def test_it_can_be_cancelled(anyio_backend):
    async def spin():
        while True:
            await anyio.lowlevel.checkpoint()

    async with create_task_group() as task_group:
        task_group.start_soon(spin)
        for turns in (None, 10_000):
            with CancelScope() as scope:
                task_group.start_soon(cancel, scope)
                await settle(turns=turns)
            assert scope.cancelled_caught
        with CancelScope() as scope:
            scope.cancel()
            await settle()
        assert scope.cancelled_caught
        task_group.cancel_scope.cancel()


async def cancel(scope):
    scope.cancel()


async def test_what_has_only_just_begun_to_wait_for_a_socket(anyio_backend):
    """In the very turn in which it is asked whether anything is to be done."""
    arrived = []
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        right.send(b"here before")

        async def receive():
            await anyio.wait_readable(left)
            arrived.append(left.recv(100))

        async with create_task_group() as task_group:
            task_group.start_soon(receive)
            await settle()
            assert arrived == [b"here before"]


async def test_connecting_and_the_first_message(anyio_backend):
    arrived = []

    async def handle(stream):
        async with stream:
            async for data in stream:
                arrived.append(data)

    async def client(port):
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"hello")
            await anyio.sleep_forever()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)
        async with create_task_group() as task_group:
            task_group.start_soon(listener.serve, handle)
            task_group.start_soon(client, port)
            await settle()
            assert arrived == [b"hello"]
            task_group.cancel_scope.cancel()


@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_on_asyncio_it_turns_the_loop_and_never_pauses(anyio_backend, monkeypatch):
    delays = []
    sleep = asyncio.sleep

    async def recorded(delay, *args):
        delays.append(delay)
        await sleep(delay, *args)

    monkeypatch.setattr(asyncio, "sleep", recorded)
    await settle()
    # Its loop says that it has nothing to run; uvloop does not.
    turns = EMPTY_TURNS if hasattr(asyncio.get_running_loop(), "_ready") else QUIET_TURNS
    assert delays == [0] * turns


class Waitable:
    """What a task of asyncio's may wait for beside a future: it does not tell if it is done."""

    _asyncio_future_blocking = False

    def __await__(self):
        self._asyncio_future_blocking = True
        yield self

    def get_loop(self):
        return asyncio.get_running_loop()

    def add_done_callback(self, callback, *, context):
        self.wake = lambda: self.get_loop().call_soon(callback, self, context=context)

    def cancel(self, msg=None):
        return False

    def result(self):
        return None


@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_a_task_that_waits_for_no_future_is_blocked(harness):
    waitable = Waitable()

    async def wait():
        await waitable

    task = asyncio.get_running_loop().create_task(wait())
    await harness.settle()
    assert not task.done()
    assert "wait" in harness.dump()
    waitable.wake()
    await harness.settle()
    assert task.done()
