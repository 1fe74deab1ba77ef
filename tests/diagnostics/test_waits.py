"""Each kind of wait is named, in the same words on every backend."""

from __future__ import annotations

import gc
import math
import re
import socket
import sys
import threading
import weakref

import anyio
import pytest
from anyio import CancelScope, create_memory_object_stream, create_task_group

from harness.adapters import Bound
from harness.backends import current_library
from harness.diagnostics import LoopView, format_tasks
from harness.diagnostics.waits import Site
from harness.settling import settle

pytestmark = pytest.mark.harness()

#: So wide that no sentence is folded, however long the path of a socket.
WIDE = 1000


def wide_dump(harness):
    return format_tasks(LoopView.here(), connections=harness._live_connections(), width=WIDE)


def lines_about(name, tree=None):
    """The lines about the task called ``name``, without what is below it."""
    tree = format_tasks(LoopView.here(), width=WIDE) if tree is None else tree
    found = re.search(rf"^( *)- {re.escape(name)}\n((?:\1    .*(?:\n|$))*)", tree, re.MULTILINE)
    assert found, tree
    return [line.strip() for line in found[2].splitlines()]


def wait_in(tree, name="subject"):
    return lines_about(name, tree)[-1]


async def wait_of(func, *args):
    """What a task that runs ``func(*args)`` is said to wait for, once it is blocked."""
    async with create_task_group() as task_group:
        task_group.start_soon(func, *args, name="subject")
        await settle()
        tree = format_tasks(LoopView.here(), width=WIDE)
        task_group.cancel_scope.cancel()
    return wait_in(tree)


async def test_an_event(anyio_backend):
    assert await wait_of(anyio.Event().wait) == "waits for an event"


async def test_a_lock_says_who_has_it(anyio_backend):
    lock = anyio.Lock()
    async with lock:
        expected = "waits for a lock, held by 'the test'"
        assert await wait_of(lock.acquire) == expected
        assert await wait_of(anyio.Condition(lock).acquire) == expected


@pytest.mark.parametrize("fast", [False, True])
async def test_locks_and_semaphores_of_either_speed(anyio_backend, fast):
    lock, semaphore = anyio.Lock(fast_acquire=fast), anyio.Semaphore(0, fast_acquire=fast)
    async with lock:
        assert (await wait_of(lock.acquire)).startswith("waits for a lock, held by")
    assert await wait_of(semaphore.acquire) == "waits for a semaphore"


async def test_a_condition(anyio_backend):
    condition = anyio.Condition()

    async def wait():
        async with condition:
            await condition.wait()

    assert await wait_of(wait) == "waits for a condition"


async def test_a_capacity_limiter(anyio_backend):
    limiter = anyio.CapacityLimiter(1)
    expected = "waits for a capacity limiter: 1 of 1 tokens are taken"
    async with limiter:
        assert await wait_of(limiter.acquire) == expected
        assert await wait_of(limiter.acquire_on_behalf_of, object()) == expected


async def test_memory_object_streams(anyio_backend):
    send, receive = create_memory_object_stream[int](2)
    with send, receive:
        expected = "waits to receive from a memory object stream: its buffer is empty"
        assert await wait_of(receive.receive) == expected
        for item in range(2):
            send.send_nowait(item)
        expected = "waits to send to a memory object stream: its buffer is full (2)"
        assert await wait_of(send.send, 3) == expected
    send, receive = create_memory_object_stream[int](0)
    with send, receive:
        expected = "waits to send to a memory object stream: it has no buffer and nobody receives"
        assert await wait_of(send.send, 3) == expected


async def test_a_sleep_says_how_long_it_still_takes(anyio_backend):
    found = re.fullmatch(r"sleeps for another (\d+\.\d) s", await wait_of(anyio.sleep, 3600))
    assert 0 < float(found[1]) <= 3600
    wake_up = anyio.current_time() + 3600
    found = re.fullmatch(
        r"sleeps for another (\d+\.\d) s", await wait_of(anyio.sleep_until, wake_up)
    )
    assert 0 < float(found[1]) <= 3600


async def test_a_sleep_without_an_end(anyio_backend):
    assert await wait_of(anyio.sleep_forever) == "sleeps forever"
    assert await wait_of(anyio.sleep, math.inf) == "sleeps forever"


async def test_a_deadline_around_any_wait(anyio_backend):
    async def wait():
        with anyio.move_on_after(3600):
            await anyio.Event().wait()

    found = re.fullmatch(r"waits for an event \(cancelled in (\d+\.\d) s\)", await wait_of(wait))
    assert 0 < float(found[1]) <= 3600


