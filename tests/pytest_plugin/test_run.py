"""What is no ``Exception`` leaves a step without an end of what runs the steps after it."""

from __future__ import annotations

import pytest
from blackbox import RunPytest

MODULE = """
    import anyio, asyncio, pytest

    @pytest.fixture(scope="module")
    async def shared(anyio_backend):
        yield
        print("shared is torn down")

    class Special(BaseException): ...

    async def in_a_group():
        async def child():
            raise Special("mine")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child)
            tasks.start_soon(child)

    async def special():
        raise Special("mine")

    def test_last():
        pass
"""

RAISED = {"in_a_group": "* Special: mine", "special": "E * *Special: mine"}


@pytest.mark.parametrize("how", RAISED)
def test_a_body_may_raise_anything(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, how: str
) -> None:
    pytester.makepyfile(
        MODULE
        + f"""
    @pytest.mark.harness
    async def test_it(shared):
        await {how}()

    @pytest.mark.harness
    async def test_next(shared):
        pass
    """
    )
    result = run_pytest(f"--harness-backends={backend}", "-s", "-W", "error")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines_random([RAISED[how].replace("Special", "*Special")])
    result.stdout.fnmatch_lines_random(["*raise Special(*", "*shared is torn down*"])
    result.stdout.no_fnmatch_line("*Interrupted*")
    result.stderr.no_fnmatch_line("*never retrieved*")


@pytest.mark.parametrize("how", RAISED)
@pytest.mark.parametrize("where", ["setup", "teardown"])
def test_a_fixture_may_raise_anything(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, how: str, where: str
) -> None:
    before, after = (f"await {how}()", "") if where == "setup" else ("", f"await {how}()")
    pytester.makepyfile(
        MODULE
        + f"""
    @pytest.fixture
    async def raising(shared, anyio_backend):
        {before}
        yield
        {after}

    @pytest.mark.harness
    async def test_it(raising):
        pass

    @pytest.mark.harness
    async def test_next(shared):
        pass
    """
    )
    result = run_pytest(f"--harness-backends={backend}", "-s", "-W", "error")
    result.assert_outcomes(passed=2 if where == "setup" else 3, errors=1)
    result.stdout.fnmatch_lines_random(["*raise Special(*", "*shared is torn down*"])
    result.stdout.no_fnmatch_line("*Interrupted*")
    result.stderr.no_fnmatch_line("*never retrieved*")


def test_a_modules_fixture_that_raises_anything_is_the_same_for_all_its_tests(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        MODULE
        + """
    @pytest.fixture(scope="module")
    async def raising(anyio_backend):
        await special()

    @pytest.mark.harness
    async def test_it(raising):
        pass

    @pytest.mark.harness
    async def test_next(raising):
        pass
    """
    )
    result = run_pytest(f"--harness-backends={backend}", "-W", "error")
    result.assert_outcomes(passed=1, errors=2)
    assert sum("Special: mine" in line for line in result.outlines if line[0:2] == "E ") == 2
    result.stdout.no_fnmatch_line("*Interrupted*")


def test_no_error_of_several_teardowns_is_lost(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        MODULE
        + """
    @pytest.fixture
    async def outer(anyio_backend):
        yield
        raise LookupError("of the outer one")

    @pytest.fixture
    async def inner(outer):
        yield
        await special()

    @pytest.fixture
    async def innermost(inner):
        yield
        raise Special("of the innermost")

    @pytest.mark.harness
    async def test_it(innermost):
        pass
    """
    )
    result = run_pytest(f"--harness-backends={backend}", "-W", "error")
    result.assert_outcomes(passed=2, errors=1)
    for line in ("of the outer one", "Special: mine", "of the innermost"):
        result.stdout.fnmatch_lines_random([f"*{line}*"])
    result.stdout.no_fnmatch_line("*Interrupted*")


