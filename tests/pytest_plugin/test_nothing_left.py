"""After a crash, a time-out or Ctrl-C at any moment, nothing of the run is left on the machine."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from blackbox import BOUND, NO_RIVALS

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="looks for processes in /proc"
)

#: Moments for each backend. The seed of each is in the test's name. The matrix of Python versions
#: takes fewer in each of its cells.
MOMENTS = int(os.environ.get("HARNESS_TEST_MOMENTS", "20"))

#: Every resource that the harness makes, and a child process, for as long as there is time.
TESTS = """
import os, random, sys
import anyio, pytest

seed = int(os.environ["MOMENT"])
at = random.Random(seed).uniform(0, 0.3)

async def echo(stream):
    try:
        async for chunk in stream:
            await stream.send(chunk)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()

@pytest.fixture
async def child(anyio_backend):
    process = await anyio.open_process([sys.executable, "-c", "import time; time.sleep(1000)"])
    try:
        yield process
    finally:
        process.kill()
        with anyio.CancelScope(shield=True):
            await process.aclose()

@pytest.mark.parametrize("n", range(1000 if os.environ["ENDS"] == "ctrl-c" else 1))
async def test_it(harness, child, n):
    if os.environ["ENDS"] == "crash":
        async def crash():
            await anyio.sleep(at)
            raise LookupError("crashed")

        harness.task_group.start_soon(crash)
    servers = [await harness.serve(echo, transport=name) for name in ("tcp", "unix", "tls")]
    if n == 0 and "READY" in os.environ:
        os.write(int(os.environ["READY"]), b"!")
    while True:
        for server in servers:
            client = await server.connect()
            await client.send(b"x")
            assert await client.receive() == b"x"
            await harness.serve(echo, transport="unix")
        if n % 3 and os.environ["ENDS"] == "ctrl-c":
            break
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A temporary folder with a name that is short enough for the path of a socket."""
    made = Path(tempfile.mkdtemp(prefix="h-", dir="/tmp"))
    yield made
    shutil.rmtree(made)


def of_session(session: int) -> list[str]:
    """The processes of a POSIX session, dead ones that nobody has waited for apart."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                state, _, _, its_session = (
                    (process / "stat").read_text().rpartition(")")[2].split()[:4]
                )
                if int(its_session) == session and state != "Z":
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except OSError:
                pass  # it has ended meanwhile
    return found


@pytest.mark.parametrize("seed", range(MOMENTS))
def test_nothing_is_left(folder: Path, tmp_path: Path, backend: str, seed: int) -> None:
    random_numbers = random.Random(seed)
    ends = ("crash", "time-out", "ctrl-c")[seed % 3]
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "tox.ini").write_text("[pytest]")
    limit = random_numbers.uniform(0.05, 0.4) if ends == "time-out" else 60
    read, write = os.pipe()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"),
            *NO_RIVALS,
            *(f"--harness-backends={backend}", "--harness-transports=tcp"),
            f"--harness-timeout={limit}",
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "TMPDIR": str(folder),
            "MOMENT": str(seed),
            "ENDS": ends,
            "READY": str(write),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=[write],
    )
    os.close(write)
    try:
        if ends == "ctrl-c":
            assert os.read(read, 1) == b"!", "it ended before its first test"
            time.sleep(random_numbers.uniform(0, 0.6))  # this is the moment
            process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=BOUND)[0].decode()
        left = of_session(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        os.close(read)
        process.communicate()
    expected = {"crash": 1, "time-out": 1, "ctrl-c": 2}[ends]
    assert process.returncode == expected, output
    said = {"crash": "crashed", "time-out": "did not end within", "ctrl-c": "KeyboardInterrupt"}
    assert said[ends] in output
    assert left == []
    assert list(folder.iterdir()) == []


#: Tests that nothing can end, each with a transport that has files, and a process.
STUCK = {
    "a loop that cannot end": """
        while True:
            try:
                await anyio.sleep(1000)
            except BaseException:
                pass
    """,
    "code that blocks": """
        while True:
            try:
                time.sleep(1000)
            except BaseException:
                pass
    """,
    "a thread": """
        await anyio.to_thread.run_sync(threading.Event().wait)
    """,
}


@pytest.mark.parametrize("how", STUCK)
def test_nothing_is_left_when_the_process_has_to_end(
    folder: Path, tmp_path: Path, backend: str, how: str
) -> None:
    (tmp_path / "tox.ini").write_text("[pytest]\nharness_cancel_timeout = 0.2")
    (tmp_path / "test_it.py").write_text(
        "import anyio, os, pytest, subprocess, sys, threading, time\n\n"
        "@pytest.mark.harness(timeout=0.5)\n"
        "async def test_it(harness):\n"
        "    async def handler(stream): await stream.receive()\n"
        "    await harness.serve(handler)\n"
        "    subprocess.Popen(['sh', '-c', 'sleep 1000; true'])\n"
        f"{textwrap.indent(textwrap.dedent(STUCK[how]), '    ')}"
    )
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"),
            *NO_RIVALS,
            *(f"--harness-backends={backend}", "--harness-transports=unix", "test_it.py"),
        ],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        # Not to the end of what it writes: a process that is left would keep that open.
        code = process.wait(timeout=BOUND)
        left = of_session(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        output = process.communicate()[0].decode()
    assert code in (1, 3), output
    assert "the process stops here" in output or "The process ends without them" in output
    assert left == []
    assert list(folder.iterdir()) == []
