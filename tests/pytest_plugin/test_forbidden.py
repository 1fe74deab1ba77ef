"""``forbid_get_event_loop``: the callers of ``asyncio.get_event_loop()`` are named."""

from __future__ import annotations

import re

import pytest
from blackbox import RunPytest

CELLS = "--harness-transports=memory"

SERVER = """
    import asyncio, contextlib, sys, warnings
    import asyncio.events as ev
    from asyncio import get_event_loop as early
    from asyncio.events import get_event_loop

    def by_module():
        asyncio.get_event_loop()

    def by_submodule():
        ev.get_event_loop()

    def by_early_name():
        early()

    def by_own_name():
        get_event_loop()

    def by_policy():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.get_event_loop_policy().get_event_loop()

    def handler(call):
        async def handle(stream):
            # As much code does it; the error must not end with the `except`.
            with contextlib.suppress(Exception):
                call()
            await stream.send(b"x")

        return handle
"""


@pytest.mark.parametrize("how", ["module", "submodule", "early_name", "own_name", "policy"])
def test_a_call_fails_the_test_with_the_callers_line(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, how: str
) -> None:
    pytester.makepyfile(
        server=SERVER,
        test_it=f"""
        import pytest, server
        from server import handler, by_{how} as call

        @pytest.mark.harness(forbid_get_event_loop=True)
        async def test_it(harness):
            client = await (await harness.serve(handler(call))).connect()
            assert await client.receive() == b"x"

        async def test_allowed(harness):
            client = await (await harness.serve(handler(call))).connect()
            assert await client.receive() == b"x"
            assert server.early is server.asyncio.get_event_loop is server.ev.get_event_loop
        """,
    )
    result = run_pytest(f"--harness-backends={backend}", CELLS)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "asyncio.get_event_loop() called at server.py:*, and the test forbids that*",
            f"  *get_event_loop()* at *server.py:* in by_{how}: *",
            "Call asyncio.get_running_loop() in async code*",
        ]
    )
    report = result.stdout.str().partition("short test summary")[0]
    assert len(re.findall(r"get_event_loop\(\).* at server\.py:\d+ in by_", report)) == 1


@pytest.mark.parametrize("phase", ["setup", "call", "teardown"])
def test_every_phase_of_the_test_counts(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, phase: str
) -> None:
    lines = {
        "setup": "call(); yield",
        "call": "yield",
        "teardown": "yield; call()",
    }
    pytester.makepyfile(
        f"""
        import asyncio, contextlib, pytest

        def call():
            with contextlib.suppress(RuntimeError):
                asyncio.get_event_loop()

        @pytest.fixture
        async def fixture(harness):
            {lines[phase]}

        async def test_it(fixture):
            {"call()" if phase == "call" else "pass"}
        """
    )
    ini = ("-o", "harness_forbid_get_event_loop=true", "-W", "ignore::DeprecationWarning")
    result = run_pytest(f"--harness-backends={backend}", CELLS, *ini)
    expected = {"setup": {"errors": 1}, "call": {"failed": 1}}
    result.assert_outcomes(**expected.get(phase, {"passed": 1, "errors": 1}))
    result.stdout.fnmatch_lines(["  asyncio.get_event_loop() at * in call: asyncio.*"])


def test_the_tests_own_failure_comes_first(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        """
        import asyncio, contextlib, pytest

        @pytest.mark.harness(forbid_get_event_loop=True)
        async def test_it():
            with contextlib.suppress(RuntimeError):
                asyncio.get_event_loop()
            assert 1 == 2
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "-W", "ignore::DeprecationWarning")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *assert 1 == 2",
            "E *asyncio.get_event_loop() called at test_the_tests*.py:*, and the test forbids*",
            "E *get_event_loop() at *test_the_tests*",
        ]
    )


def test_the_libraries_of_event_loops_may_call_it(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    """And the marker on one test takes back the ini file's word."""
    pytester.makepyfile(
        """
        import anyio, asyncio, contextlib, pytest
        from anyio import to_thread

        async def test_internals(harness):
            async def handler(stream):
                await anyio.sleep(0)
                await stream.send(await to_thread.run_sync(lambda: b"x"))

            client = await (await harness.serve(handler)).connect()
            assert await client.receive() == b"x"
            if harness.backend != "trio":
                await asyncio.gather(asyncio.sleep(0), asyncio.to_thread(int))
                asyncio.Future()  # asks for the loop inside of asyncio

        # On trio it makes an event loop of asyncio's, which nobody closes.
        @pytest.mark.harness(forbid_get_event_loop=False, allow_leaks=["event loop"])
        async def test_allowed():
            with contextlib.suppress(RuntimeError):
                asyncio.get_event_loop()

        def test_not_of_the_harness():
            with contextlib.suppress(RuntimeError):
                asyncio.get_event_loop()
        """
    )
    ini = ("-o", "harness_forbid_get_event_loop=true", "-W", "ignore::DeprecationWarning")
    run_pytest(f"--harness-backends={backend}", CELLS, *ini).assert_outcomes(passed=3)


def test_a_module_that_is_imported_meanwhile_keeps_working(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makepyfile(
        late="from asyncio import get_event_loop",
        test_it="""
        import asyncio, pytest

        @pytest.mark.harness(forbid_get_event_loop=True, backends=["asyncio"])
        async def test_imports():
            import late

        @pytest.mark.harness(backends=["asyncio"])
        async def test_calls():
            import late
            assert late.get_event_loop() is asyncio.get_running_loop()

        @pytest.mark.harness(forbid_get_event_loop=True, backends=["asyncio"])
        async def test_forbidden():
            import late
            late.get_event_loop()
        """,
    )
    result = run_pytest()
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["  asyncio.get_event_loop() at *test_it.py:* in test_forbidden*"])


def test_it_is_true_or_false(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.harness(forbid_get_event_loop="yes")
        async def test_it(): ...
        """
    )
    result = run_pytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*::test_it: @pytest.mark.harness(forbid_get_event_loop=...) must be True or False*'yes'"]
    )
