"""The check as a whole: false alarms, what it leaves behind itself, and whose a thing is."""

from __future__ import annotations

import asyncio
import builtins
import io
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from contextlib import aclosing

import anyio
import anyio.to_thread
import pytest
import trio
from anyio._backends import _asyncio
from anyio.abc import SocketAttribute
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from leak_driver import leaks_of, line_of, the_one

from harness import open_harness
from harness.leaks import ALL, Leak, LeakCheck


async def nothing():
    """A test with nothing in it."""


async def numbers():
    for number in range(3):
        yield number


async def everything_closed():
    """Every kind of resource, properly used."""

    async def echo(stream):
        async with stream:
            async for chunk in stream:
                await stream.send(chunk)

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.serve, echo)
        port = listener.extra(SocketAttribute.local_port)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"x")
            assert await stream.receive() == b"x"
        group.cancel_scope.cancel()
    async with open_harness(transport="memory") as harness:
        server = await harness.serve(echo)
        async with await server.connect() as client:
            await client.send(b"x")
            assert await client.receive() == b"x"
    send, receive = anyio.create_memory_object_stream(1)
    with send, receive:
        send.send_nowait(1)
    async with aclosing(numbers()) as generator:
        await generator.__anext__()
    with anyio.move_on_after(0.001):
        await anyio.sleep(1)
    await anyio.to_thread.run_sync(time.monotonic)
    thread = threading.Thread(target=time.monotonic)
    thread.start()
    thread.join()
    with open(os.devnull) as file:  # noqa: ASYNC230
        file.read()
    one, other = socket.socketpair()
    one.close()
    other.close()
    if isinstance(asyncio._get_running_loop(), asyncio.AbstractEventLoop):
        asyncio.get_running_loop().call_later(60, print).cancel()


async def everything_and_a_process():
    await everything_closed()
    await anyio.run_process([sys.executable, "-c", ""])


def test_a_test_that_closes_everything(backend):
    assert leaks_of(backend, everything_and_a_process) == []


def test_a_transport_that_cannot_be_asked_is_in_nobodys_way(backend):
    """Somewhere in the process, as asyncio's of TLS are once they were closed twice."""

    class Closed(asyncio.Transport):
        def get_extra_info(self, name, default=None):
            raise AttributeError("'NoneType' object has no attribute '_get_extra_info'")

    in_the_way = Closed()
    kept = []

    async def leak():
        kept.extend(socket.socketpair())

    leaks = leaks_of(backend, leak)
    for each in kept:
        each.close()
    assert len(leaks) == 2
    del in_the_way


def test_fifty_tests_that_close_everything(backend):
    for _ in range(50):
        assert leaks_of(backend, everything_closed) == []


def test_fifty_tests_in_one_event_loop(backend):
    """As when a module-scoped fixture holds it."""

    async def main():
        for _ in range(50):
            check = LeakCheck()
            check.start()
            check.entered_loop()
            await everything_closed()
            assert await check.find() == []
            assert check.stop() == []

    assert leaks_of(backend, main) == []


def test_two_kinds_of_leak_in_the_order_of_reports(backend):
    kept = []

    async def leak():
        kept.append(socket.socket())
        nothing()

    leaks = leaks_of(backend, leak)
    assert [each.kind for each in leaks] == ["coroutine", "socket"]
    kept[0].close()


def test_kinds_that_are_not_looked_for(backend):
    kept = []

    async def leak():
        kept.append(socket.socket())

    others = set(ALL) - {"socket"}
    assert leaks_of(backend, leak, check=LeakCheck(kinds=others)) == []
    assert leaks_of(backend, leak, check=LeakCheck(kinds=())) == []
    for sock in kept:
        sock.close()


def test_a_kind_that_does_not_exist():
    with pytest.raises(ValueError, match="socks"):
        LeakCheck(kinds=["socks"])


def test_a_leak_in_words():
    leak = Leak("thread", "bob", "tests/test_x.py:12 in test_y: bob.start()")
    assert (
        str(leak) == "leaked thread: bob\n    created at tests/test_x.py:12 in test_y: bob.start()"
    )
    assert str(Leak("thread", "bob", None)) == "leaked thread: bob"


def test_what_a_wider_scoped_fixture_makes(backend):
    """A server of a module: it accepts, starts tasks and makes streams while the test runs."""
    streams = []
    memory = []
    threads = []
    stop = threading.Event()

    async def handle(stream):
        streams.append(stream)
        memory.extend(anyio.create_memory_object_stream(1))
        with anyio.CancelScope():
            arrived.set()
            await stop_handlers.wait()

    async def before():
        nonlocal fixture, listener, stop_handlers, arrived
        arrived, stop_handlers = anyio.Event(), anyio.Event()
        fixture = anyio.create_task_group()
        await fixture.__aenter__()
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        fixture.start_soon(listener.serve, handle)
        threads.append(threading.Thread(target=stop.wait))
        threads[0].start()
        await anyio.wait_all_tasks_blocked()

    async def body():
        port = listener.extra(SocketAttribute.local_port)
        async with await anyio.connect_tcp("127.0.0.1", port):
            await arrived.wait()

    async def after():
        stop.set()
        threads[0].join()
        stop_handlers.set()
        fixture.cancel_scope.cancel()
        await fixture.__aexit__(None, None, None)
        for each in (*streams, *memory, listener):
            await each.aclose()

    fixture = listener = stop_handlers = arrived = None
    assert leaks_of(backend, body, before=before, after=after) == []


