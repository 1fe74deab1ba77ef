"""The timers inside of libraries, and all that is not virtual, as the guide lists them.

What is virtual fires at an exact time. What is real takes real time, of which nothing is asserted
but that it has gone by at least.
"""

from __future__ import annotations

import asyncio
import errno
import multiprocessing
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from ssl import Purpose, SSLContext, create_default_context
from typing import Any

import anyio
import pytest
import trustme
from anyio import Event, fail_after, move_on_after, sleep, to_thread
from anyio.abc import ByteStream, Process, SocketAttribute
from anyio.streams.tls import TLSListener, TLSStream

from harness import Harness
from harness.virtualtime import VirtualClock

#: Real seconds that something takes. Any number will do: nothing waits for it by the clock.
A_WHILE = 0.1

#: Virtual seconds that would pass at once if nothing held the time.
AT_ONCE = 0.001

LOCALHOST = "127.0.0.1"

Address = tuple[str, int]

only_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux lets a SYN wait when a queue is full, and tells"
)


@contextmanager
def full(*, blocking: bool = False) -> Iterator[socket.socket]:
    """A listening socket that answers nobody, since its queue is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((LOCALHOST, 0), backlog=0))
        first = stack.enter_context(socket.create_connection(listener.getsockname()))
        # What blocks is not the event loop's.
        listener.setblocking(blocking)
        first.setblocking(blocking)
        yield listener


# --- TLS


@pytest.fixture(scope="module")
def server_context(authority: trustme.CA) -> SSLContext:
    context = create_default_context(Purpose.CLIENT_AUTH)
    authority.issue_cert(LOCALHOST).configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_context(authority: trustme.CA) -> SSLContext:
    context = create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.harness(backends=["asyncio", "uvloop"])
@pytest.mark.parametrize(("given", "seconds"), [({}, 60), ({"ssl_handshake_timeout": 7.5}, 7.5)])
async def test_a_handshake_that_the_server_does_not_answer(
    virtual_clock: VirtualClock, client_context: SSLContext, given: dict[str, Any], seconds: float
):
    with socket.create_server((LOCALHOST, 0)) as listener:
        listener.setblocking(False)
        with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer than"):
            await asyncio.open_connection(*listener.getsockname(), ssl=client_context, **given)
        assert virtual_clock.now == seconds


@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_a_handshake_that_the_client_does_not_begin(
    virtual_clock: VirtualClock, server_context: SSLContext
):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        asyncio.Protocol, LOCALHOST, 0, ssl=server_context, ssl_handshake_timeout=9
    )
    async with await anyio.connect_tcp(*server.sockets[0].getsockname()) as client:
        with pytest.raises(anyio.EndOfStream):
            await client.receive()
    assert virtual_clock.now == 9
    server.close()
    await server.wait_closed()


@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_an_end_of_tls_that_the_peer_does_not_answer(
    virtual_clock: VirtualClock, server_context: SSLContext, client_context: SSLContext
):
    if sys.version_info < (3, 11) and type(asyncio.get_running_loop()).__module__ != "uvloop":
        pytest.skip("asyncio has no bound for it before Python 3.11")
    wrapped, over = Event(), Event()

    async def handle(stream: ByteStream) -> None:
        async with stream:
            await TLSStream.wrap(stream, server_side=True, ssl_context=server_context)
            wrapped.set()
            await over.wait()

    listener = await anyio.create_tcp_listener(local_host=LOCALHOST)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        _, writer = await asyncio.open_connection(
            *listener.extra(SocketAttribute.local_address),
            ssl=client_context,
            ssl_shutdown_timeout=11,
        )
        await wrapped.wait()
        writer.close()
        with pytest.raises(asyncio.TimeoutError, match="SSL shutdown timed out"):
            await writer.wait_closed()
        assert virtual_clock.now == 11
        over.set()
        group.cancel_scope.cancel()


async def test_anyios_listener_waits_for_a_handshake(
    virtual_clock: VirtualClock,
    server_context: SSLContext,
    caplog: pytest.LogCaptureFixture,
):
    async def handle(stream: ByteStream) -> None:
        pytest.fail("there was no handshake")

    raw = await anyio.create_tcp_listener(local_host=LOCALHOST)
    async with TLSListener(raw, server_context) as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        async with await anyio.connect_tcp(*raw.extra(SocketAttribute.local_address)) as client:
            with pytest.raises(anyio.EndOfStream):
                await client.receive()
        assert virtual_clock.now == 30
        group.cancel_scope.cancel()
    assert "Error during TLS handshake" in caplog.text


# --- Connecting and accepting


def two_addresses(monkeypatch: pytest.MonkeyPatch, first: Address, second: Address) -> None:
    """Let every name have these two addresses."""
    kind = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, ""
    found = [(*kind, first), (*kind, second)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)


@only_linux
@pytest.mark.harness(backends=["asyncio"])
async def test_asyncios_happy_eyeballs(
    virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
):
    with full() as silent, socket.create_server((LOCALHOST, 0)) as other:
        other.setblocking(False)
        two_addresses(monkeypatch, silent.getsockname(), other.getsockname())
        transport, _ = await asyncio.get_running_loop().create_connection(
            asyncio.Protocol, "two.example", 80, happy_eyeballs_delay=0.25
        )
        assert transport.get_extra_info("peername") == other.getsockname()
        assert virtual_clock.now == 0.25
        transport.close()
        await anyio.wait_all_tasks_blocked()


@only_linux
@pytest.mark.harness(backends=["trio"])
async def test_trios_happy_eyeballs(virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch):
    import trio

    with full() as silent, socket.create_server((LOCALHOST, 0)) as other:
        other.setblocking(False)
        two_addresses(monkeypatch, silent.getsockname(), other.getsockname())
        async with await trio.open_tcp_stream("two.example", 80) as stream:
            assert stream.socket.getpeername() == other.getsockname()
            assert virtual_clock.now == 0.25


async def test_anyios_happy_eyeballs(virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch):
    from anyio._core import _sockets

    backend = _sockets.get_async_backend()
    connect_tcp = backend.connect_tcp

    async def connect(host: str, port: int, local_address: object = None) -> object:
        if host == "192.0.2.1":
            await anyio.sleep_forever()
        return await connect_tcp(LOCALHOST, port, None)

    async def lookup(*args: object, **options: object) -> object:
        await anyio.lowlevel.checkpoint()
        return found

    monkeypatch.setattr(backend, "connect_tcp", connect)
    with socket.create_server((LOCALHOST, 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", (f"192.0.2.{n}", port)) for n in (1, 2)
        ]
        monkeypatch.setattr(_sockets, "getaddrinfo", lookup)
        async with await anyio.connect_tcp("two.example", port, happy_eyeballs_delay=0.75):
            assert virtual_clock.now == 0.75


@only_linux
async def test_a_listener_of_this_loop_that_is_full(virtual_clock: VirtualClock):
    with full() as listener, pytest.raises(TimeoutError), fail_after(3600):
        async with await anyio.connect_tcp(*listener.getsockname()):
            pytest.fail("nobody has accepted the connection before it")
    assert virtual_clock.now == 3600


@only_linux
async def test_an_attempt_to_connect_that_is_never_answered(virtual_clock: VirtualClock):
    with full(blocking=True) as listener:
        before = time.perf_counter()
        with pytest.raises(TimeoutError), fail_after(A_WHILE):
            async with await anyio.connect_tcp(*listener.getsockname()):
                pytest.fail("nobody has accepted the connection before it")
        assert virtual_clock.now == A_WHILE
        assert time.perf_counter() - before >= A_WHILE
    await sleep(3600)


@only_linux
async def test_an_attempt_to_connect_that_is_answered_late(virtual_clock: VirtualClock):
    """The kernel asks again after a second of real time: that is before an hour of virtual time."""
    with full(blocking=True) as listener:

        def accept_twice() -> None:
            time.sleep(A_WHILE)
            for _ in range(2):
                listener.accept()[0].close()

        thread = threading.Thread(target=accept_twice)
        thread.start()
        with fail_after(3600):
            async with await anyio.connect_tcp(*listener.getsockname()):
                thread.join()
        assert virtual_clock.now <= 0.25, "no more than AnyIO's own pause before the next address"


@pytest.mark.harness(backends=["asyncio"])
async def test_asyncio_accepts_again_after_a_pause(
    virtual_clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
):
    loop = asyncio.get_running_loop()
    accept, told = socket.socket.accept, []

    def without_descriptors(listener: socket.socket) -> object:
        if virtual_clock.now < 1:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", without_descriptors)
    monkeypatch.setattr(loop, "call_exception_handler", told.append)
    server = await loop.create_server(asyncio.Protocol, LOCALHOST, 0)
    async with await anyio.connect_tcp(*server.sockets[0].getsockname()):
        await sleep(0.5)
        assert told
        assert "out of system resource" in told[0]["message"]
        told.clear()
        await sleep(1000)
    assert not told
    server.close()
    await server.wait_closed()


@pytest.mark.harness(backends=["trio"])
async def test_trio_accepts_again_after_a_pause(
    virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture
):
    import trio

    accepted_at: list[float] = []

    class WithoutDescriptors(trio.abc.Listener[trio.SocketStream]):
        async def accept(self) -> trio.SocketStream:
            accepted_at.append(virtual_clock.now)
            if len(accepted_at) < 4:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return await trio.sleep_forever()

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    async def handle(stream: trio.SocketStream) -> None:
        pytest.fail("nobody has connected")

    with trio.move_on_after(1):
        await trio.serve_listeners(handle, [WithoutDescriptors()])
    assert accepted_at == [0, 0.1, 0.2, 0.1 + 0.2]
    assert "retrying in 0.1 seconds" in caplog.text


@pytest.mark.harness(backends=["asyncio", "uvloop"])
@pytest.mark.parametrize("name", ["localhost", LOCALHOST])
@pytest.mark.parametrize("what", ["server", "datagrams"])
async def test_lookups_inside_of_the_loop(virtual_clock: VirtualClock, what: str, name: str):
    """uvloop does them in a thread of its own, for an address, too."""
    loop = asyncio.get_running_loop()
    for _ in range(50):
        with fail_after(AT_ONCE):
            if what == "server":
                (await loop.create_server(asyncio.Protocol, name, 0)).close()
            else:
                address = name, 0
                transport, _ = await loop.create_datagram_endpoint(
                    asyncio.DatagramProtocol, local_addr=address, family=socket.AF_INET
                )
                transport.close()
    await anyio.wait_all_tasks_blocked()


@pytest.mark.harness(backends=["asyncio", "uvloop"])
@pytest.mark.parametrize("name", ["localhost", LOCALHOST])
async def test_lookups_of_a_local_address(virtual_clock: VirtualClock, name: str):
    loop = asyncio.get_running_loop()
    with socket.create_server((LOCALHOST, 0), backlog=50) as listener:
        listener.setblocking(False)
        for _ in range(50):
            with fail_after(AT_ONCE):
                transport, _ = await loop.create_connection(
                    asyncio.Protocol, name, listener.getsockname()[1], local_addr=("localhost", 0)
                )
            assert transport.get_extra_info("sockname")[0] == LOCALHOST
            transport.close()
    await anyio.wait_all_tasks_blocked()


# --- Idle workers, caches


@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_anyios_idle_threads_end(virtual_clock: VirtualClock):
    both = threading.Barrier(2)
    threads: list[threading.Thread] = []

    def meet() -> None:
        threads.append(threading.current_thread())
        both.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(to_thread.run_sync, meet)
        group.start_soon(to_thread.run_sync, meet)
    await sleep(9.5)
    used = await to_thread.run_sync(threading.current_thread)
    (idle,) = {*threads} - {used}
    assert idle.is_alive()
    await sleep(0.5)
    assert await to_thread.run_sync(threading.current_thread) is used
    idle.join()
    assert virtual_clock.now == 10


@pytest.mark.harness(backends=["trio"])
async def test_trios_idle_threads_stay(virtual_clock: VirtualClock):
    """trio/_core/_thread_cache.py: they wait with a time-out of the lock's own."""
    thread = await to_thread.run_sync(threading.current_thread)
    await sleep(3600)
    await to_thread.run_sync(int)
    assert thread.is_alive()


