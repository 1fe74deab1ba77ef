"""Threads that go on."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import anyio
from leak_driver import leaks_of, line_of, the_one


def wait_for(event):
    event.wait()


def test_a_thread_that_runs(backend):
    event = threading.Event()

    async def leak():
        threading.Thread(target=wait_for, args=[event], name="bob").start()  # made here

    leaks = leaks_of(backend, leak, after=event.set)
    the_one(leaks, "thread", "bob (wait_for), which is at ", line_of(leak, "# made here"))
    assert line_of(wait_for, "event.wait()") in leaks[0].what


def test_a_thread_that_is_joined(backend):
    async def twin():
        event = threading.Event()
        thread = threading.Thread(target=wait_for, args=[event])
        thread.start()
        event.set()
        thread.join()

    assert leaks_of(backend, twin) == []


def test_a_worker_of_anyio_that_is_busy(backend):
    event = threading.Event()

    async def leak():
        with anyio.move_on_after(0.01):
            await anyio.to_thread.run_sync(partial(wait_for, event), abandon_on_cancel=True)

    leaks = leaks_of(backend, leak, after=event.set)
    assert [leak.kind for leak in leaks] == ["thread"]
    assert line_of(wait_for, "event.wait()") in leaks[0].what


def test_a_worker_of_anyio_that_is_busy_in_a_function_of_c(backend):
    lock = threading.Lock()

    async def leak():
        lock.acquire()
        with anyio.move_on_after(0.01):
            await anyio.to_thread.run_sync(lock.acquire, abandon_on_cancel=True)

    leaks = leaks_of(backend, leak, after=lock.release)
    assert [leak.kind for leak in leaks] == ["thread"]


def test_workers_that_are_idle(backend):
    pool = ThreadPoolExecutor(2)

    async def twin():
        await anyio.to_thread.run_sync(time.monotonic)
        await anyio.to_thread.run_sync(lambda: None)
        pool.submit(time.monotonic).result()
        assert await anyio.getaddrinfo("127.0.0.1", 80)

    assert leaks_of(backend, twin) == []
    pool.shutdown()


def test_a_worker_that_is_busy_for_a_wider_scoped_fixture(backend):
    event = threading.Event()
    begin = group = None

    async def serve():
        await begin.wait()
        await anyio.to_thread.run_sync(wait_for, event)

    async def before():
        nonlocal begin, group
        begin = anyio.Event()
        group = anyio.create_task_group()
        await group.__aenter__()
        group.start_soon(serve)

    async def body():
        begin.set()
        await anyio.wait_all_tasks_blocked()

    async def after():
        event.set()
        await group.__aexit__(None, None, None)

    assert leaks_of(backend, body, before=before, after=after) == []
