"""What does not end is ended, says where it was, and the run goes on."""

from __future__ import annotations

import re
import sys

import pytest
from blackbox import RunPytest

HANGS = """
    import anyio, pytest, threading, time

    pytestmark = pytest.mark.harness(timeout=0.6)

    @pytest.fixture(autouse=True)
    async def torn_down(request):
        yield
        print("torn down:", request.node.originalname)

    async def test_waits(harness):
        await anyio.sleep_forever()

    @pytest.mark.harness(timeout=0.6)
    async def test_waits_without_fixtures():
        await anyio.sleep_forever()

    async def test_turns(harness):
        while True:
            await anyio.lowlevel.checkpoint()

    async def test_blocks(harness):
        time.sleep(1000)

    async def test_blocks_on_a_lock(harness):
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()

    async def test_spins(harness):
        while True:
            pass

    async def test_spins_in_a_handler(harness):
        async def handler(stream):
            while True:
                pass

        await (await harness.serve(handler)).connect()
        await anyio.sleep_forever()

    async def test_shields_itself(harness):
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()

    @pytest.fixture
    async def never_ready():
        await anyio.sleep_forever()
        yield

    async def test_setup(harness, never_ready): ...

    @pytest.fixture
    async def never_torn_down():
        yield
        await anyio.sleep_forever()

    async def test_teardown(harness, never_torn_down): ...

    @pytest.fixture
    async def also_never_torn_down():
        yield
        await anyio.sleep_forever()

    async def test_two_teardowns(harness, never_torn_down, also_never_torn_down): ...

    @pytest.fixture
    async def group():
        async with anyio.create_task_group() as tasks:
            yield tasks

    async def test_group_of_a_fixture(harness, group):
        group.start_soon(anyio.sleep_forever)

    @pytest.fixture
    def blocked_setup():
        time.sleep(1000)

    async def test_blocked_setup(harness, blocked_setup): ...

    @pytest.mark.harness(timeout=60)
    async def test_next(harness): ...
"""