async def test_idle_processes_end(virtual_clock: VirtualClock, tmp_path: Path):
    from anyio import to_process

    pids: list[int] = []
    queues = [str(tmp_path / name) for name in "ab"]

    async def work(queue: str) -> None:
        code = f"(open({queue!r}).close(), __import__('os').getpid())[1]"
        pids.append(await to_process.run_sync(eval, code))

    async with anyio.create_task_group() as group:
        for each in queues:
            os.mkfifo(each)
            group.start_soon(work, each)
        # Both are at work when each has opened its own.
        ends = [await to_thread.run_sync(os.open, each, os.O_WRONLY) for each in queues]
        for end in ends:
            os.close(end)
    await sleep(299.5)
    used = await to_process.run_sync(os.getpid)
    (idle,) = {*pids} - {used}
    os.kill(idle, 0)
    await sleep(0.5)
    assert await to_process.run_sync(os.getpid) == used
    with pytest.raises(ProcessLookupError):
        os.kill(idle, 0)
    assert virtual_clock.now == 300


async def test_a_cache_whose_entries_expire(virtual_clock: VirtualClock):
    from anyio.functools import lru_cache

    @lru_cache(ttl=5)
    async def when() -> float:
        await anyio.lowlevel.checkpoint()
        return virtual_clock.now

    assert await when() == 0
    await sleep(4.5)
    assert await when() == 0
    await sleep(0.5)
    assert await when() == 5


