"""Threads that go on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import methodcaller

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


async def abandon(started, function):
    """Leave ``function`` running in a worker thread, which releases ``started`` first."""
    started.acquire()
    async with anyio.create_task_group() as group:
        group.start_soon(partial(anyio.to_thread.run_sync, function, abandon_on_cancel=True))
        await anyio.wait_all_tasks_blocked()
        started.acquire()
        group.cancel_scope.cancel()


def test_a_worker_of_anyio_that_is_busy(backend):
    started = threading.Lock()
    event = threading.Event()

    def work():
        started.release()
        wait_for(event)

    async def leak():
        await abandon(started, work)

    leaks = leaks_of(backend, leak, after=event.set)
    assert [leak.kind for leak in leaks] == ["thread"]
    assert line_of(wait_for, "event.wait()") in leaks[0].what


def test_a_worker_of_anyio_that_is_busy_in_a_function_of_c(backend):
    started, blocked = threading.Lock(), threading.Lock()
    # Calls both, without a frame of its own.
    calls = map(methodcaller("__call__"), [started.release, blocked.acquire])

    async def leak():
        blocked.acquire()
        await abandon(started, partial(deque, calls))

    leaks = leaks_of(backend, leak, after=blocked.release)
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


def test_an_executor_that_is_idle(backend):
    async def leak():
        executor = ThreadPoolExecutor(1)  # made here
        kept.append(executor)
        await anyio.to_thread.run_sync(executor.submit(int).result)

    kept = []
    leaks = leaks_of(backend, leak)
    what = "1 idle of a ThreadPoolExecutor that was not shut down"
    the_one(leaks, "thread", what, line_of(leak, "# made here"))


def test_executors_that_are_shut_down(backend):
    async def twin():
        with ThreadPoolExecutor(1) as executor:
            await anyio.to_thread.run_sync(executor.submit(int).result)
        if backend != "trio":
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, int)
            executor = ThreadPoolExecutor(1)
            loop.set_default_executor(executor)
            await loop.run_in_executor(None, int)
            kept.append(executor)  # its loop will see to it

    kept = []
    assert leaks_of(backend, twin) == []