@pytest.mark.parametrize("where", ["body", "setup", "teardown"])
def test_exit_ends_the_run_after_teardown(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, where: str
) -> None:
    lines = dict.fromkeys(("setup", "body", "teardown"), "pass")
    lines[where] = 'pytest.exit("enough", returncode=7)'
    pytester.makepyfile(
        MODULE
        + f"""
    @pytest.fixture
    async def exiting(shared, anyio_backend):
        {lines["setup"]}
        yield
        {lines["teardown"]}

    @pytest.mark.harness
    async def test_it(exiting):
        {lines["body"]}
    """
    )
    result = run_pytest(f"--harness-backends={backend}", "-s")
    assert result.ret == 7
    result.stdout.fnmatch_lines(["*shared is torn down*", "*!!! *Exit: enough !!!*"])


@pytest.mark.parametrize("where", ["body", "setup", "teardown"])
def test_a_cancelled_task_that_is_waited_for_cancels_nothing_else(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, where: str
) -> None:
    if backend == "trio":
        pytest.skip("a task of trio's cannot be waited for")
    lines = dict.fromkeys(("setup", "body", "teardown"), "pass")
    lines[where] = "await cancelled()"
    pytester.makepyfile(
        MODULE
        + f"""
    async def cancelled():
        task = asyncio.create_task(asyncio.sleep(1000))
        task.cancel()
        await task

    @pytest.fixture
    async def waiting(shared, anyio_backend):
        {lines["setup"]}
        yield
        {lines["teardown"]}

    @pytest.mark.harness
    async def test_it(waiting):
        {lines["body"]}

    @pytest.mark.harness
    async def test_next(shared):
        pass
    """
    )
    result = run_pytest(f"--harness-backends={backend}", "-s", "-W", "error")
    if where == "body":
        result.assert_outcomes(passed=2, failed=1)
    else:
        result.assert_outcomes(passed=3 if where == "teardown" else 2, errors=1)
    result.stdout.fnmatch_lines(
        ["*await task", "E * what this waited for was cancelled (*CancelledError)"]
    )
    result.stdout.fnmatch_lines(["*shared is torn down*"])


ENDS_IN = {
    "a fixture's child": """
    @pytest.fixture
    async def raising(shared, anyio_backend):
        async def child():
            await anyio.lowlevel.checkpoint()
            raise FINAL("of a child")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child)
            yield
    """,
    "a task": """
    @pytest.fixture
    async def raising(shared, anyio_backend):
        async def child():
            raise FINAL("of a child")

        asyncio.create_task(child())
    """,
    "a callback": """
    @pytest.fixture
    async def raising(shared, anyio_backend):
        def callback():
            raise FINAL("of a child")

        asyncio.get_running_loop().call_later(0.01, callback)
    """,
}


@pytest.mark.parametrize("where", ENDS_IN)
@pytest.mark.parametrize("final", ["KeyboardInterrupt", "SystemExit"])
def test_what_ends_the_run_may_come_from_anywhere_in_the_event_loop(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, where: str, final: str
) -> None:
    if backend == "trio" and where != "a fixture's child":
        pytest.skip("asyncio's tasks and callbacks")
    pytester.makepyfile(
        MODULE.replace("def test_last(", "def test_first(")
        + ENDS_IN[where].replace("FINAL", final)
        + """
    @pytest.fixture
    async def outer(shared, anyio_backend):
        yield
        print("outer is torn down")

    @pytest.mark.harness
    async def test_it(outer, raising):
        await anyio.sleep_forever()

    @pytest.mark.harness
    async def test_next(shared):
        pass
    """
    )
    result = run_pytest(f"--harness-backends={backend}", "-s")
    result.stdout.fnmatch_lines_random(["*outer is torn down*", "*shared is torn down*"])
    if final == "KeyboardInterrupt":
        assert result.ret == pytest.ExitCode.INTERRUPTED
        result.stdout.fnmatch_lines(["*! KeyboardInterrupt: of a child*"])
    else:
        outcomes = result.parseoutcomes()
        assert outcomes.pop("passed") == 2
        assert sum(outcomes.values()) == 1
        result.stdout.fnmatch_lines(["E * SystemExit: of a child"])
    result.stdout.no_fnmatch_line("*Interrupted*")
    result.stderr.no_fnmatch_line("*")