# --- Processes that are asked to end

#: Tells when it is ready, and goes on until its standard input ends.
READY = "print('!', end='', flush=True); sys.stdin.read()"

STUBBORN = f"import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY}"

#: Ends some time after a signal.
SLOW = f"""
import signal, sys, time
signals = signal.SIGTERM, signal.SIGUSR1
signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # a handler might come just before the wait
print('!', end='', flush=True)
signal.sigwait(signals)
time.sleep({A_WHILE})
sys.exit(7)
"""


@pytest.fixture
async def started() -> Any:
    """Starts processes, and has them ended by the end of the test."""
    processes: list[Process] = []

    async def start(code: str, *args: str) -> Process:
        command = [sys.executable, "-c", code, *args]
        process = await anyio.open_process(command, start_new_session=True)
        processes.append(process)
        assert process.stdout is not None
        assert await process.stdout.receive() == b"!"
        return process

    yield start
    for process in processes:
        await process.aclose()


def send_by_hand(process: Process) -> None:
    os.kill(process.pid, signal.SIGTERM)


def send_to_group(process: Process) -> None:
    os.killpg(process.pid, signal.SIGTERM)


def send_to_negative(process: Process) -> None:
    os.kill(-process.pid, signal.SIGTERM)


WAYS_TO_ASK: list[Callable[[Process], object]] = [
    lambda process: process.terminate(),
    lambda process: process.send_signal(signal.SIGTERM),
    send_by_hand,
    send_to_group,
    send_to_negative,
]


