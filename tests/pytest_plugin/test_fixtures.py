"""What happens to an async fixture while tests run, and whom it concerns."""

from __future__ import annotations

import pytest
from blackbox import RunPytest

GROUP = """
    import anyio, contextvars, pytest
    from harness import open_harness

    async def boom():
        raise LookupError("the child crashed")

    @pytest.fixture(scope=SCOPE)
    async def group(anyio_backend):
        async with anyio.create_task_group() as tasks:
            yield tasks
        print("the group was left")
"""


def run(pytester: pytest.Pytester, run_pytest: RunPytest, backend: str) -> pytest.RunResult:
    return run_pytest(
        f"--harness-backends={backend}", "--harness-transports=memory", "-rA", "-W", "error"
    )


def test_a_child_of_a_fixtures_task_group_fails_the_test_it_crashes_in(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        GROUP.replace("SCOPE", "'function'")
        + """
    @pytest.fixture
    async def outermost():
        yield
        print("outermost")

    async def test_during(outermost, group, harness):
        group.start_soon(boom)
        await anyio.sleep_forever()

    async def test_just_after(outermost, group, harness):
        group.start_soon(boom)

    async def test_in_teardown(outermost, group, harness):
        async def late():
            try:
                await anyio.sleep_forever()
            finally:
                raise LookupError("the child crashed")

        group.start_soon(late)
        await harness.settle()
        group.cancel_scope.cancel()

    async def test_cancelled_by_the_test(outermost, group, harness):
        group.start_soon(anyio.sleep_forever)
        group.cancel_scope.cancel()

    async def test_several(outermost, group, harness):
        group.start_soon(boom)
        group.start_soon(boom)
        await anyio.sleep_forever()

    async def test_next(harness): ...
    """
    )
    result = run(pytester, run_pytest, backend)
    result.assert_outcomes(passed=2, failed=4)
    assert result.stdout.str().count("outermost\n") >= 5
    result.stdout.fnmatch_lines(
        [
            '>*raise LookupError("the child crashed")',
            "E *LookupError: the child crashed",
            "E *(raised in the fixture 'group')",
        ]
    )
    result.stdout.no_fnmatch_line("*CancelledError*")
    result.stdout.no_fnmatch_line("*trio.Cancelled*")


def test_a_wider_fixture_that_has_ended_is_the_error_of_the_tests_that_use_it(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        test_it=GROUP.replace("SCOPE", "'module'")
        + """
    async def test_before(group, harness): ...

    async def test_crash(group, harness):
        group.start_soon(boom)
        await anyio.sleep_forever()

    async def test_after(group, harness):
        await anyio.sleep_forever()

    async def test_after_that(group, harness):
        await anyio.sleep_forever()

    async def test_innocent(harness):
        await harness.settle()
    """
    )
    result = run(pytester, run_pytest, backend)
    result.assert_outcomes(passed=2, failed=1, errors=2)
    result.stdout.fnmatch_lines(
        [
            "E *FixtureEnded: the fixture 'group' has ended before this test",
            "* the fixture: test_it.py:7",
            "* the cause: LookupError('the child crashed')",
            "* raised at test_it.py:5 in boom: raise LookupError(*)",
            "* A task group or cancel scope that it holds open over its yield was cancelled*",
            "* Mend the cause, or *",
            "* so that each test has its own",
        ],
        consecutive=True,
    )
    assert all(len(line) <= 100 for line in result.outlines if line.startswith("E "))