def test_what_a_server_of_a_wider_scoped_fixture_accepts_in_c(backend):
    if backend == "trio":
        pytest.skip("asyncio's")
    servers = []

    async def before():
        loop = asyncio.get_running_loop()
        servers.append(await loop.create_server(asyncio.Protocol, "127.0.0.1", 0))

    async def body():
        port = servers[0].sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)  # both ends stay open: one is the test's

    async def after():
        writers[0].close()
        servers[0].close()
        await anyio.wait_all_tasks_blocked()

    writers = []
    leaks = leaks_of(backend, body, before=before, after=after)
    the_one(leaks, "socket", "127.0.0.1:", line_of(body, "open_connection"))


def test_a_check_inside_a_check(backend):
    kept = []

    async def leak():
        kept.append(anyio.create_memory_object_stream(1))
        kept.append((socket.socket(),))

    async def twin():
        inner = await anyio.to_thread.run_sync(leaks_of, backend, leak)
        assert [each.kind for each in inner] == ["memory stream", "memory stream", "socket"]
        for each in kept:
            for resource in each:
                resource.close()

    assert leaks_of(backend, twin) == []


REPLACED = [
    (builtins, "open"),
    (io, "open"),
    (os, "open"),
    (os, "pipe"),
    (socket.socket, "__init__"),
    (socket.socket, "_real_close"),
    (socket.socket, "detach"),
    (subprocess.Popen, "__init__"),
    (threading.Thread, "start"),
    (warnings, "_warn_unawaited_coroutine"),
    (MemoryObjectSendStream, "__post_init__"),
    (MemoryObjectSendStream, "__del__"),
    (MemoryObjectReceiveStream, "__post_init__"),
    (MemoryObjectReceiveStream, "__del__"),
    (_asyncio.CancelScope, "__enter__"),
    (_asyncio.CancelScope, "__exit__"),
    (trio.CancelScope, "__enter__"),
    (trio.CancelScope, "_close"),
    (trio.lowlevel, "open_process"),
]


def test_nothing_is_replaced_after_the_end(backend):
    before = [getattr(holder, name) for holder, name in REPLACED]
    loops = []
    during = []

    async def body():
        during.extend(getattr(holder, name) for holder, name in REPLACED)
        if backend != "trio":
            loops.append(asyncio.get_running_loop())
            assert "create_task" in vars(loops[0])

    hooks = sys.get_asyncgen_hooks()
    leaks_of(backend, body)
    assert [getattr(holder, name) for holder, name in REPLACED] == before
    assert during != before
    assert sys.get_asyncgen_hooks() == hooks
    for loop in loops:
        assert not {"create_task", "call_later", "create_connection"} & set(vars(loop))


def test_checks_that_end_in_another_order():
    before = [getattr(holder, name) for holder, name in REPLACED]
    first, second = LeakCheck(), LeakCheck()
    first.start()
    second.start()
    first.stop()
    sock = socket.socket()
    (leak,) = second.stop()
    sock.close()
    assert leak.kind == "socket"
    assert [getattr(holder, name) for holder, name in REPLACED] == before


def test_what_the_test_itself_replaces_and_puts_back(backend, monkeypatch):
    async def body():
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", lambda thread: None)
            threading.Thread().start()

    before = threading.Thread.start
    assert leaks_of(backend, body) == []
    assert threading.Thread.start is before


def test_a_line_in_a_task_of_the_machinery(backend):
    """`connect_tcp` connects in a task of its own, in which no code of the user's runs."""
    kept = []

    async def leak():
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener:
            port = listener.extra(SocketAttribute.local_port)
            kept.append(await anyio.connect_tcp("127.0.0.1", port))  # made here

    leaks = leaks_of(backend, leak, after=lambda: kept[0].aclose())
    the_one(leaks, "socket", "127.0.0.1", line_of(leak, "# made here"))


def test_without_a_part_in_an_event_loop():
    check = LeakCheck()
    check.start()
    one, other = socket.socketpair()
    assert [leak.kind for leak in check.stop()] == ["socket", "socket"]
    one.close()
    other.close()


def test_a_check_is_for_one_test():
    check = LeakCheck()
    check.start()
    with pytest.raises(RuntimeError, match="before"):
        check.start()
    check.stop()


def test_asyncio_alone_does_not_import_trio(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        """\
import sys
import anyio
from harness.leaks import LeakCheck

async def main():
    check.entered_loop()
    with anyio.CancelScope():
        await anyio.sleep(0)
    assert await check.find() == []

check = LeakCheck()
check.start()
anyio.run(main)
assert check.stop() == []
assert "trio" not in sys.modules
"""
    )
    subprocess.run([sys.executable, script], check=True, timeout=60)