@pytest.mark.parametrize(
    "ask", WAYS_TO_ASK, ids=["terminate", "send_signal", "kill", "killpg", "kill-group"]
)
async def test_a_process_that_does_not_end(
    virtual_clock: VirtualClock, started: Any, ask: Callable[[Process], object]
):
    """Otherwise what is to kill it would never come to it."""
    process = await started(STUBBORN)
    assert virtual_clock.now == 0
    ticks: list[float] = []

    async def tick() -> None:
        for _ in range(4):
            await sleep(0.03125)
            ticks.append(virtual_clock.now)

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        ask(process)
        before = time.perf_counter()
        with pytest.raises(TimeoutError), fail_after(0.125):
            await process.wait()
        assert time.perf_counter() - before >= 0.125
    assert ticks == [0.03125, 0.0625, 0.09375, 0.125]
    assert virtual_clock.now == 0.125
    process.kill()
    with fail_after(AT_ONCE):
        assert await process.wait() == -signal.SIGKILL


async def test_a_process_that_is_asked_by_a_thread(virtual_clock: VirtualClock, started: Any):
    """The loop sleeps already when that happens."""
    process = await started(STUBBORN)

    def ask() -> None:
        time.sleep(A_WHILE)
        process.terminate()

    thread = threading.Thread(target=ask)
    thread.start()
    with pytest.raises(TimeoutError), fail_after(AT_ONCE):
        await process.wait()
    assert virtual_clock.now == AT_ONCE
    thread.join()