async def test_a_deadline_around_a_sleep_counts_if_it_comes_first(anyio_backend):
    async def sleep(seconds):
        with anyio.move_on_after(100):
            await anyio.sleep(seconds)

    wait = await wait_of(sleep, 200)
    assert re.fullmatch(r"sleeps for another \d+\.\d s \(cancelled in \d+\.\d s\)", wait)
    assert re.fullmatch(r"sleeps for another \d+\.\d s", await wait_of(sleep, 50))


async def test_a_deadline_beyond_a_shield_does_not_count(anyio_backend):
    async def wait():
        with anyio.move_on_after(3600), CancelScope(shield=True) as shield:
            shields.append(shield)
            await anyio.Event().wait()

    shields = []
    async with create_task_group() as task_group:
        task_group.start_soon(wait, name="subject")
        await settle()
        assert wait_in(None) == "waits for an event"
        task_group.cancel_scope.cancel()
        shields[0].cancel()


async def test_a_task_that_was_cancelled_says_so(anyio_backend):
    async def stubborn():
        with CancelScope(shield=True):
            await release.wait()

    release = anyio.Event()
    async with create_task_group() as task_group:
        task_group.start_soon(stubborn, name="subject")
        await settle()
        with CancelScope(shield=True):
            task_group.cancel_scope.cancel()
            await settle()
            wait = wait_in(None)
            release.set()
    assert wait == "waits for an event (cancelled, but shielded)"


async def test_a_thread_with_its_stack(anyio_backend):
    started, release = threading.Event(), threading.Event()

    def work():
        started.set()
        release.wait()

    async def wait():
        await anyio.to_thread.run_sync(work)

    async with create_task_group() as task_group:
        task_group.start_soon(wait, name="subject")
        await settle()
        started.wait()
        lines = lines_about("subject")
        release.set()
    assert lines[1] == "waits for a thread: work"
    assert re.fullmatch(r"tests/diagnostics/test_waits\.py:\d+ in work: .*", lines[2])


async def test_a_free_thread(anyio_backend):
    limiter = anyio.CapacityLimiter(1)

    def work():
        pass

    async def wait():
        await anyio.to_thread.run_sync(work, limiter=limiter)

    async with limiter:
        assert await wait_of(wait) == "waits for a free worker thread of 1 for work"


async def test_a_process(anyio_backend):
    async with await anyio.open_process(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stderr=None
    ) as process:
        assert await wait_of(process.wait) == f"waits for process {process.pid} to end"
        assert await wait_of(process.stdout.receive) == "waits to receive from a pipe of a process"
        await process.stdin.aclose()


async def test_the_children_of_a_task_group(anyio_backend):
    async def parent(count):
        async with create_task_group() as children:
            for _ in range(count):
                children.start_soon(anyio.sleep_forever)

    assert await wait_of(parent, 1) == "waits for its child"
    assert await wait_of(parent, 7) == "waits for its 7 children"


async def test_a_child_that_is_not_ready(anyio_backend):
    async def child(*, task_status):
        await anyio.sleep_forever()

    async def parent():
        async with create_task_group() as children:
            await children.start(child, name="slow starter")

    wait = await wait_of(parent)
    assert wait == "waits for slow starter to call task_status.started()"


async def test_the_end_of_another_task(anyio_backend):
    async with create_task_group() as task_group:
        handle = task_group.create_task(anyio.sleep_forever(), name="the other")
        assert await wait_of(handle.wait) == "waits for task 'the other' to end"
        task_group.cancel_scope.cancel()


async def test_a_descriptor(anyio_backend):
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        number = near.fileno()
        assert await wait_of(anyio.wait_readable, near) == (
            f"waits until descriptor {number} is readable"
        )


