"""Tasks that go on, and asyncio's tasks whose failure nobody has looked at."""

from __future__ import annotations

import asyncio
import gc
import sys

import anyio
import pytest
from leak_driver import leaks_of, line_of, the_one

from harness.leaks import LeakCheck

ONLY_TASKS = ("task",)


async def wait_for(event):
    await event.wait()


def test_a_task_in_a_group_that_is_never_left(backend):
    async def leak():
        nonlocal group, event
        event = anyio.Event()
        group = anyio.create_task_group()
        await group.__aenter__()
        group.start_soon(wait_for, event, name="bob")  # made here

    async def after():
        event.set()
        await group.__aexit__(None, None, None)

    group = event = None
    check = LeakCheck(kinds=ONLY_TASKS)
    leaks = leaks_of(backend, leak, after=after, check=check)
    the_one(leaks, "task", "bob, which waits at", line_of(leak, "# made here"))
    assert line_of(wait_for, "await event.wait()") in leaks[0].what


def test_a_group_that_is_left(backend):
    async def twin():
        async with anyio.create_task_group() as group:
            event = anyio.Event()
            group.start_soon(wait_for, event, name="bob")
            await anyio.wait_all_tasks_blocked()
            event.set()

    assert leaks_of(backend, twin) == []


def test_a_task_of_the_backend_itself(backend):
    async def leak():
        nonlocal event, task
        event = anyio.Event()
        if backend == "trio":
            import trio

            trio.lowlevel.spawn_system_task(wait_for, event)  # on trio
        else:
            task = asyncio.create_task(wait_for(event))  # on asyncio

    event = task = None
    leaks = leaks_of(backend, leak, after=lambda: event.set())
    the_one(
        leaks,
        "task",
        "wait_for",
        line_of(leak, "# on trio" if backend == "trio" else "# on asyncio"),
    )


def test_a_task_of_the_backend_itself_that_is_awaited(backend):
    async def twin():
        if backend != "trio":
            event = anyio.Event()
            task = asyncio.create_task(wait_for(event))
            event.set()
            await task

    assert leaks_of(backend, twin) == []


def test_a_task_that_is_about_to_end(backend):
    async def twin():
        async def steps():
            for _ in range(20):
                await anyio.lowlevel.checkpoint()

        if backend == "trio":
            import trio

            trio.lowlevel.spawn_system_task(steps)
        else:
            asyncio.create_task(steps())  # noqa: RUF006 (it ends)

    assert leaks_of(backend, twin) == []


def test_tasks_that_somebody_else_sees_to(backend):
    async def body():
        nonlocal event
        event = anyio.Event()
        if backend == "trio":
            import trio

            trio.lowlevel.spawn_system_task(wait_for, event, name="own")
        else:
            kept.append(asyncio.create_task(wait_for(event), name="own"))

    def own(identity):
        return any(
            task.name.endswith("own") for task in anyio.get_running_tasks() if task.id == identity
        )

    event = None
    kept = []
    assert leaks_of(backend, body, own_tasks=own, after=lambda: event.set()) == []


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager task factories came with Python 3.12")
def test_a_task_that_anyio_makes_past_the_loop(backend):
    if backend != "asyncio":
        pytest.skip("a task factory is asyncio's")

    async def leak():
        nonlocal group, event
        event = anyio.Event()
        group = anyio.create_task_group()
        await group.__aenter__()
        group.start_soon(wait_for, event, name="bob")

    async def after():
        event.set()
        await group.__aexit__(None, None, None)

    group = event = None
    check = LeakCheck(kinds=ONLY_TASKS)
    leaks = leaks_of("asyncio+eager", leak, after=after, check=check)
    assert [leak.kind for leak in leaks] == ["task"]
    assert "bob, which waits at" in leaks[0].what


async def fail():
    raise ValueError("nobody asks")


def test_a_failure_that_nobody_has_looked_at(backend):
    if backend == "trio":
        pytest.skip("a task's exception goes to its nursery")
    kept = []

    async def leak():
        kept.append(asyncio.create_task(fail(), name="bob"))  # made here
        await anyio.wait_all_tasks_blocked()

    leaks = leaks_of(backend, leak)
    the_one(
        leaks,
        "task exception",
        "bob failed, and its exception was never retrieved: ValueError: nobody asks",
        line_of(leak, "# made here"),
    )
    kept.clear()
    gc.collect()  # and asyncio does not say so again: an unraisable warning would fail this test


def test_a_failure_that_was_looked_at(backend):
    if backend == "trio":
        pytest.skip("a task's exception goes to its nursery")
    kept = []

    async def twin():
        kept.append(asyncio.create_task(fail()))
        with pytest.raises(ValueError, match="nobody asks"):
            await kept[0]

    assert leaks_of(backend, twin) == []


def test_asyncio_still_says_which_failures_nobody_has_looked_at():
    """`Task._log_traceback` is not public."""

    async def main():
        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        assert task._log_traceback
        task.exception()
        assert not task._log_traceback

    asyncio.run(main())