async def test_a_process_that_takes_its_time_to_end(virtual_clock: VirtualClock, started: Any):
    process = await started(SLOW)
    process.terminate()
    with fail_after(60):
        assert await process.wait() == 7
    assert virtual_clock.now == 0


async def test_a_signal_that_does_not_ask_it_to_end(virtual_clock: VirtualClock, started: Any):
    process = await started(SLOW)
    process.send_signal(signal.SIGUSR1)
    with fail_after(AT_ONCE):
        assert await process.wait() == 7
    assert virtual_clock.now == 0


async def test_what_else_holds_the_time_meanwhile(virtual_clock: VirtualClock, started: Any):
    process = await started(STUBBORN)
    process.terminate()
    with fail_after(AT_ONCE):
        await to_thread.run_sync(time.sleep, A_WHILE)
    with virtual_clock.hold("the test"):
        await virtual_clock.settle()
        assert any(str(process.pid) in what for what in virtual_clock.held_by())
    assert virtual_clock.now == 0


@pytest.mark.harness(transports=["tcp"])
async def test_a_client_that_does_not_end(
    harness: Harness, virtual_clock: VirtualClock, started: Any
):
    """Its connection does not hold the time either: nothing tells whose it is."""

    async def handle(stream: ByteStream) -> None:
        async for _ in stream:
            pass

    server = await harness.serve(handle)
    connect = "import socket, sys; client = socket.create_connection((sys.argv[1], sys.argv[2]));"
    process = await started(connect + STUBBORN, server.host, str(server.port))
    await server.wait_connections(1)
    process.terminate()
    with pytest.raises(TimeoutError), fail_after(A_WHILE):
        await process.wait()
    assert virtual_clock.now == A_WHILE


@pytest.mark.harness(backends=["uvloop"])
async def test_a_signal_that_is_not_seen(virtual_clock: VirtualClock):
    """uvloop sends it in C; only `asyncio.subprocess.Process` tells."""
    loop = asyncio.get_running_loop()
    ready, exited = asyncio.Event(), asyncio.Event()

    class Watching(asyncio.SubprocessProtocol):
        def pipe_data_received(self, fd: int, data: bytes | str) -> None:
            ready.set()

        def process_exited(self) -> None:
            exited.set()

    transport, _ = await loop.subprocess_exec(Watching, sys.executable, "-c", STUBBORN)
    await ready.wait()
    transport.terminate()
    killer = threading.Timer(A_WHILE, os.kill, [transport.get_pid(), signal.SIGKILL])
    killer.start()
    with fail_after(AT_ONCE):
        await exited.wait()
    killer.join()
    transport.close()
    await anyio.wait_all_tasks_blocked()