IN_GROUPS = {
    "the body's": """
    @pytest.mark.harness
    async def test_it(shared):
        async with anyio.create_task_group() as outer:
            async with anyio.create_task_group() as tasks:
                OTHER
                tasks.start_soon(child)
    """,
    "a handler's": """
    async def handler(stream):
        async with anyio.create_task_group() as outer:
            async with anyio.create_task_group() as tasks:
                OTHER
                tasks.start_soon(child)

    @pytest.mark.harness(transports=["memory"])
    async def test_it(shared, harness):
        async with await (await harness.serve(handler)).connect():
            await anyio.sleep_forever()
    """,
    "a fixture's": """
    @pytest.fixture
    async def group(shared, anyio_backend):
        async with anyio.create_task_group() as outer:
            async with anyio.create_task_group() as tasks:
                OTHER
                tasks.start_soon(child)
                yield

    @pytest.mark.harness
    async def test_it(group):
        await anyio.sleep_forever()
    """,
}


@pytest.mark.parametrize("whose", IN_GROUPS)
@pytest.mark.parametrize("outcome", ["skip", "xfail", "fail"])
def test_an_outcome_alone_in_a_group_means_what_it_means_in_the_body(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, whose: str, outcome: str
) -> None:
    pytester.makepyfile(
        MODULE
        + IN_GROUPS[whose].replace("OTHER", "pass")
        + f"""
    async def child():
        await anyio.lowlevel.checkpoint()
        pytest.{outcome}("because of this")
    """
    )
    result = run_pytest(f"--harness-backends={backend}", "-rsx", "-W", "error")
    outcomes = result.parseoutcomes()
    assert outcomes.pop("passed") == 1
    expected = {"skip": ["skipped"], "xfail": ["xfailed"], "fail": ["failed", "errors"]}[outcome]
    [(found, number)] = outcomes.items()
    assert (found in expected, number) == (True, 1)
    result.stdout.fnmatch_lines(["*because of this*"])
    result.stdout.no_fnmatch_line("*ExceptionGroup*")


@pytest.mark.parametrize("whose", IN_GROUPS)
@pytest.mark.parametrize("final", ["KeyboardInterrupt", "pytest.exit"])
@pytest.mark.parametrize("other", ["alone", "in company"])
def test_what_ends_the_run_does_so_in_a_group(
    pytester: pytest.Pytester,
    run_pytest: RunPytest,
    backend: str,
    whose: str,
    final: str,
    other: str,
) -> None:
    company = "tasks.start_soon(failing)" if other == "in company" else "pass"
    raising = "pytest.exit" if final == "pytest.exit" else f"raise {final}"
    pytester.makepyfile(
        MODULE
        + IN_GROUPS[whose].replace("OTHER", company)
        + f"""
    async def child():
        try:
            await anyio.sleep_forever() if {other == "in company"} else anyio.sleep(0)
        finally:
            {raising}("of a child")

    async def failing():
        raise LookupError("of another child")
    """
    )
    result = run_pytest(f"--harness-backends={backend}", "-s")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*shared is torn down*"])
    result.stdout.fnmatch_lines(["*! *of a child*"])
    if other == "in company":
        result.stdout.fnmatch_lines(["*(besides: LookupError('of another child'))*"])
    result.stdout.no_fnmatch_line("*ExceptionGroup*")
    result.stderr.no_fnmatch_line("*")


def test_ctrl_c_in_virtual_time_is_raised_once(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        """
        import anyio, pytest

        @pytest.mark.harness(virtual_time=True, transports=["memory"])
        async def test_it(harness):
            async def child():
                await anyio.sleep(100)
                raise KeyboardInterrupt("of a child")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(child)
        """
    )
    result = run_pytest(f"--harness-backends={backend}")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*! KeyboardInterrupt: of a child*"])
    result.stderr.no_fnmatch_line("*")


def test_a_second_ctrl_c_in_the_teardown_is_told_and_ends_the_run_cleanly(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        MODULE
        + """
    @pytest.fixture
    async def raising(shared, anyio_backend):
        yield
        raise KeyboardInterrupt("the second")

    @pytest.mark.harness
    async def test_it(raising):
        raise KeyboardInterrupt("the first")
    """
    )
    result = run_pytest(f"--harness-backends={backend}", "-s")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*shared is torn down*", "*! KeyboardInterrupt: the first*"])
    result.stderr.fnmatch_lines(["*the second*"])
    result.stderr.no_fnmatch_line("*Traceback*")