def test_whatever_hangs_is_ended(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makeini("[pytest]\nharness_cancel_timeout = 0.1")
    pytester.makepyfile(test_it=HANGS)
    result = run_pytest(
        f"--harness-backends={backend}", "--harness-transports=memory", "-rA", "-s", "-W", "error"
    )
    # Each test that hangs in its teardown has passed before, and then is an error.
    result.assert_outcomes(passed=4, failed=8, errors=5)
    output = result.stdout.str()
    for name in ("waits", "turns", "blocks", "spins", "shields_itself"):
        assert f"FAILED test_it.py::test_{name}[{backend}-memory]" in output
    for name in ("setup", "teardown", "two_teardowns", "group_of_a_fixture", "blocked_setup"):
        assert f"ERROR test_it.py::test_{name}[{backend}-memory]" in output
        assert f"torn down: test_{name}" in output
    for where in (
        "the body did not end within 0.6 s (harness_timeout)",
        "*in test_waits: await anyio.sleep_forever()",
        "*in test_turns: await anyio.lowlevel.checkpoint()",
        "*in test_blocks: time.sleep(1000)",
        "*in test_blocks_on_a_lock: lock.acquire()",
        "*in handler: *",
        "*in test_shields_itself: await anyio.sleep_forever()",
        "the setup did not end within 0.6 s (harness_timeout)",
        "*in never_ready: await anyio.sleep_forever()",
        "the teardown did not end within 0.6 s (harness_timeout)",
        "*in never_torn_down: await anyio.sleep_forever()",
        "*in also_never_torn_down: await anyio.sleep_forever()",
        "*in blocked_setup: time.sleep(1000)",
    ):
        result.stdout.fnmatch_lines([where])


@pytest.mark.parametrize(
    "code",
    [
        "async def test_it(harness): interrupt(); time.sleep(1000)",
        "async def test_it(harness): interrupt(); await anyio.sleep_forever()",
        "def test_it(harness): interrupt(); time.sleep(1000)",
        "async def test_it(blocked): ...",
    ],
)
def test_ctrl_c_names_the_users_line(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, code: str
) -> None:
    pytester.makepyfile(
        test_it=f"""
        import anyio, pytest, signal, time

        def interrupt():
            signal.raise_signal(signal.SIGINT)

        @pytest.fixture
        async def blocked(harness):
            interrupt()
            time.sleep(1000)
            yield

        {code}
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    line = 9 if "blocked" in code else 12
    result.stdout.fnmatch_lines(
        ["!!!* KeyboardInterrupt !!!*", f"*test_it.py:{line}: KeyboardInterrupt"], consecutive=True
    )


def test_where_the_loop_is_blocked_comes_first(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest, time

        def lock_up():
            time.sleep(1000)

        @pytest.mark.harness(timeout=0.3)
        async def test_loop(harness):
            async def handler(stream):
                lock_up()

            server = await harness.serve(handler)
            client = await server.connect()
            await client.receive()

        @pytest.mark.harness(timeout=0.3)
        def test_sync():
            lock_up()
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory")
    result.assert_outcomes(failed=2)
    bound = "the body did not end within 0.3 s (harness_timeout)"
    lines = result.stdout.lines
    where = "blocked at test_it.py:4 in lock_up: time.sleep(1000)"
    first, second = (number for number, line in enumerate(lines) if line == bound)
    assert lines[first + 1] == f"the event loop is {where}"
    assert lines[second + 1] == f"the main thread is {where}"
    assert lines[first + 2].startswith("- ")
    assert "connections" in lines[first + 2 : second]
    assert lines.index("threads") > lines.index("connections")


def test_a_time_out_of_code_that_blocks_names_the_users_line(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest, time

        @pytest.mark.harness(timeout=0.3)
        async def test_async(harness):
            time.sleep(1000)

        @pytest.mark.harness(timeout=0.3)
        def test_sync():
            time.sleep(1000)
        """
    )
    cell = (f"--harness-backends={backend}", "--harness-transports=memory")
    result = run_pytest(*cell, "--tb=line")
    for line in (5, 9):
        result.stdout.fnmatch_lines([f"*test_it.py:{line}: *the body did not end within 0.3 s*"])


@pytest.mark.skipif(sys.platform == "win32", reason="masks a POSIX signal")
def test_a_thread_that_cannot_be_interrupted_is_reported_before_the_process_ends(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest, signal, time

        @pytest.mark.harness(timeout=0.3)
        async def test_it(harness):
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            time.sleep(1000)

        async def test_next(harness): ...
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory")
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    result.stdout.fnmatch_lines(
        [
            "the body did not end within 0.3 s (harness_timeout)",
            "*in test_it: time.sleep(1000)",
            "FAILED *::test_it*",
        ]
    )
    result.stderr.fnmatch_lines(
        [
            "*::test_it*: the body did not end within 0.3 s (harness_timeout)",
            "*the process stops here. 1 of 2 tests were not run.",
        ]
    )


def test_code_that_catches_the_interruption_has_failed(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        """
        import pytest, time

        def retry():
            end = time.monotonic() + 5
            while time.monotonic() < end:
                try:
                    time.sleep(1000)
                except BaseException:
                    pass

        @pytest.mark.harness(timeout=0.3)
        async def test_async():
            retry()

        @pytest.mark.harness(timeout=0.3)
        def test_sync():
            retry()
        """
    )
    result = run_pytest(f"--harness-backends={backend}")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*_ test_sync _*", "the body did not end within 0.3 s*"])


def test_a_thread_that_never_ends_does_not_keep_the_process(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makeini("[pytest]\nharness_cancel_timeout = 0.1")
    pytester.makepyfile(
        """
        import anyio, pytest, threading

        never = threading.Event()

        @pytest.mark.harness(timeout=0.3, transports=["memory"])
        async def test_it(harness):
            await anyio.to_thread.run_sync(never.wait)
        """
    )
    result = run_pytest(f"--harness-backends={backend}")
    assert result.ret != pytest.ExitCode.OK
    output = result.stdout.str() + result.stderr.str()
    assert "did not end within 0.3 s" in output
    assert "waits for a thread" in output


@pytest.mark.parametrize("value", ["ini", "option", "marker"])
def test_the_bound_can_be_set(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, value: str
) -> None:
    if value == "ini":
        pytester.makeini("[pytest]\nharness_timeout = 0.2")
    mark = "@pytest.mark.harness(timeout=0.2)" if value == "marker" else ""
    option = ["--harness-timeout=0.2"] if value == "option" else []
    pytester.makepyfile(
        f"""
        import anyio, pytest

        {mark}
        async def test_it(harness):
            await anyio.sleep_forever()

        @pytest.mark.harness(timeout=5)
        async def test_marker_wins(harness):
            await anyio.sleep(0.5)  # longer than the bound of the others: that is the test

        @pytest.mark.harness(timeout=0)
        async def test_unbounded(harness):
            await anyio.sleep(0.5)  # the same; the bound is real time, and so must this be
        """
    )
    result = run_pytest(
        f"--harness-backends={backend}", "--harness-transports=memory", *option, "-W", "error"
    )
    result.assert_outcomes(passed=2, failed=1)


@pytest.mark.parametrize("value", ["soon", "-1", "nan"])
def test_a_bad_bound_is_refused(
    pytester: pytest.Pytester, run_pytest: RunPytest, value: str
) -> None:
    pytester.makepyfile("async def test_it(harness): ...")
    result = run_pytest(f"--harness-timeout={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"ERROR: --harness-timeout: expected a number of seconds, zero or more, not '{value}'"]
    )


def test_a_debugger_stops_the_clock(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makeconftest(
        """
        import time

        def pytest_enter_pdb(config, pdb):
            pdb.rcLines.extend(["import time; time.sleep(1)", "continue"])
        """
    )
    pytester.makepyfile(
        """
        import anyio, pytest

        @pytest.mark.harness(timeout=0.3)
        async def test_it(harness):
            pytest.set_trace()
            await anyio.lowlevel.checkpoint()
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory")
    result.assert_outcomes(passed=1)


def test_a_time_out_ends_all_examples_of_hypothesis(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    """The time is that of all examples, and none is tried again to find a smaller one."""
    pytest.importorskip("hypothesis")
    pytester.makepyfile(
        """
        import anyio, pytest, time
        from hypothesis import HealthCheck, given, settings, strategies as st
        from harness.adapters import serve_blocking

        async def silent(stream):
            await anyio.sleep_forever()

        hangs, caught, slow = [], [], []
        bounded = pytest.mark.harness(timeout=0.5)
        examples = settings(
            max_examples=50,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )

        @examples
        @bounded
        @given(n=st.integers(0, 9))
        async def test_waits(harness, n):
            if n > 3:
                hangs.append(n)
                await anyio.sleep_forever()

        @examples
        @bounded
        @given(n=st.integers(0, 9))
        async def test_blocks(harness, n):
            if n > 3:
                hangs.append(n)
                time.sleep(1000)

        @examples
        @bounded
        @given(n=st.integers(0, 9))
        def test_sync(n):
            if n > 3:
                hangs.append(n)
                time.sleep(1000)

        @examples
        @given(n=st.integers(0, 9))
        def test_serve_blocking(n):
            with serve_blocking(silent, grace=0) as server, server.connect() as client:
                if n > 3:
                    hangs.append(n)
                    client.recv(10)

        @examples
        @bounded
        @given(n=st.integers(0, 9))
        async def test_catches_it(harness, n):
            if n > 3:
                caught.append(n)
                try:
                    time.sleep(1000)
                except BaseException:
                    pass

        @examples
        @bounded
        @given(n=st.integers())
        async def test_slow(harness, n):
            slow.append(n)
            await anyio.sleep(0.2)  # the examples together take longer than the bound, no one does

        def test_each_once(pytestconfig):
            # None, on a machine so slow that the time is over before such an example
            assert len(hangs) <= 4
            assert len(caught) <= 1
            assert len(slow) < 4
        """
    )
    cell = (f"--harness-backends={backend}", "--harness-transports=memory")
    result = run_pytest(*cell, "--harness-timeout=0.5")
    result.assert_outcomes(failed=6, passed=1)
    for name in ("waits", "blocks", "sync", "serve_blocking", "catches_it", "slow"):
        result.stdout.fnmatch_lines(
            [f"*_ test_{name}* _*", "the body did not end within 0.5 s *", "in the example n=*"]
        )


def test_ctrl_c_ends_all_examples_of_hypothesis(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytest.importorskip("hypothesis")
    pytester.makepyfile(
        """
        import anyio, pytest, signal
        from hypothesis import HealthCheck, given, settings, strategies as st

        @settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(n=st.integers(0, 9))
        async def test_it(harness, n):
            if n > 3:
                print("interrupted")
                signal.raise_signal(signal.SIGINT)
                await anyio.sleep_forever()
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory", "-s")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert result.stdout.str().count("interrupted") == 1


def test_what_blocks_outside_of_the_event_loop_is_called_what_it_is(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        test_it="""
        import anyio, asyncio, pytest, time

        pytestmark = pytest.mark.harness(timeout=0.3, transports=["memory"])

        @pytest.fixture
        async def loop_runs(harness): ...

        @pytest.fixture
        def slow_setup(loop_runs):
            time.sleep(1000)

        @pytest.fixture
        def slow_teardown(loop_runs):
            yield
            time.sleep(1000)

        def test_sync(harness):
            time.sleep(1000)

        async def test_setup(slow_setup): ...
        async def test_teardown(slow_teardown): ...
        """
    )
    result = run_pytest(f"--harness-backends={backend}")
    output = result.stdout.str()
    assert "a callback of the event loop" not in output
    for what in (
        ("- the test", "    test_it.py:18 in test_sync: time.sleep(1000)"),
        ("- fixture 'slow_setup'", "    test_it.py:10 in slow_setup: time.sleep(1000)"),
        ("- fixture 'slow_teardown'", "    test_it.py:15 in slow_teardown: time.sleep(1000)"),
    ):
        result.stdout.fnmatch_lines(what, consecutive=True)


@pytest.mark.parametrize("how", ["await anyio.sleep(1000)", "time.sleep(1000)"])
def test_ctrl_c_ends_what_catches_it(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, how: str
) -> None:
    """One press is enough, also without ``harness_timeout``."""
    pytester.makeini("[pytest]\nharness_cancel_timeout = 0.2\nharness_timeout = 0")
    pytester.makepyfile(
        f"""
        import anyio, signal, time

        async def test_it(harness):
            signal.raise_signal(signal.SIGINT)
            while True:
                try:
                    {how}
                except BaseException:
                    pass
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory")
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    result.stdout.fnmatch_lines(["KeyboardInterrupt in the body", "*in test_it: *"])
    result.stderr.fnmatch_lines(["*::test_it*: KeyboardInterrupt in the body", "*stops here."])


def test_ctrl_c_once_ends_what_catches_it_once_more(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    """What ends in the end is torn down."""
    pytester.makeini("[pytest]\nharness_cancel_timeout = 0.2\nharness_timeout = 0")
    pytester.makepyfile(
        """
        import pytest, signal, time

        @pytest.fixture
        async def torn_down(harness):
            yield
            print("torn down")

        async def test_it(torn_down):
            signal.raise_signal(signal.SIGINT)
            try:
                time.sleep(1000)
            except BaseException:
                pass
            time.sleep(1000)
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory", "-s")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "torn down" in result.stdout.str()


@pytest.mark.parametrize("value", ["ini", "option", "marker"])
def test_serve_blocking_is_bounded(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, value: str
) -> None:
    """Without a fixture of the harness, and also where the marker is that of another test."""
    if value == "ini":
        pytester.makeini("[pytest]\nharness_timeout = 0.3")
    mark = "@pytest.mark.harness(timeout=0.3)" if value == "marker" else ""
    option = ["--harness-timeout=0.3"] if value == "option" else []
    pytester.makepyfile(
        test_it=f"""
        import anyio, pytest, time
        from harness.adapters import serve_blocking

        async def silent(stream):
            await anyio.sleep_forever()

        {mark}
        def test_it():
            with serve_blocking(silent, backend={backend!r}) as server, server.connect() as client:
                client.recv(10)

        @pytest.mark.harness(timeout=0)
        def test_unbounded():
            with serve_blocking(silent, backend={backend!r}, grace=0):
                time.sleep(0.5)  # longer than the bound of the other: that is the test

        def test_without():
            time.sleep(0.5)  # the same
        """
    )
    result = run_pytest("-W", "error", *option)
    result.assert_outcomes(passed=2, failed=1)
    lines = result.stdout.lines
    start = lines.index("the body did not end within 0.3 s (harness_timeout)")
    threads = lines.index("threads", start)
    result.stdout.fnmatch_lines(
        [
            "the main thread is blocked at test_it.py:10 in test_it: client.recv(10)",
            f"the event loop of serve_blocking(), on {backend}",
            "  - serve_blocking()",
            "      waits for an event",
            "  - server 'silent'",
            "      waits for connections at 127.0.0.1:*",
            "    - a handler of server 'silent'",
            "        test_it.py:5 in silent: await anyio.sleep_forever()",
            "        sleeps forever",
            "  connections",
            "    connection 1 of server 'silent': open, 0 bytes in, 0 bytes out, 127.0.0.1:*",
        ],
        consecutive=True,
    )
    result.stdout.fnmatch_lines(["threads", "  thread 'MainThread'"], consecutive=True)
    assert all(len(line) <= 100 for line in lines[start:threads])


def test_serve_blocking_is_bounded_from_its_start_to_its_end(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makeini("[pytest]\nharness_timeout = 0.3")
    pytester.makepyfile(
        test_it=f"""
        import anyio
        from harness.adapters import Main, serve_blocking

        async def never_ready(*, task_status):
            await anyio.sleep_forever()

        async def stays(stream):
            with anyio.CancelScope(shield=True):
                await anyio.sleep_forever()

        def test_start():
            with serve_blocking(Main(never_ready), backend={backend!r}):
                raise AssertionError

        def test_end():
            with serve_blocking(stays, backend={backend!r}, grace=60) as server:
                server.connect().close()
                server.wait_connections(1)

        def test_call():
            with serve_blocking(stays, backend={backend!r}, cancel_timeout=0.1) as server:
                server.wait_connections(1)
        """
    )
    result = run_pytest()
    result.assert_outcomes(failed=3)
    for line in (
        "*in never_ready: await anyio.sleep_forever()",
        "*in stays: await anyio.sleep_forever()",
        "*waits for 1 connection of server 'stays', which has 0",
    ):
        result.stdout.fnmatch_lines(["the body did not end within 0.3 s (harness_timeout)", line])


def test_serve_blocking_in_a_fixture_bounds_the_tests_that_use_it(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makeini("[pytest]\nharness_timeout = 0.3")
    pytester.makepyfile(
        f"""
        import anyio, pytest, time
        from harness.adapters import Main, serve_blocking

        async def silent(stream):
            await anyio.sleep_forever()

        @pytest.fixture(scope="module")
        def server():
            with serve_blocking(silent, backend={backend!r}, grace=0) as server:
                yield server

        @pytest.fixture
        def over_it(server):
            return server

        @pytest.fixture
        def never_ready():
            with serve_blocking(Main(anyio.sleep_forever), backend={backend!r}) as server:
                yield server

        @pytest.fixture
        def slow_teardown(server):
            yield
            time.sleep(1000)

        def test_first(server):
            with server.connect() as client:
                client.recv(10)

        def test_second(over_it):
            with over_it.connect() as client:
                client.recv(10)

        def test_without():
            time.sleep(0.5)  # longer than the bound of the others: that is the test

        def test_setup(never_ready): ...

        def test_teardown(slow_teardown): ...
        """
    )
    result = run_pytest()
    result.assert_outcomes(passed=2, failed=2, errors=2)


def test_serve_blocking_in_an_async_test_is_in_its_report(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        """
        import anyio, pytest
        from harness.adapters import serve_blocking

        async def silent(stream):
            await anyio.sleep_forever()

        @pytest.mark.harness(timeout=0.3, transports=["memory"])
        async def test_it(harness):
            with serve_blocking(silent, backend="asyncio", grace=0) as server:
                async with await anyio.connect_tcp(server.host, server.port) as client:
                    await client.receive()
        """
    )
    result = run_pytest(f"--harness-backends={backend}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "- the test",
            "*waits to receive from 127.0.0.1:*",
            "the event loop of serve_blocking(), on asyncio",
            "  - server 'silent'",
            "  connections",
            "    connection 1 of server 'silent': open, *",
        ]
    )
    assert result.stdout.str().count("connection 1 of server 'silent'") == 1


def test_a_server_that_has_ended_is_in_the_report(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        """
        import anyio, pytest
        from harness.adapters import Datagram

        async def once(socket):
            await socket.receive()

        @pytest.mark.harness(timeout=0.3, transports=["memory"])
        async def test_it(harness):
            client = await (await harness.serve(Datagram(once))).datagram_client()
            await client.send(b"x")
            await client.receive()
        """
    )
    result = run_pytest(f"--harness-backends={backend}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["- the test", "- server 'once'", "    has ended because its handler has returned"]
    )


ENDLESS = """
    import anyio, pytest
    from contextlib import suppress
    from harness.adapters import AsyncioStreams

    pytestmark = pytest.mark.harness(timeout=0.6, transports=["tcp"])

    async def lines(reader, writer):
        while True:
            line = await reader.readline()
            writer.write(line.upper())
            await writer.drain()

    async def echo(reader, writer):
        while True:
            writer.write(await reader.read(100))
            await anyio.lowlevel.checkpoint()

    async def swallows(stream):
        while True:
            with suppress(anyio.EndOfStream):
                await stream.send(await stream.receive())

    async def looks(stream):
        with suppress(anyio.EndOfStream):
            await stream.receive()
        await anyio.sleep_forever()

    async def hangs(server):
        client = await server.connect()
        await client.send_eof()
        await client.receive()

    async def test_lines(harness):
        await hangs(await harness.serve(AsyncioStreams(lines)))

    async def test_echo(harness):
        await hangs(await harness.serve(AsyncioStreams(echo)))

    async def test_swallows(harness):
        await hangs(await harness.serve(swallows))

    async def test_looks(harness):
        await hangs(await harness.serve(looks))
"""


def test_a_loop_that_does_not_end_with_its_stream_is_told(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(test_it=ENDLESS)
    result = run_pytest(f"--harness-backends={backend}", "--tb=short")
    handlers = ["swallows"] if backend == "trio" else ["lines", "echo", "swallows"]
    result.assert_outcomes(failed=len(handlers) + 1, skipped=3 - len(handlers))
    told = re.findall(r"^(.*) was read \d+ times at its end: .*$", result.stdout.str(), re.M)
    assert told == [f"connection 1 of server {handler!r}" for handler in handlers]


def test_a_debugger_stops_the_clock_before_serve_blocking(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makeini("[pytest]\nharness_timeout = 0.3")
    pytester.makeconftest(
        """
        def pytest_enter_pdb(config, pdb):
            pdb.rcLines.extend(["import time; time.sleep(1)", "continue"])
        """
    )
    pytester.makepyfile(
        """
        import pytest
        from harness.adapters import serve_blocking

        async def silent(stream): ...

        def test_it():
            pytest.set_trace()
            with serve_blocking(silent): ...
        """
    )
    run_pytest().assert_outcomes(passed=1)
