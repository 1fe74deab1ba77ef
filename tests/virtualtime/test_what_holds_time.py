"""Real work in flight holds virtual time; what stays in the event loop does not."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time

import anyio
import pytest
from anyio import Event, current_time, fail_after, from_thread, move_on_after, sleep, to_thread
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint

from harness import Harness
from harness.settling import settle
from harness.virtualtime import VirtualClock
from harness.virtualtime.loop import LoopTime
from harness.virtualtime.outside import Outside

#: Real seconds that something takes. Any number will do: nothing waits for it by the clock.
A_WHILE = 0.1

#: Virtual seconds that would pass at once if nothing held the time.
AT_ONCE = 0.001


async def echo(stream: ByteStream) -> None:
    async with stream:
        async for chunk in stream:
            await stream.send(chunk)


async def test_a_worker_thread(virtual_clock: VirtualClock):
    with fail_after(AT_ONCE):
        await to_thread.run_sync(time.sleep, A_WHILE)
    assert virtual_clock.now == 0


async def test_several_worker_threads_beside_a_timer(virtual_clock: VirtualClock):
    order: list[str] = []

    async def work(name: str, seconds: float) -> None:
        await to_thread.run_sync(time.sleep, seconds)
        order.append(name)

    async def timer() -> None:
        await sleep(1)
        order.append("timer")

    async with anyio.create_task_group() as group:
        group.start_soon(timer)
        group.start_soon(work, "short", A_WHILE)
        group.start_soon(work, "long", 2 * A_WHILE)
    assert order == ["short", "long", "timer"]
    assert virtual_clock.now == 1


async def test_a_thread_that_waits_for_the_loop_does_not_hold_it(virtual_clock: VirtualClock):
    def in_thread() -> float:
        time.sleep(A_WHILE)
        from_thread.run(sleep, 30)
        time.sleep(A_WHILE)
        return from_thread.run_sync(current_time)

    with fail_after(30 + AT_ONCE):
        assert await to_thread.run_sync(in_thread) == 30


@pytest.mark.parametrize("abandon", [False, True])
async def test_a_thread_that_calls_again_and_again_holds_it_in_between(
    virtual_clock: VirtualClock, abandon: bool
):
    """Also between the moment at which it has decided to call and that of the call."""

    def in_thread() -> None:
        for _ in range(500):
            from_thread.run(checkpoint)

    with fail_after(AT_ONCE):
        await to_thread.run_sync(in_thread, abandon_on_cancel=abandon)
    assert virtual_clock.now == 0


async def test_a_thread_that_is_slow_to_call_holds_it_until_then(
    virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
):
    loop_thread = threading.get_ident()

    class SlowHandle(asyncio.Handle):
        """What a thread hands to the event loop."""

        def __init__(self, *args, **arguments):
            if threading.get_ident() != loop_thread:
                time.sleep(A_WHILE)
            super().__init__(*args, **arguments)

    monkeypatch.setattr(asyncio, "Handle", SlowHandle)
    with fail_after(AT_ONCE):
        await to_thread.run_sync(from_thread.run, checkpoint)
    assert virtual_clock.now == 0


@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_a_thread_that_calls_while_the_loop_looks_at_what_holds_it(
    virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
):
    looked = threading.Event()
    is_held = LoopTime.is_held

    def slow_is_held(self: LoopTime) -> bool:
        if not looked.is_set():
            looked.set()
            while not self.incoming or any(hold.is_active() for hold in list(self.holds)):
                time.sleep(0)
        return is_held(self)

    def in_thread() -> None:
        looked.wait()
        from_thread.run(checkpoint)

    monkeypatch.setattr(LoopTime, "is_held", slow_is_held)
    with fail_after(AT_ONCE):
        await to_thread.run_sync(in_thread)
    assert virtual_clock.now == 0


async def test_waiting_for_a_free_thread_does_not_hold_it(virtual_clock: VirtualClock):
    limiter = anyio.CapacityLimiter(1)

    async def hold_the_only_one() -> None:
        async with limiter:
            await sleep(60)

    async with anyio.create_task_group() as group:
        group.start_soon(hold_the_only_one)
        await anyio.wait_all_tasks_blocked()
        await to_thread.run_sync(time.sleep, 0, limiter=limiter)
    assert virtual_clock.now == 60


async def test_a_thread_that_is_abandoned_does_not_hold_it(virtual_clock: VirtualClock):
    may_end = threading.Event()
    with move_on_after(5) as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: to_thread.run_sync(may_end.wait, abandon_on_cancel=True))
            await anyio.wait_all_tasks_blocked()
            assert virtual_clock.held_by()
            scope.cancel()
    with move_on_after(7):
        await Event().wait()
    assert virtual_clock.now == 7
    may_end.set()


async def test_a_thread_that_a_cancelled_task_waits_for(virtual_clock: VirtualClock):
    """It cannot be abandoned, so the task goes on waiting."""
    ended: list[float] = []

    async def work() -> None:
        with scope:
            await to_thread.run_sync(time.sleep, A_WHILE)
        ended.append(virtual_clock.now)

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await settle()
        scope.cancel()
        await sleep(1)
    assert ended == [0]


async def test_a_thread_whose_call_a_cancelled_task_runs_does_not_hold_it(
    virtual_clock: VirtualClock,
):
    ended: list[float] = []

    async def sleep_on() -> None:
        with anyio.CancelScope(shield=True):
            await sleep(1)

    async def work() -> None:
        with scope:
            await to_thread.run_sync(from_thread.run, sleep_on)
        ended.append(virtual_clock.now)

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await sleep(0.5)
        scope.cancel()
        await sleep(0.1)
    assert ended == [1]


async def test_a_name_lookup(virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch):
    original = socket.getaddrinfo

    def slow(*args: object, **options: object) -> object:
        time.sleep(A_WHILE)
        return original(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)  # uvloop's own is fast enough to be wrong
    for _ in range(20):
        with fail_after(AT_ONCE):
            assert await anyio.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
        monkeypatch.undo()


@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_an_executor(virtual_clock: VirtualClock):
    from concurrent.futures import ThreadPoolExecutor

    loop = asyncio.get_running_loop()
    with fail_after(AT_ONCE):
        await loop.run_in_executor(None, time.sleep, A_WHILE)
        await asyncio.to_thread(time.sleep, A_WHILE)
        with ThreadPoolExecutor(1) as pool:
            await loop.run_in_executor(pool, time.sleep, A_WHILE)
    assert virtual_clock.now == 0


@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_an_executors_thread_that_waits_for_the_loop(virtual_clock: VirtualClock):
    loop = asyncio.get_running_loop()

    def in_thread() -> None:
        asyncio.run_coroutine_threadsafe(asyncio.sleep(20), loop).result()

    await loop.run_in_executor(None, in_thread)
    assert virtual_clock.now == 20


@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_connecting_to_a_name(harness: Harness, virtual_clock: VirtualClock):
    server = await harness.serve(echo, transport="tcp")
    with fail_after(AT_ONCE):
        reader, writer = await asyncio.open_connection("localhost", server.port)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        await writer.wait_closed()


@pytest.mark.harness(backends=["trio"])
async def test_trios_own_threads(virtual_clock: VirtualClock):
    import trio

    def in_thread() -> None:
        time.sleep(A_WHILE)
        trio.from_thread.run(trio.sleep, 30)
        time.sleep(A_WHILE)

    with trio.fail_after(30 + AT_ONCE):
        await trio.to_thread.run_sync(in_thread)
    assert virtual_clock.now == 30


async def test_a_process(virtual_clock: VirtualClock):
    code = f"import time; time.sleep({A_WHILE}); print('done')"
    with fail_after(AT_ONCE):
        result = await anyio.run_process([sys.executable, "-c", code])
    assert result.stdout.split() == [b"done"]
    assert virtual_clock.now == 0


async def test_a_process_that_nobody_waits_for(virtual_clock: VirtualClock):
    command = [sys.executable, "-c", f"import time; time.sleep({A_WHILE})"]
    with subprocess.Popen(command) as process:  # noqa: ASYNC220 (as a synchronous fixture does)
        with move_on_after(5):
            await Event().wait()
        assert process.poll() == 0
    assert virtual_clock.now == 5


async def test_a_worker_process(virtual_clock: VirtualClock):
    from anyio import to_process

    with fail_after(AT_ONCE):
        await to_process.run_sync(time.sleep, A_WHILE)
    await sleep(5)  # the worker of the pool waits for more
    assert virtual_clock.now == 5


CLIENT = """
import socket, sys, time
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as client:
    time.sleep({a_while})
    client.sendall(b"hello")
    assert client.recv(100) == b"HELLO"
    time.sleep({a_while})
