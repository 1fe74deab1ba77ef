"""Child processes that run, or that nobody has waited for."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys

import anyio
import anyio.to_process
import pytest
from leak_driver import leaks_of, line_of, the_one

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
