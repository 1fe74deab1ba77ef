"""Whatever a test does, teardown is complete, the failure is its own, and the next test runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from blackbox import BOUND, MODES, RunPytest

PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly"]

SERVERS = """
    import anyio, pytest

    stopped = []

    async def endless(stream):
        try:
            while True:
                await stream.send(await stream.receive())
        finally:
            stopped.append("handler")

    async def crashing(stream):
        await stream.receive()
        raise LookupError("the handler crashed")

    async def client_of(harness, handler):
        server = await harness.serve(handler)
        client = await server.connect()
        await client.send(b"x")
        await harness.settle()
        return client
"""

NEXT = """
    async def test_next(harness):
        assert stopped == STOPPED, stopped
        client = await client_of(harness, endless)
        assert await client.receive() == b"x"
"""

ENDINGS = {
    "pass": ("pass", {"passed": 2}),
    "fail": ("assert 0, 'the test failed'", {"passed": 1, "failed": 1}),
    "skip": ("pytest.skip('no')", {"passed": 1, "skipped": 1}),
    "xfail": ("pytest.xfail('no')", {"passed": 1, "xfailed": 1}),
    "error": ("raise OSError('the test broke')", {"passed": 1, "failed": 1}),
    "timeout": ("with anyio.fail_after(0): await client.receive(2)", {"passed": 1, "failed": 1}),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_teardown_is_complete_whatever_the_outcome(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, ending: str
) -> None:
    last_line, outcomes = ENDINGS[ending]
    body = f"""
    STOPPED = ["handler"]

    async def test_first(harness):
        client = await client_of(harness, endless)
        assert await client.receive() == b"x"
        {last_line}
    """
    pytester.makepyfile(SERVERS + body + NEXT)
    # The module's list of stopped handlers is shared by the cells, so each cell runs alone.
    for transport in ("unix", "memory"):
        result = run_pytest(
            f"--harness-backends={backend}", f"--harness-transports={transport}", "-W", "error"
        )
        result.assert_outcomes(**outcomes)


CRASHES = {
    "in a handler": """
    async def test_crash(harness):
        client = await client_of(harness, crashing)
        await anyio.sleep_forever()
    """,
    "in a handler, the client sees the end": """
    async def test_crash(harness):
        server = await harness.serve(crashing)
        async with await server.connect() as client:
            await client.send(b"x")
            await client.receive()
    """,
    "just after the body": """
    async def test_crash(harness):
        server = await harness.serve(crashing)
        client = await server.connect()
        await client.send(b"x")
    """,
    "in the task group": """
    async def test_crash(harness):
        async def child():
            raise LookupError("the handler crashed")

        harness.task_group.start_soon(child)
        await anyio.sleep_forever()
    """,
    "in started code": """
    async def test_crash(harness):
        async def child(*, task_status):
            task_status.started()
            await anyio.lowlevel.checkpoint()
            raise LookupError("the handler crashed")

        await harness.start(child)
        await anyio.sleep_forever()
    """,
    "in a harness that a module's fixture holds": """
    from harness import open_harness

    @pytest.fixture(scope="module")
    async def shared(anyio_backend):
        async with open_harness(transport="memory") as opened:
            yield opened

    async def test_crash(shared, harness):
        client = await client_of(shared, crashing)
        await anyio.sleep_forever()
    """,
}


@pytest.mark.parametrize("where", CRASHES)
def test_a_crash_fails_its_test_with_that_exception(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, where: str
) -> None:
    pytester.makepyfile(
        SERVERS
        + """
    @pytest.fixture
    async def outermost():
        yield
        stopped.append("fixture")

    pytestmark = pytest.mark.usefixtures("outermost")
"""
        + CRASHES[where]
        + NEXT.replace("STOPPED", '["fixture"]')
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=tcp", "-W", "error")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            '*raise LookupError("the handler crashed")',
            "E * LookupError: the handler crashed",
        ]
    )
    result.stdout.no_fnmatch_line("*CancelledError*")
    result.stdout.no_fnmatch_line("*trio.Cancelled*")
    result.stdout.no_fnmatch_line("*ExceptionGroup*")


def test_a_server_that_has_crashed_cannot_be_connected_to(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    """Whoever tries meets the consequence of the crash."""
    pytester.makepyfile(
        """
        from harness.adapters import Bound

        async def main(sock):
            raise RuntimeError("no database")

        async def test_it(harness):
            server = await harness.serve(Bound(main))
            await server.connect()
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=tcp")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *RuntimeError: no database"])
    result.stdout.no_fnmatch_line("*ExceptionGroup*")