async def test_an_own_listener_and_stream(anyio_backend):
    """Without the harness: AnyIO's streams know their peers themselves."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        host, port = listener.extra(anyio.abc.SocketAttribute.local_address)

        async def handle(stream):
            async with stream:
                await anyio.sleep_forever()

        async def serve():
            await listener.serve(handle)

        async with create_task_group() as task_group:
            task_group.start_soon(serve, name="server")
            async with await anyio.connect_tcp(host, port) as stream:
                wait = await wait_of(stream.receive)
                assert wait == f"waits to receive from {host}:{port}"
                tree = format_tasks(LoopView.here(), width=WIDE)
                assert f"waits for connections at {host}:{port}\n" in tree
                task_group.cancel_scope.cancel()


@pytest.mark.harness(transports=["tcp", "tls", "memory"])
async def test_the_peer_of_a_servers_connection_and_of_a_client(harness):
    async def echo(stream):
        await stream.receive()

    server = await harness.serve(echo)
    client = await server.connect()
    harness.task_group.start_soon(client.receive, name="subject")
    await harness.settle()
    tree = wide_dump(harness)
    address = f"{server.host}:{server.port}"
    assert wait_in(tree, "server 'echo'") == f"waits for connections at {address}"
    assert wait_in(tree) == f"waits to receive from {address} (server 'echo')"
    host, port = server.connections[0].remote_address
    assert wait_in(tree, "a handler of server 'echo'") == (
        f"waits to receive from {host}:{port} on connection 1 of server 'echo'"
    )
    assert (
        f"  connection 1 of server 'echo': open, 0 bytes in, 0 bytes out, {host}:{port} -> "
        f"{address}, in receive()"
    ) in tree.replace("\n    ", " ")


@pytest.mark.harness
async def test_one_byte_is_no_plural(harness):
    async def echo(stream):
        await stream.send(await stream.receive() + b"!")
        await anyio.sleep_forever()

    server = await harness.serve(echo)
    client = await server.connect()
    await client.send(b"x")
    await harness.settle()
    assert "connection 1 of server 'echo': open, 1 byte in, 2 bytes out" in wide_dump(harness)


@pytest.mark.harness(transports=["unix"])
async def test_a_unix_socket_without_a_name_is_known_by_its_connection(harness):
    async def echo(stream):
        await stream.receive()

    server = await harness.serve(echo)
    client = await server.connect()
    harness.task_group.start_soon(client.receive, name="subject")
    await harness.settle()
    tree = wide_dump(harness)
    assert wait_in(tree) == f"waits to receive from {server.path} (server 'echo')"
    expected = "waits to receive from the client of connection 1 of server 'echo'"
    assert wait_in(tree, "a handler of server 'echo'") == expected


@pytest.mark.harness(transports=["tcp", "unix", "tls", "memory"])
async def test_a_send_that_nobody_receives(harness):
    near, far = await harness.pair()
    # A stream that was accepted on asyncio reads ahead without limit until a receive has blocked.
    harness.task_group.start_soon(far.receive)
    await harness.settle()
    await near.send(b"x")
    await harness.settle()

    async def flood():
        while True:
            await near.send(b"x" * 100_000)

    assert (await wait_of(flood)).startswith("waits to send 100000 bytes to ")


@pytest.mark.harness(transports=["tcp"])
async def test_the_stop_of_a_server_that_accepts_by_itself(harness):
    async def main(bound):
        await released.wait()

    released = anyio.Event()
    server = await harness.serve(Bound(main, stop=lambda: None), name="sleepy", grace=3600)
    await server.connect()
    harness.task_group.start_soon(server.stop, name="subject")
    await harness.settle()
    wait = wait_in(wide_dump(harness))
    assert wait.startswith("waits for server 'sleepy' to stop (cancelled in 3")
    released.set()


@pytest.mark.harness(transports=["memory"])
async def test_the_waits_of_the_harness_itself(harness):
    async def sleepy(stream):
        await release.wait()

    release = anyio.Event()
    server = await harness.serve(sleepy, name="sleepy", grace=3600)
    client = await server.connect()
    await server.wait_connections(1)
    assert await wait_of(server.wait_connections, 3) == (
        "waits for 3 connections of server 'sleepy', which has 1"
    )
    assert await wait_of(server.wait_connections, 0) == (
        "waits for the last of the 1 connections of server 'sleepy' to end"
    )
    harness.task_group.start_soon(server.stop, name="subject")
    await harness.settle()
    wait = wait_in(wide_dump(harness))
    assert wait.startswith("waits for 1 handler of server 'sleepy' to stop (cancelled in 3")
    release.set()
    await client.aclose()


async def test_settling_is_said_the_same_way_on_every_backend(anyio_backend):
    async with create_task_group() as task_group:

        async def spin():
            while not done:
                await anyio.lowlevel.checkpoint()

        done = []
        task_group.start_soon(spin)
        task_group.start_soon(settle, name="subject")
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        assert wait_in(None) == "waits until every other task is blocked"
        done.append(True)


async def test_a_task_that_could_go_on(anyio_backend):
    event = anyio.Event()
    async with create_task_group() as task_group:
        task_group.start_soon(event.wait, name="subject")
        task_group.start_soon(anyio.lowlevel.checkpoint, name="not begun")
        await settle()
        event.set()
        assert wait_in(None) == "can run"


async def test_a_task_that_has_not_begun(anyio_backend):
    async with create_task_group() as task_group:
        task_group.start_soon(anyio.sleep_forever, name="subject")
        assert lines_about("subject")[-1] == "can run"
        task_group.cancel_scope.cancel()


async def test_the_users_stack_goes_through_asynchronous_generators(anyio_backend):
    async def numbers():
        await anyio.sleep_forever()
        yield 1

    async def walk():
        async for _ in numbers():
            pass

    async with create_task_group() as task_group:
        task_group.start_soon(walk, name="subject")
        await settle()
        lines = lines_about("subject")
        task_group.cancel_scope.cancel()
    assert [re.search(r"in (?:\S+\.)?(\w+): ", line)[1] for line in lines[:-1]] == [
        "walk",
        "numbers",
    ]
    assert lines[-1] == "sleeps forever"


@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_asyncios_own_waits(anyio_backend):
    import asyncio

    loop = asyncio.get_running_loop()

    async def wait_for_future():
        await loop.create_future()

    lock = asyncio.Lock()
    await lock.acquire()
    other = asyncio.create_task(asyncio.sleep(3600), name="the other")
    try:
        await settle()
        assert await wait_of(asyncio.Event().wait) == "waits for an event"
        assert await wait_of(lock.acquire) == "waits for a lock"
        assert await wait_of(asyncio.Queue().get) == "waits to get from an empty queue"
        assert await wait_of(wait_for_future) == "waits for a future"
        assert (await wait_of(asyncio.sleep, 3600)).startswith("sleeps for another 3")

        async def wait_for_task():
            await asyncio.shield(asyncio.wait([other]))

        async def gather():
            await asyncio.gather(asyncio.shield(other), asyncio.Event().wait())

        assert await wait_of(gather) == "waits for 2 tasks"
    finally:
        other.cancel()
        await asyncio.wait([other])


@pytest.mark.harness(backends=["trio"])
async def test_trios_own_waits(anyio_backend):
    import trio

    lock = trio.Lock()
    await lock.acquire()
    send, receive = trio.open_memory_channel(0)
    assert await wait_of(trio.Event().wait) == "waits for an event"
    assert await wait_of(lock.acquire) == "waits for a lock, held by 'the test'"
    assert await wait_of(receive.receive) == (
        "waits to receive from a memory channel: its buffer is empty"
    )
    assert await wait_of(send.send, 1) == "waits to send to a memory channel: its buffer is full"
    assert (await wait_of(trio.sleep, 3600)).startswith("sleeps for another 3")
    assert await wait_of(trio.sleep_forever) == "sleeps forever"


class Owned:
    """Something that a weak reference can tell the end of."""


async def test_a_look_keeps_nothing_alive(anyio_backend):
    """Before Python 3.13, a frame whose locals were read keeps a copy of them."""
    go_on = anyio.Event()
    ended = []

    async def hold():
        owned = Owned()
        ended.append(weakref.ref(owned))
        await go_on.wait()
        del owned
        await anyio.sleep_forever()

    async with create_task_group() as task_group:
        task_group.start_soon(hold, name="subject")
        await settle()
        [task] = [task for task in LoopView.here().tasks() if task.name == "subject"]
        frames = [frame for frame, _ in task.stack(None)]
        [frame] = [frame for frame in frames if frame.f_code.co_name == "hold"]
        assert Site(frame, [], task, True).local("owned") is ended[0]()
        del frame, frames, task
        go_on.set()
        await settle()
        gc.collect()
        assert ended[0]() is None
        task_group.cancel_scope.cancel()


async def test_what_is_read_of_a_task_is_still_there(anyio_backend):
    """The attributes without a public name that harness/diagnostics/loopview.py relies on."""
    scope = CancelScope()
    with scope:
        if current_library() == "trio":
            import trio

            task = trio.lowlevel.current_task()
            assert task._next_send_fn is None
            assert isinstance(task._counter, int)
            status = task._cancel_status
            assert status._scope._cancel_called is False
            assert status._parent is not None
        else:
            import asyncio

            from anyio._backends._asyncio import _task_states

            state = _task_states[asyncio.current_task()]
            assert state.cancel_scope is scope
            assert scope._host_task is asyncio.current_task()
            assert scope._cancel_called is False
            assert hasattr(scope, "_parent_scope")
            assert hasattr(asyncio.current_task(), "_fut_waiter")
            assert hasattr(asyncio.current_task(), "_callbacks")