SHARED = """
    import anyio, pytest
    from harness import open_harness

    async def pump(go, *, task_status=anyio.TASK_STATUS_IGNORED):
        task_status.started()
        await go.wait()
        raise LookupError("the pump broke")

    async def handler(stream):
        async for chunk in stream:
            if chunk == b"crash":
                raise OSError("one connection")
            await stream.send(chunk)

    class Shared:
        def __init__(self, harness, server):
            self.harness, self.server, self.go = harness, server, anyio.Event()

        async def ask(self, words=b"hello"):
            async with await self.server.connect() as client:
                await client.send(words)
                return await client.receive()

    @pytest.fixture(scope="module")
    async def shared(anyio_backend):
        async with open_harness(transport="memory") as harness:
            shared = Shared(harness, await harness.serve(handler))
            START
            yield shared

    async def test_before(shared, harness):
        assert await shared.ask() == b"hello"
"""
STARTS = {
    "start": "await harness.start(pump, shared.go)",
    "start_soon": "harness.task_group.start_soon(pump, shared.go)",
    "create_task": "harness.task_group.create_task(pump(shared.go), name='pump')",
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_a_modules_harness_that_has_lost_a_task_is_the_error_of_the_tests_that_use_it(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, start: str
) -> None:
    pytester.makepyfile(
        test_it=SHARED.replace("START", start)
        + """
    async def test_crash(shared, harness):
        shared.go.set()
        await anyio.sleep_forever()

    async def test_after(shared, harness):
        await anyio.sleep_forever()

    async def test_after_that(shared, harness):
        await anyio.sleep_forever()

    async def test_innocent(harness):
        await harness.settle()
    """
    )
    result = run(pytester, run_pytest, backend)
    result.assert_outcomes(passed=2, failed=1, errors=2)
    lines = [
        "E *FixtureEnded: the fixture 'shared' has lost a task before this test",
        "* the fixture: test_it.py:24",
        "* the task: the background task '*pump'",
        "* the cause: LookupError('the pump broke')",
        "* raised at test_it.py:7 in pump: raise LookupError(*)",
        "* It has started that task in its setup, and nothing starts it again.",
        "* Mend the cause, or *",
        "* scope, so that each test has its own",
    ]
    result.stdout.fnmatch_lines(lines, consecutive=True)
    assert all(len(line) <= 100 for line in result.outlines if line.startswith("E "))
    assert result.stdout.str().count("(raised in the background task ") >= 1


def test_a_task_of_a_modules_harness_that_is_lost_meanwhile_is_the_error_of_the_next_that_uses_it(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    """The test that runs when it is lost, and does not use it, is not blamed."""
    pytester.makepyfile(
        SHARED.replace("START", "kept.append(shared); " + STARTS["start"])
        + """
    kept = []

    async def test_innocent(harness):
        kept[0].go.set()
        await harness.settle()

    async def test_after(shared, harness): ...

    async def test_after_that(shared, harness): ...
    """
    )
    result = run(pytester, run_pytest, backend)
    result.assert_outcomes(passed=2, errors=2)
    assert result.stdout.str().count("the cause: LookupError('the pump broke')") == 2


def test_what_a_test_has_started_itself_or_one_connection_is_not_the_end_of_a_modules_harness(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        SHARED.replace("START", "")
        + """
    async def test_crash_of_its_own(shared, harness):
        await shared.harness.start(pump, shared.go)
        shared.go.set()
        await anyio.sleep_forever()

    async def test_crash_of_a_handler(shared, harness):
        await shared.ask(b"crash")

    async def test_after(shared, harness):
        assert await shared.ask() == b"hello"
    """
    )
    result = run(pytester, run_pytest, backend)
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(
        ["E *LookupError: the pump broke", "E *OSError: one connection"],
    )


def test_the_next_parameter_gets_a_fixture_of_its_own(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    """One that has ended is not what the tests with another parameter will use."""
    pytester.makepyfile(
        GROUP.replace("SCOPE", "'module', params=[1, 2]").replace(
            "group(anyio_backend)", "group(anyio_backend, request)"
        )
        + """
    @pytest.fixture(scope="module")
    async def above(group):
        yield group

    async def test_crash(above, harness, request):
        if request.node.callspec.params["group"] == 1:
            above.start_soon(boom)
            await anyio.sleep_forever()

    async def test_after(above, harness): ...
    """
    )
    result = run(pytester, run_pytest, backend)
    result.assert_outcomes(passed=2, failed=1, errors=1)


@pytest.mark.parametrize(
    "ending", ["raise OSError('of p')", "group.start_soon(crash)", "pytest.fail('of p')"]
)
def test_the_end_of_a_wider_fixture_is_not_of_the_test_that_pytest_runs_it_in(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, ending: str
) -> None:
    fixture = f"""
        import anyio, pytest

        async def crash():
            raise OSError("of p")

        @pytest.fixture(scope="module", params=PARAMS)
        async def server(request, anyio_backend):
            async with anyio.create_task_group() as group:
                yield
                {ending}

        async def test_uses_it(server, harness): ...
    """
    pytester.makepyfile(
        test_two=fixture.replace("PARAMS", "[1, 2]"),
        test_one=fixture.replace("PARAMS", "[1]")
        + """
        async def test_does_not(harness): ...
        """,
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory")
    result.assert_outcomes(passed=3, errors=2)
    cell = f"{backend}-memory"
    for meets, made_for in (
        (f"test_one.py::test_does_not[[]{cell}[]]", f"test_one.py::test_uses_it[[]1-{cell}[]]"),
        (f"test_two.py::test_uses_it[[]2-{cell}[]]", f"test_two.py::test_uses_it[[]1-{cell}[]]"),
    ):
        result.stdout.fnmatch_lines(
            [
                "*(from the teardown of the module-scoped fixture 'server' (test_*.py:*),",
                f"*made for an earlier test, {made_for};",
                f"*{meets} only happens to be where pytest runs it)",
            ]
        )


def test_two_crashes_at_once_are_one_failure(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        GROUP.replace("SCOPE", "'function'")
        + """
    @pytest.mark.harness(transports=["tcp"])
    async def test_it(harness):
        go = anyio.Event()

        async def crashing(stream):
            await go.wait()
            raise LookupError("crashed")

        server = await harness.serve(crashing)
        for _ in range(2):
            await server.connect()
        await server.wait_connections(2)
        await harness.settle()
        go.set()
        await anyio.sleep_forever()
    """
    )
    result = run_pytest(f"--harness-backends={backend}", "-W", "error")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*several things went wrong in this test (2 sub-exceptions)*"])


def test_a_crash_between_two_tests_is_nobody_elses_failure(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    """The child crashes while a test runs that has nothing to do with its group."""
    pytester.makepyfile(
        GROUP.replace("SCOPE", "'module'")
        + """
    async def wait_and_crash(event):
        await event.wait()
        raise LookupError("the child crashed")

    events = []

    async def test_begins(group, harness):
        events.append(anyio.Event())
        group.start_soon(wait_and_crash, events[0])

    async def test_innocent(harness):
        events[0].set()
        await harness.settle()
        await anyio.lowlevel.checkpoint()

    async def test_after(group, harness):
        await anyio.sleep_forever()
    """
    )
    result = run(pytester, run_pytest, backend)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["E *LookupError: the child crashed"])


def test_a_server_of_a_wider_scope_crashes_for_those_who_use_it(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        GROUP.replace("SCOPE", "'module'")
        + """
    events = []

    async def crashing(stream):
        await stream.receive()
        await events[0].wait()
        raise LookupError("the handler crashed")

    @pytest.fixture(scope="module")
    async def server(anyio_backend):
        async with open_harness(transport="memory") as opened:
            yield await opened.serve(crashing)

    async def test_begins(server, harness):
        events.append(anyio.Event())
        events.append(client := await server.connect())
        await client.send(b"x")

    async def test_innocent(harness):
        events[0].set()
        await harness.settle()
        await anyio.lowlevel.checkpoint()

    async def test_told(server, harness):
        await anyio.sleep_forever()

    async def test_the_server_goes_on(server, harness):
        await (await server.connect()).send(b"x")
    """
    )
    result = run(pytester, run_pytest, backend)
    result.stdout.fnmatch_lines(["E *LookupError: the handler crashed"])
    result.stdout.fnmatch_lines(["*ERROR *::test_told*"])
    result.stdout.fnmatch_lines(["*PASSED *::test_innocent*"])


def test_context_variables_of_fixtures(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    """Seen by later fixtures, the test and its handlers; gone when the fixture is torn down."""
    pytester.makepyfile(
        GROUP.replace("SCOPE", "'function'")
        + """
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    @pytest.fixture
    async def outer():
        token = variable.set("outer")
        yield
        assert variable.get() == "outer"
        variable.reset(token)

    @pytest.fixture
    async def inner(outer):
        assert variable.get() == "outer"
        variable.set("inner")
        yield
        assert variable.get() == "inner"

    @pytest.fixture
    async def returning(inner):
        assert variable.get() == "inner"

    async def handler(stream):
        seen.append(variable.get())

    async def test_set(returning, harness):
        assert variable.get() == "inner"
        await (await harness.serve(handler)).connect()
        await harness.settle()
        assert seen == ["inner"]

    async def test_unset(harness):
        assert variable.get() == "unset"
    """
    )
    run(pytester, run_pytest, backend).assert_outcomes(passed=2)


def test_what_a_fixture_does_wrong_is_said(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        test_it=GROUP.replace("SCOPE", "'function'")
        + """
    @pytest.fixture
    async def yields_twice():
        yield
        yield "again"

    @pytest.fixture
    async def yields_never():
        if False:
            yield

    async def test_twice(yields_twice, harness): ...

    async def test_never(yields_never, harness): ...

    @pytest.fixture
    async def leaves_a_scope_open():
        anyio.CancelScope().__enter__()
        yield

    async def test_scope_of_a_fixture(leaves_a_scope_open, harness): ...

    async def test_scope(harness):
        anyio.CancelScope().__enter__()

    async def test_group(harness):
        group = await anyio.create_task_group().__aenter__()
        group.start_soon(anyio.sleep_forever)

    async def test_next(harness): ...
    """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory", "-rA")
    result.assert_outcomes(passed=3, failed=2, errors=3)
    line = 1 + (pytester.path / "test_it.py").read_text().splitlines().index('    yield "again"')
    result.stdout.fnmatch_lines(
        [
            "E *the fixture 'yields_twice' has a second yield, "
            f'at test_it.py:{line} in yields_twice: yield "again"'
        ]
    )
    result.stdout.fnmatch_lines(["E *the fixture 'yields_never' did not yield a value"])
    result.stdout.fnmatch_lines(["E *a cancel scope or task group was entered and never left: *"])
    result.stdout.fnmatch_lines(["PASSED *::test_next*"])


@pytest.mark.parametrize("where", ["a handler", "a child", "a fixture", "a fixtures child"])
def test_outcomes_mean_what_they_mean_in_the_body(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, where: str
) -> None:
    """``pytest.skip``, ``fail``, ``xfail`` and ``exit``, raised where a crash would be."""
    bodies = {
        "a handler": "await (await harness.serve(raising)).connect()",
        "a child": "harness.task_group.start_soon(raising, None)",
        "a fixture": "",
        "a fixtures child": "group.start_soon(raising, None)",
    }
    tests = "".join(
        f"""
    async def test_{name}(group, harness{", raised" if where == "a fixture" else ""}):
        global outcome
        outcome = pytest.{name}
        {bodies[where]}
        await anyio.sleep_forever()
        """
        for name in ("skip", "fail", "xfail", "exit")
    )
    pytester.makepyfile(
        GROUP.replace("SCOPE", "'function'")
        + """
    async def raising(stream):
        outcome("said so")

    @pytest.fixture
    async def raised(request):
        getattr(pytest, request.node.originalname.partition("_")[2])("said so")
        yield
    """
        + tests
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory", "-rA")
    failed = {"errors": 1} if where == "a fixture" else {"failed": 1}
    result.assert_outcomes(skipped=1, xfailed=1, **failed)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*Exit: said so*"])


def test_what_a_callback_raises_fails_the_test(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        f"""
        import anyio, asyncio, pytest

        def callback():
            raise LookupError("the callback crashed")

        def call_soon(function):
            if {backend == "trio"}:
                import trio
                trio.lowlevel.current_trio_token().run_sync_soon(function)
            else:
                asyncio.get_running_loop().call_soon(function)

        @pytest.fixture
        async def outer(anyio_backend):
            yield
            await anyio.lowlevel.checkpoint()
            print("torn down")

        async def test_promptly(outer, harness):
            call_soon(callback)
            await anyio.sleep_forever()

        async def test_next(harness): ...

        @pytest.mark.harness(catch_loop_exceptions=False)
        async def test_not_caught(outer, harness, caplog):
            call_soon(callback)
            await harness.settle()
            assert "Exception in callback" in caplog.text
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory", "-s")
    result.assert_outcomes(passed=2, failed=1)
    assert result.stdout.str().count("torn down") == 2
    raised = [line for line in result.outlines if line.startswith("E ")]
    assert raised[0].endswith("LookupError: the callback crashed")
    result.stdout.fnmatch_lines(
        ["*raise LookupError(*", "E *raised in the event loop: Exception *"]
    )
    result.stdout.no_fnmatch_line("*Cancelled*")