def test_a_skip_of_the_harness_is_at_its_test(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makepyfile(
        """
        from harness.adapters import AsyncioStreams

        async def served(reader, writer): ...

        async def test_it(harness):
            await harness.serve(AsyncioStreams(served))
        """
    )
    result = run_pytest("-rs", "--harness-backends=trio", "--harness-transports=memory")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED [[]1] test_a_skip_*.py:5: served is a server for as*"])


def test_several_crashes_come_as_a_group(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        SERVERS
        + """
    async def test_crash(harness):
        async def child(error):
            raise error

        harness.task_group.start_soon(child, LookupError("one"))
        harness.task_group.start_soon(child, ArithmeticError("two"))
        await anyio.sleep_forever()
    """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines_random(
        ["*ExceptionGroup: several things went wrong in this test*", "*LookupError: one*"]
    )
    result.stdout.fnmatch_lines(["*ArithmeticError: two*"])


def test_a_handler_that_will_not_stop_is_named_and_the_next_test_runs(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makeini("[pytest]\nharness_cancel_timeout = 0.05\nharness_grace = 0")
    pytester.makepyfile(
        SERVERS
        + """
    async def stubborn(stream):
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()

    async def test_stubborn(harness):
        client = await client_of(harness, stubborn)
    """
        + NEXT.replace("STOPPED", "[]")
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=tcp", "-W", "error")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_stubborn*",
            "still running 0.05 s after being cancelled (harness_cancel_timeout):",
            "  a handler of server 'stubborn'",
            "    *.py:* in stubborn: await anyio.sleep_forever()",
            "    shielded by a CancelScope(shield=True): *",
        ]
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent as a POSIX signal")
@pytest.mark.parametrize("where", ["body", "handler"])
def test_ctrl_c_tears_down_and_leaves_nothing(
    pytester: pytest.Pytester, backend: str, where: str, tmp_path: Path
) -> None:
    """The run is interrupted while body and handler are blocked; all ``finally`` clauses run."""
    blocked_in_handler = "await anyio.sleep_forever()" if where == "handler" else "pass"
    pytester.makepyfile(
        f"""
        import anyio, os, pathlib, pytest

        log = pathlib.Path(os.environ["HARNESS_TEST_LOG"])

        def note(text):
            with log.open("a") as file:
                file.write(text + "\\n")

        async def handler(stream):
            try:
                {blocked_in_handler}
                while True:
                    await stream.receive()
            finally:
                note("handler")

        @pytest.fixture
        async def outer():
            yield
            note("fixture")

        async def test_interrupted(outer, harness):
            server = await harness.serve(handler)
            await server.connect()
            await harness.settle()
            note(f"ready {{server.address}}")
            try:
                await anyio.sleep_forever()
            finally:
                note("body")
        """
    )
    log = tmp_path / "log"
    log.touch()
    process = subprocess.Popen(
        [*PYTEST, f"--harness-backends={backend}", "--harness-transports=unix"],
        cwd=pytester.path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "HARNESS_TEST_LOG": str(log)},
    )
    try:
        deadline = time.monotonic() + BOUND
        while not log.read_text().startswith("ready"):
            assert process.poll() is None, process.communicate()[0].decode()
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=BOUND)[0].decode()
    finally:
        process.kill()
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert "KeyboardInterrupt" in output
    ready, *rest = log.read_text().splitlines()
    assert rest == ["body", "handler", "fixture"]
    assert not Path(ready.partition(" ")[2]).exists()
    assert "Task was destroyed" not in output
    assert "never retrieved" not in output


@pytest.mark.parametrize("mode", MODES)
def test_a_crash_is_the_failure_in_every_mode(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, mode: str
) -> None:
    pytester.makepyfile(SERVERS + CRASHES["in a handler"] + NEXT.replace("STOPPED", "[]"))
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory", mode=mode)
    result.assert_outcomes(passed=1, failed=1)


def test_what_streams_catch_while_they_wait_is_no_second_failure(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    """On asyncio, a unix stream waits inside of ``except BlockingIOError``."""
    pytester.makepyfile(
        SERVERS
        + """
    async def test_crash(harness):
        async def child():
            await client.send(b"x")
            raise LookupError("the handler crashed")

        server = await harness.serve(endless)
        client = await server.connect()
        harness.task_group.start_soon(child)
        while True:
            await client.receive()
    """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=unix")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E * LookupError: the handler crashed"])
    result.stdout.no_fnmatch_line("*BlockingIOError*")