@pytest.mark.harness(backends=["trio"])
async def test_trio_kills_a_process_after_a_time(virtual_clock: VirtualClock):
    """Five seconds, in this test the only ones that are real."""
    import trio

    command = [sys.executable, "-c", STUBBORN]

    async def run(task_status: trio.TaskStatus[trio.Process]) -> None:
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        await trio.run_process(command, task_status=task_status, **options)  # type: ignore[call-overload]

    with pytest.warns(RuntimeWarning, match="ignored SIGTERM for 5 seconds"):  # noqa: PT031
        async with trio.open_nursery() as nursery:
            process = await nursery.start(run)
            assert await process.stdout.receive_some() == b"!"
            nursery.cancel_scope.cancel()
    for stream in (process.stdin, process.stdout):
        await stream.aclose()
    assert process.returncode == -signal.SIGKILL
    assert virtual_clock.now == 5


# --- What is real


async def test_clocks(virtual_clock: VirtualClock):
    def clocks() -> list[float]:
        now = datetime.now(timezone.utc).timestamp()
        return [time.time(), time.monotonic(), time.perf_counter(), now]

    before = clocks()
    await sleep(86400)
    assert all(now - then < 3600 for now, then in zip(clocks(), before, strict=True))


async def test_a_clock_that_is_not_patched(virtual_clock: VirtualClock):
    pytest.importorskip("time_machine")
    with virtual_clock.patch_wall_clock():
        before = time.perf_counter()
        await sleep(86400)
        assert time.perf_counter() - before < 3600


async def test_time_outs_of_what_blocks(virtual_clock: VirtualClock):
    before = time.perf_counter()
    time.sleep(A_WHILE)  # noqa: ASYNC251 (that is what it is about)
    with pytest.raises(queue.Empty), fail_after(AT_ONCE):
        await to_thread.run_sync(queue.Queue[int]().get, True, A_WHILE)
    with socket.create_server((LOCALHOST, 0)) as listener, pytest.raises(socket.timeout):
        listener.settimeout(A_WHILE)
        listener.accept()
    assert time.perf_counter() - before >= 3 * A_WHILE
    assert virtual_clock.now == 0


@pytest.mark.parametrize("what", ["thread", "signal"])
async def test_timers_of_the_system(virtual_clock: VirtualClock, what: str):
    rung = threading.Event()
    before = time.perf_counter()
    if what == "thread":
        timer = threading.Timer(A_WHILE, rung.set)
        timer.start()
    else:
        previous = signal.signal(signal.SIGALRM, lambda *_: rung.set())
        signal.setitimer(signal.ITIMER_REAL, A_WHILE)
    await sleep(3600)
    assert virtual_clock.now == 3600
    while not rung.is_set():
        await anyio.lowlevel.checkpoint()
    assert time.perf_counter() - before >= A_WHILE
    assert virtual_clock.now == 3600
    if what == "thread":
        timer.join()
    else:
        signal.signal(signal.SIGALRM, previous)


async def test_an_event_loop_in_another_thread(virtual_clock: VirtualClock):
    from anyio.from_thread import start_blocking_portal

    with start_blocking_portal() as portal:
        before = time.perf_counter()
        portal.call(sleep, A_WHILE)
        assert time.perf_counter() - before >= A_WHILE
        assert virtual_clock.now == 0