"""


async def shout(stream: ByteStream) -> None:
    async with stream:
        async for chunk in stream:
            await stream.send(chunk.upper())


@pytest.mark.harness(transports=["tcp"])
async def test_a_client_in_another_process(harness: Harness, virtual_clock: VirtualClock):
    server = await harness.serve(shout)
    code = CLIENT.format(a_while=A_WHILE)
    command = [sys.executable, "-c", code, str(server.port)]
    with subprocess.Popen(command) as process:  # noqa: ASYNC220
        with fail_after(AT_ONCE):
            await server.wait_connections(1)
            (connection,) = server.connections
            while connection.bytes_out < 5:
                await anyio.lowlevel.checkpoint()
        await sleep(3)
        assert virtual_clock.now == 3
        assert process.poll() == 0, "its connection was closed, and it had ended"


@pytest.mark.harness(transports=["tcp", "unix"])
async def test_a_client_in_a_thread(harness: Harness, virtual_clock: VirtualClock):
    """Its connection holds the time; that it is about to connect, nobody knows."""
    server = await harness.serve(shout)
    received: list[bytes] = []

    def talk() -> None:
        unix = server.transport.name == "unix"
        family = socket.AF_UNIX if unix else socket.AF_INET
        with socket.socket(family) as client:
            client.connect(server.path if unix else (server.host, server.port))
            time.sleep(A_WHILE)
            client.sendall(b"hello")
            received.append(client.recv(100))
            time.sleep(A_WHILE)

    thread = threading.Thread(target=talk)
    thread.start()
    await server.wait_connections(1)  # no timer: nothing to jump to, and no deadlock either
    assert virtual_clock.now == 0
    await sleep(3)
    assert received == [b"HELLO"]
    assert virtual_clock.now == 3
    thread.join()


async def test_a_thread_that_is_about_to_connect_can_be_told_of(
    harness: Harness, virtual_clock: VirtualClock
):
    server = await harness.serve(shout, transport="tcp")

    def talk() -> None:
        time.sleep(A_WHILE)
        with socket.create_connection((server.host, server.port)) as client:
            client.sendall(b"hello")
            client.recv(100)

    thread = threading.Thread(target=talk)
    with virtual_clock.hold("the client's thread"), fail_after(AT_ONCE):
        thread.start()
        await server.wait_connections(1)
    await sleep(1)
    thread.join()


async def test_a_server_outside(virtual_clock: VirtualClock):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                time.sleep(A_WHILE)
                connection.sendall(b"late")

        thread = threading.Thread(target=serve)
        thread.start()
        with fail_after(AT_ONCE):
            async with await anyio.connect_tcp(*listener.getsockname()) as stream:
                assert await stream.receive() == b"late"
        thread.join()
    await sleep(2)
    assert virtual_clock.now == 2


async def test_the_last_that_a_peer_sends_comes_after_a_look_at_the_sockets(
    virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with await anyio.connect_tcp(*listener.getsockname()) as stream:
            peer, _ = listener.accept()
            scan = Outside._scan

            def send_and_scan(outside: Outside) -> None:
                if peer.fileno() != -1:
                    peer.sendall(b"late")
                    peer.close()
                scan(outside)

            monkeypatch.setattr(Outside, "_scan", send_and_scan)
            with fail_after(AT_ONCE):
                assert await stream.receive() == b"late"
            assert peer.fileno() == -1
            await sleep(2)
    assert virtual_clock.now == 2


@pytest.mark.harness(timeout=300)
async def test_round_trips_in_the_same_loop(harness: Harness, virtual_clock: VirtualClock):
    """Bytes on their way between two sockets of the loop arrive before time goes on."""
    server = await harness.serve(echo)
    async with await server.connect() as client:
        for number in range(10_000 if harness.transport.name == "tcp" else 1000):
            with fail_after(AT_ONCE):
                await client.send(b"%d" % number)
                assert await client.receive() == b"%d" % number
    assert virtual_clock.now == 0


async def test_many_connections_in_the_same_loop(harness: Harness, virtual_clock: VirtualClock):
    server = await harness.serve(echo)

    async def talk() -> None:
        async with await server.connect() as client:
            for _ in range(20):
                with fail_after(AT_ONCE):
                    await client.send(b"x" * 1000)
                    received = 0
                    while received < 1000:
                        received += len(await client.receive())
                await sleep(1)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(talk)
    assert virtual_clock.now == 20


@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_protocols_that_no_task_looks_at(virtual_clock: VirtualClock):
    """A chain of relays, each in a protocol's callback, which uvloop calls from C."""
    loop = asyncio.get_running_loop()

    class Relay(asyncio.Protocol):
        def __init__(self, to: asyncio.Transport | None) -> None:
            self.to = to

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            assert self.to is not None
            self.to.write(data)

    class Last(asyncio.Protocol):
        def __init__(self) -> None:
            self.received: asyncio.Future[bytes] = loop.create_future()

        def data_received(self, data: bytes) -> None:
            self.received.set_result(data)

    transports: list[asyncio.BaseTransport] = []
    left, right = socket.socketpair()
    last = Last()
    transports.append((await loop.create_connection(lambda: last, sock=right))[0])
    head = left
    for _ in range(30):
        out, _protocol = await loop.create_connection(asyncio.Protocol, sock=head)
        left, right = socket.socketpair()
        relay = Relay(out)
        transports += [out, (await loop.create_connection(lambda r=relay: r, sock=right))[0]]
        head = left
    first, _protocol = await loop.create_connection(asyncio.Protocol, sock=head)
    transports.append(first)
    with fail_after(AT_ONCE):
        first.write(b"all the way")
        assert await last.received == b"all the way"
    for transport in transports:
        transport.close()
