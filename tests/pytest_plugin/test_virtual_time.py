"""Virtual time as a user of pytest meets it."""

from __future__ import annotations

import pytest
from blackbox import RunPytest, skip_without

CELLS = "--harness-transports=memory"


@pytest.mark.parametrize(
    "how",
    ["virtual_clock", "autojump_clock", "marker", "ini", "fixture"],
)
def test_how_it_is_asked_for(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, how: str
) -> None:
    argument = how if how.endswith("_clock") else "its_fixture" if how == "fixture" else ""
    pytester.makepyfile(
        f"""
        import anyio, pytest
        from anyio import current_time, sleep

        @pytest.fixture
        async def its_fixture(virtual_clock):
            await sleep(1000)
            yield
            await sleep(1000)

        @pytest.mark.harness({"virtual_time=True" if how == "marker" else ""})
        async def test_it({argument}):
            await sleep(86400)
            assert current_time() == 86400 + {1000 if how == "fixture" else 0}
        """
    )
    ini = ("-o", "harness_virtual_time=true") if how == "ini" else ()
    result = run_pytest(f"--harness-backends={backend}", "--harness-timeout=20", *ini)
    result.assert_outcomes(passed=1)


def test_real_and_virtual_tests_side_by_side(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        """
        import anyio, pytest
        from anyio import current_time, sleep

        import asyncio, time

        def is_virtual():
            return current_time() < 10

        async def test_a(harness, virtual_clock):
            assert is_virtual()
            await sleep(5)
            assert virtual_clock.now == 5

        async def test_b(harness):
            assert not is_virtual()
            before = current_time()
            while current_time() == before:
                await anyio.lowlevel.checkpoint()

        @pytest.mark.anyio
        async def test_c():
            assert not is_virtual()

        async def test_d(virtual_clock):
            assert virtual_clock.now == 0

        @pytest.mark.harness(virtual_time=False)
        async def test_e(harness):
            assert not is_virtual()

        def test_f():
            pass
        """
    )
    result = run_pytest(
        f"--harness-backends={backend}", CELLS, "-W", "error", "-o", "anyio_mode=auto"
    )
    assert result.ret == 0
    assert "warning" not in result.stdout.str()


def test_a_deadlock_fails_at_once_with_the_tree(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        test_it="""
        import anyio, pytest
        from anyio import current_time, sleep

        torn_down = []

        @pytest.fixture
        async def its_fixture(harness):
            yield
            torn_down.append(1)

        async def test_two_that_wait(harness, virtual_clock, its_fixture):
            async def handler(stream):
                await stream.receive()

            client = await (await harness.serve(handler, name="echo")).connect()
            await sleep(3)
            await client.receive()

        async def test_next(virtual_clock):
            assert torn_down == [1]
            await sleep(1)
        """
    )
    result = run_pytest(f"--harness-backends={backend}", CELLS, "--harness-timeout=50")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "deadlock: every task is blocked, no timer is pending, and nothing real is in flight",
            "- the test",
            "*in test_two_that_wait: await client.receive()",
            "- server 'echo'",
            "*in handler: await stream.receive()",
            "*FAILED *Failed: deadlock*",
        ]
    )
    assert "did not end" not in result.stdout.str()


def test_a_deadlock_with_autojump_off(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        """
        import anyio, pytest
        from anyio import current_time, sleep

        async def test_it(mock_clock):
            await sleep(3)
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-timeout=50")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["deadlock: *autojump is off*", "- the test", "*sleep(3)*"])


def test_a_livelock_ends_in_real_time(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        """
        import anyio, pytest
        from anyio import current_time, sleep

        async def test_it(virtual_clock):
            while True:
                await sleep(1)

        async def test_next(virtual_clock):
            await sleep(1)
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-timeout=1")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*did not end within 1 s (harness_timeout)*"])


def test_blocking_is_measured_in_real_time(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        """
        import time
        import anyio, pytest

        @pytest.mark.harness(blocking="error", blocking_threshold=3)
        async def test_sleeps(virtual_clock):
            for _ in range(10):
                await anyio.sleep(86400)

        @pytest.mark.harness(blocking="error")
        async def test_blocks(virtual_clock):
            time.sleep(0.5)
        """
    )
    result = run_pytest(f"--harness-backends={backend}")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*blocked the event loop for *in test_blocks*"])