@pytest.mark.harness(backends=["asyncio", "uvloop"])
@pytest.mark.parametrize("where", ["pool", "loop"])
async def test_work_that_was_not_given_to_the_loop(virtual_clock: VirtualClock, where: str):
    """It does not hold the time, but while it goes on there is no deadlock either."""
    from anyio.from_thread import start_blocking_portal

    may_end = threading.Event()
    with ThreadPoolExecutor(1) as pool, start_blocking_portal() as portal:
        for seconds in (5, None):
            if where == "pool":
                work = asyncio.wrap_future(pool.submit(may_end.wait))
            else:
                work = asyncio.wrap_future(portal.start_task_soon(to_thread.run_sync, may_end.wait))
            with move_on_after(seconds):
                await asyncio.shield(work)
            assert virtual_clock.now == 5
            assert work.done() is (seconds is None)
            if seconds is not None:
                threading.Timer(A_WHILE, may_end.set).start()
    await anyio.wait_all_tasks_blocked()


@pytest.mark.harness(backends=["trio"])
async def test_the_cushion_of_wait_all_tasks_blocked(virtual_clock: VirtualClock):
    import trio

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1)
        before = time.perf_counter()
        await trio.testing.wait_all_tasks_blocked(A_WHILE)
        assert time.perf_counter() - before >= A_WHILE
        assert virtual_clock.now == 0
    assert virtual_clock.now == 1


@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_callbacks_that_are_slow(
    virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture
):
    loop = asyncio.get_running_loop()
    loop.set_debug(True)

    def block() -> None:
        time.sleep(A_WHILE)

    loop.slow_callback_duration = 1000
    assert loop.slow_callback_duration == 1000
    await sleep(3600)
    loop.call_soon(block)
    await anyio.wait_all_tasks_blocked()
    assert "Executing" not in caplog.text
    loop.slow_callback_duration = A_WHILE / 2
    loop.call_soon(block)
    await anyio.wait_all_tasks_blocked()
    loop.set_debug(False)
    (line,) = (line for line in caplog.messages if "block" in line)
    assert line.startswith("Executing <Handle ")
    assert virtual_clock.now == 3600


@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_the_time_out_of_a_default_executor(virtual_clock: VirtualClock):
    """It does not fall due: until its threads have ended they hold the time."""
    loop: Any = asyncio.get_running_loop()
    if sys.version_info < (3, 12) and type(loop).__module__ != "uvloop":
        pytest.skip("asyncio has no such time-out before Python 3.12")
    loop.run_in_executor(None, time.sleep, A_WHILE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await loop.shutdown_default_executor(AT_ONCE)
    assert virtual_clock.now == 0


# --- What does not hold the time


async def test_datagrams_from_outside(virtual_clock: VirtualClock):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind((LOCALHOST, 0))
        address = peer.getsockname()
        async with await anyio.create_connected_udp_socket(*address) as client:
            with move_on_after(5) as scope:
                await client.receive()
            assert scope.cancelled_caught
            peer.sendto(b"late", client.extra(SocketAttribute.local_address))
            with fail_after(AT_ONCE):
                assert await client.receive() == b"late"
    assert virtual_clock.now == 5


async def test_pipes(virtual_clock: VirtualClock):
    read, write = os.pipe()
    with move_on_after(5) as scope:
        await anyio.wait_readable(read)
    assert scope.cancelled_caught
    os.write(write, b"late")
    with fail_after(AT_ONCE):
        await anyio.wait_readable(read)
    os.close(read)
    os.close(write)
    assert virtual_clock.now == 5


async def test_signals(virtual_clock: VirtualClock):
    with anyio.open_signal_receiver(signal.SIGUSR1) as signals:
        with move_on_after(5) as scope:
            await signals.__anext__()
        assert scope.cancelled_caught
        os.kill(os.getpid(), signal.SIGUSR1)
        with fail_after(AT_ONCE):
            assert await signals.__anext__() == signal.SIGUSR1
    assert virtual_clock.now == 5


async def test_processes_past_subprocess(virtual_clock: VirtualClock):
    context = multiprocessing.get_context("spawn")
    may_end = context.Event()
    process = context.Process(target=may_end.wait)
    process.start()
    await sleep(5)
    assert virtual_clock.now == 5
    assert process.is_alive()
    may_end.set()
    process.join()
    process.close()
