"""Child processes that run, or that nobody has waited for."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import subprocess
import sys
import weakref

import anyio
import anyio.to_process
import pytest
from leak_driver import leaks_of, line_of, the_one

from harness.leaks.children import children, helpers, kill, ticks

CAT = [sys.executable, "-c", "import sys; sys.stdin.read()"]


async def end(process):
    with contextlib.suppress(ProcessLookupError):  # the check has done it, and the loop heard
        process.kill()
    await process.aclose()


def test_a_process_that_runs(backend):
    async def leak():
        nonlocal process
        process = await anyio.open_process(CAT)  # made here

    process = None
    leaks = leaks_of(backend, leak, after=lambda: end(process))
    the_one(
        leaks, "process", f"{process.pid} ({' '.join(CAT)}) is running", line_of(leak, "# made")
    )


def test_processes_that_were_waited_for(backend):
    async def twin():
        async with await anyio.open_process(CAT) as process:
            await process.stdin.aclose()
            assert await process.wait() == 0
        result = await anyio.run_process([sys.executable, "-c", "print(1)"])
        assert result.stdout.split() == [b"1"]
        subprocess.run([sys.executable, "-c", ""], check=True)  # noqa: ASYNC221

    assert leaks_of(backend, twin) == []


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="the system does not tell")
def test_a_process_that_has_ended(backend):
    async def leak():
        nonlocal process
        process = subprocess.Popen([sys.executable, "-c", ""])  # made here  # noqa: ASYNC220
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222

    process = None
    leaks = leaks_of(backend, leak)
    what = "has ended, but nobody has waited for it"
    the_one(leaks, "process", what, line_of(leak, "# made here"))
    process.wait()


class Sentinel(type):
    """As h11 makes them: each is a class, and its own type."""

    def __new__(cls, name, bases, namespace):
        made = super().__new__(cls, name, bases, namespace)
        made.__class__ = made
        return made


def test_a_process_and_objects_that_cannot_be_asked(backend):
    async def leak():
        nonlocal process
        process = subprocess.Popen(CAT, stdin=subprocess.PIPE)  # made here  # noqa: ASYNC220

    class Proxied:
        pass

    Sentinel("NEED_DATA", (Sentinel,), {})
    gc.collect()  # which takes all that it has, and cannot take the thing itself
    assert not all(hasattr(type(each), "__module__") for each in gc.get_objects())
    process = None
    gone = weakref.proxy(Proxied(), [].append)  # what has a callback is in gc.get_objects()
    leaks = [each for each in leaks_of(backend, leak) if each.kind == "process"]
    the_one(leaks, "process", "is running", line_of(leak, "# made here"))
    with pytest.raises(ReferenceError):
        repr(gone.name)
    process.wait()
    process.stdin.close()


def test_a_process_of_multiprocessing(backend):
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()

    async def leak():
        nonlocal process
        process = context.Process(target=far.recv, name="bob")
        process.start()  # made here

    process = None
    leaks = [each for each in leaks_of(backend, leak) if each.kind == "process"]
    the_one(leaks, "process", "(bob) is running", line_of(leak, "# made here"))
    near.send(None)
    process.join()
    process.close()
    near.close()
    far.close()


def test_the_processes_that_anyio_keeps(backend):
    async def twin():
        assert await anyio.to_process.run_sync(abs, -1) == 1

    assert leaks_of(backend, twin) == []


def wait_for(pid):
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


@pytest.mark.skipif(not hasattr(os, "posix_spawn"), reason="POSIX")
def test_a_process_of_posix_spawn(backend):
    async def leak():
        nonlocal pid
        pid = os.posix_spawn(CAT[0], CAT, os.environ, file_actions=stdin)  # made  # noqa: ASYNC221

    near, far = os.pipe()
    stdin = [(os.POSIX_SPAWN_DUP2, near, 0), (os.POSIX_SPAWN_CLOSE, far)]
    pid = None
    leaks = leaks_of(backend, leak)
    the_one(leaks, "process", f"{pid} ({' '.join(CAT)}) is running", line_of(leak, "# made"))
    wait_for(pid)
    os.close(near)
    os.close(far)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork(backend):
    async def leak():
        nonlocal pid
        pid = os.fork()  # made here
        if pid == 0:
            os.read(near, 1)
            os._exit(0)

    near, far = os.pipe()
    pid = None
    leaks = leaks_of(backend, leak)
    the_one(leaks, "process", "(a fork of this process) is running", line_of(leak, "# made"))
    wait_for(pid)
    os.close(near)
    os.close(far)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_process_that_a_library_in_c_has_started(backend):
    """What is seen in no other way than that it is there."""

    async def leak():
        nonlocal pid
        begin = ticks()
        while ticks() <= begin + 1:  # the system knows when it started by these
            await anyio.lowlevel.checkpoint()
        pid = posix_spawn(CAT[0], CAT, os.environ, file_actions=stdin)

    posix_spawn = os.posix_spawn  # before it is watched
    near, far = os.pipe()
    stdin = [(os.POSIX_SPAWN_DUP2, near, 0), (os.POSIX_SPAWN_CLOSE, far)]
    pid = None
    leaks = leaks_of(backend, leak)
    the_one(leaks, "process", f"{pid} ({' '.join(CAT)}) is running", None)
    wait_for(pid)
    os.close(near)
    os.close(far)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_processes_that_are_nobodys_leak(backend):
    async def fixture():
        nonlocal of_fixture
        of_fixture = posix_spawn(CAT[0], CAT, os.environ, file_actions=stdin)

    async def twin():
        assert await anyio.to_process.run_sync(abs, -1) == 1
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(abs, (-1,)) == 1
        wait_for(os.posix_spawn(CAT[0], [CAT[0], "-c", ""], os.environ))  # noqa: ASYNC221

    posix_spawn = os.posix_spawn
    near, far = os.pipe()
    stdin = [(os.POSIX_SPAWN_DUP2, near, 0), (os.POSIX_SPAWN_CLOSE, far)]
    earlier = posix_spawn(CAT[0], CAT, os.environ, file_actions=stdin)
    of_fixture = None
    try:
        for _ in range(2):  # some of it is known the second time
            assert leaks_of(backend, twin, before=fixture) == []
    finally:
        os.close(near)
        os.close(far)
        kill(children() - helpers())
        for pid in (earlier, of_fixture):
            wait_for(pid)