def test_what_holds_the_time_of_a_test_that_hangs(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        """
        import anyio, pytest
        from anyio import current_time, sleep

        import threading
        may_end = threading.Event()

        def wait_for_it():
            may_end.wait()

        async def test_it(virtual_clock):
            try:
                await anyio.to_thread.run_sync(wait_for_it, abandon_on_cancel=True)
            finally:
                may_end.set()
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-timeout=1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*did not end within 1 s*", "virtual time is held by *wait_for_it*in a worker thread"]
    )


@pytest.mark.parametrize("first", ["virtual", "real"])
def test_a_wider_fixture_holds_the_event_loop(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, first: str
) -> None:
    order = {
        "virtual": "def test_a(wide, virtual_clock): pass",
        "real": "def test_a(wide): pass",
    }
    pytester.makepyfile(
        f"""
        import anyio, pytest
        from anyio import current_time, sleep

        @pytest.fixture(scope="module")
        async def wide(anyio_backend):
            yield

        @pytest.mark.harness
        async {order[first]}

        @pytest.mark.harness
        async def test_b(wide, virtual_clock):
            pass

        @pytest.mark.harness
        async def test_c(wide):
            pass

        @pytest.mark.harness
        async def test_d(virtual_clock):
            await sleep(1)
        """
    )
    result = run_pytest(f"--harness-backends={backend}")
    # Only test_c, and test_a if it is real, can have what they ask for.
    errors, passed = (2, 1) if first == "virtual" else (1, 2)
    result.assert_outcomes(errors=errors, passed=passed, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*test_b* runs in virtual time, in an event loop of its own, and *'wide'*",
            "*test_d* is to run in virtual time, but *'wide'* holds its event loop, which goes by*",
        ]
    )


def test_bad_use(pytester: pytest.Pytester, run_pytest: RunPytest, backend: str) -> None:
    pytester.makepyfile(
        """
        import anyio, pytest
        from anyio import current_time, sleep

        kept = []

        def test_sync(virtual_clock):
            pass

        async def test_keeps_it(virtual_clock):
            kept.append(virtual_clock)

        def test_after_the_test():
            for use in (lambda: kept[0].now, kept[0].deadline, lambda: kept[0].jump(1)):
                with pytest.raises(RuntimeError, match="has ended"):
                    use()

        @pytest.mark.harness
        async def test_too_late(request):
            with pytest.raises(pytest.UsageError, match="comes too late"):
                request.getfixturevalue("virtual_clock")

        @pytest.mark.harness(virtual_time=False)
        async def test_contradiction(virtual_clock):
            pass
        """
    )
    result = run_pytest(f"--harness-backends={backend}")
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(
        [
            "*test_sync*does not run in virtual time. It has to be async*",
            "*test_contradiction*virtual_time=False*on a test that uses 'virtual_clock'*",
        ]
    )


def test_a_marker_that_cannot_be(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.harness(virtual_time="yes")
        async def test_it(harness):
            pass
        """
    )
    result = run_pytest()
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*harness(virtual_time=...) must be True or False, not 'yes'*"])


def test_wall_clocks_follow(pytester: pytest.Pytester, run_pytest: RunPytest, backend: str) -> None:
    skip_without("time_machine")
    pytester.makepyfile(
        server="""
        import time
        from time import monotonic
        from datetime import datetime, timezone

        def clocks():
            return time.time(), time.monotonic(), monotonic(), datetime.now(timezone.utc)
        """,
        test_it="""
        import anyio, pytest
        from anyio import current_time, sleep

        import time
        from datetime import datetime, timedelta, timezone
        from server import clocks

        async def test_it(virtual_clock):
            start = datetime(2031, 5, 6, tzinfo=timezone.utc)
            real = time.monotonic
            with virtual_clock.patch_wall_clock(start):
                before = clocks()
                assert before[3] == start
                await sleep(86400)
                after = clocks()
            assert time.monotonic is real
            assert after[0] - before[0] == 86400
            assert after[1] - before[1] == pytest.approx(86400, abs=1e-6)
            assert after[2] - before[2] == pytest.approx(86400, abs=1e-6)
            assert after[3] - before[3] == timedelta(days=1)
            assert datetime.now(timezone.utc) != after[3]
            with pytest.raises(TypeError, match="must be a datetime"):
                with virtual_clock.patch_wall_clock("2031-05-06"):
                    pass
        """,
    )
    result = run_pytest(f"--harness-backends={backend}")
    result.assert_outcomes(passed=1)


def test_the_time_of_a_harness_piece(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    """The grace of a server is virtual, too: an hour of it takes no time."""
    pytester.makepyfile(
        """
        import anyio
        from anyio import sleep

        async def test_it(harness, virtual_clock):
            cleaned = []

            async def handler(stream):
                try:
                    await sleep(3000)
                    cleaned.append(anyio.current_time())
                    await anyio.Event().wait()
                except anyio.get_cancelled_exc_class():
                    cleaned.append(anyio.current_time())
                    raise

            server = await harness.serve(handler)
            client = await server.connect()
            await server.wait_connections(1)
            await server.stop(grace=3600)
            assert cleaned == [3000, 3600]
        """
    )
    result = run_pytest(f"--harness-backends={backend}", CELLS, "--harness-timeout=20")
    result.assert_outcomes(passed=1)


def test_pytest_trios_own_clocks_stay_its_own(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    skip_without("pytest_trio")
    pytester.makepyfile(
        """
        import pytest, trio

        @pytest.mark.trio
        async def test_it(autojump_clock):
            assert isinstance(autojump_clock, trio.testing.MockClock)
            await trio.sleep(86400)

        @pytest.mark.harness
        async def test_ours(virtual_clock):
            import anyio
            await anyio.sleep(86400)
        """
    )
    result = run_pytest("-p", "pytest_trio.plugin", mode="-p only")
    result.assert_outcomes(passed=4)
