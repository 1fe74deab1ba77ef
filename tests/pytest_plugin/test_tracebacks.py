"""A failure's report is about the code of the user: it begins there, and has nothing above it."""

from __future__ import annotations

import re

import pytest
from blackbox import RunPytest

SERVER = """
    from collections.abc import Awaitable

    async def handle(stream):
        await stream.receive()
        raise LookupError("the handler crashed")

    def not_async(stream) -> Awaitable[None]:
        return 42

    async def quiet(stream):
        await stream.receive()

    async def both(harness):
        async def child():
            raise LookupError("the child crashed")

        harness.task_group.start_soon(child)
        harness.task_group.start_soon(child)
        await (await harness.pair())[0].receive()

    async def start(harness):
        return await harness.serve(42)
"""

TESTS = """
    import pytest, server

    async def go(harness, handler=server.handle):
        client = await (await harness.serve(handler)).connect()
        await client.send(b"x")
        await client.receive()

    async def test_body(harness):
        await go(harness)

    @pytest.fixture
    async def prepared(harness):
        await go(harness)
        yield

    async def test_setup(prepared): pass

    @pytest.fixture
    async def returned(harness):
        await go(harness)

    async def test_coroutine(returned): pass

    @pytest.fixture
    async def torn_down(harness):
        yield
        await go(harness)

    async def test_teardown(torn_down): pass

    async def test_not_raised(harness):
        await harness.serve(server.quiet, expect=KeyError, expect_required=True)

    async def test_not_async(harness):
        await go(harness, server.not_async)

    async def test_argument(harness):
        await server.start(harness)

    async def test_several(harness):
        await server.both(harness)
"""

CRASHED = (
    r"server\.py:\d+: in handle",
    r"    raise LookupError\(",
    "E +LookupError: the handler crashed",
)

#: The first lines of each test's report with ``--tb=short``.
FIRST_LINES = {
    "test_body": CRASHED,
    "test_setup": CRASHED,
    "test_coroutine": CRASHED,
    "test_teardown": CRASHED,
    "test_not_raised": (
        "E +harness.server.NotRaised: a handler of <Server 'quiet'",
        r" +It was served at test_\w+.py:\d+ in test_not_raised: await harness.serve\(",
    ),
    "test_not_async": (r"E +TypeError: the handler of .* write `async def` \(server\.py:7\)",),
    "test_argument": (
        r"test_\w+.py:\d+: in test_argument",
        "    await server.start",
        r"server\.py:\d+: in start",
        "    return await harness.serve",
        "E +TypeError: serve",
    ),
    "test_several": (
        r"  [+|].*Group.*several things went wrong.*",
        r"  \+-\+-+ 1 -+",
        r"    \| Traceback \(most recent call last\):",
        r'    \|   File ".*server\.py", line \d+, in child',
    ),
}

#: A project's own hooks stand in the traceback between those of plugins.
HOOKS = """
    import pytest

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(item):
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(fixturedef, request):
        return (yield)
"""

MACHINERY = re.compile(
    r"(^|[/\\ \"])(harness|anyio|trio|asyncio|pluggy|conftest\.py)[/\\:][\w/\\]*"
)


@pytest.mark.parametrize("hooks", ["", HOOKS], ids=["alone", "between hooks"])
def test_the_report_begins_in_the_users_code(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, hooks: str
) -> None:
    pytester.makepyfile(server=SERVER, test_it=TESTS, conftest=hooks)
    style = "--tb=short" if hooks else "--tb=auto"
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory", style)
    result.assert_outcomes(passed=1, failed=5, errors=3)
    reports = _reports(result.stdout.lines)
    for name, first_lines in FIRST_LINES.items():
        report = reports[name]
        assert not [line for line in report if MACHINERY.search(line)], "\n".join(report)
        if style == "--tb=short":
            for line, expected in zip(report, first_lines, strict=False):
                assert re.match(expected, line), "\n".join(report)
    result.stdout.no_fnmatch_line("*traceback entries are hidden*")
    summary = [line for line in result.stdout.lines if re.match("(FAILED|ERROR) test", line)]
    assert len([line for line in summary if " - " in line]) == 8


def test_all_of_a_traceback_can_be_seen(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(server=SERVER, test_it=TESTS)
    result = run_pytest(
        f"--harness-backends={backend}",
        *("--harness-transports=memory", "--full-trace", "-k", "test_body"),
    )
    result.stdout.fnmatch_lines(["*harness?pytest_plugin?bodies.py*", "*server.py:*"])


def test_code_that_the_harness_does_not_run(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makepyfile(
        library="def fail(): raise LookupError('it failed')",
        test_it="""
        import pytest
        from library import fail

        test_imported = fail

        @pytest.fixture
        def imported(): return fail()

        imported = pytest.fixture(fail, name="imported")

        def test_fixture(imported): pass
        """,
    )
    result = run_pytest("--tb=short")
    result.assert_outcomes(failed=1, errors=1)
    assert not [line for line in result.stdout.lines if re.search(r"harness/\w+", line)]


def test_a_scope_left_open_is_told_once_and_with_its_line(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        """
        import anyio, pytest

        async def test_scope(harness):
            anyio.CancelScope().__enter__()

        @pytest.fixture
        async def held(harness):
            group = anyio.create_task_group()
            await group.__aenter__()
            yield

        async def test_fixture(held): pass
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory")
    result.assert_outcomes(passed=1, failed=1, errors=1)
    reports = _reports(result.stdout.lines)
    for name, line in (
        ("test_scope", "4 in test_scope: anyio.CancelScope().__enter__()"),
        ("test_fixture", "9 in held: await group.__aenter__()"),
    ):
        said, where, *rest = reports[name]
        assert re.match(r"E +\S+: a cancel scope or task group was entered and never left", said)
        assert where.strip().startswith("It was entered at ")
        assert where.endswith(f".py:{line}")
        assert not [each for each in rest if "a cancel scope or task group" in each]


def test_start_of_what_never_says_that_it_has_started(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        background="""
        import anyio

        async def silent(*, task_status):
            await anyio.sleep(0)

        async def failing(*, task_status):
            await anyio.sleep(0)
            raise LookupError("no such thing")
        """,
        test_it="""
        import background

        async def test_start(harness):
            await harness.start(background.silent)

        async def test_named(harness):
            await harness.task_group.start(background.silent, name="the queue")

        async def test_failing(harness):
            await harness.start(background.failing)
        """,
    )
    result = run_pytest(
        f"--harness-backends={backend}", "--harness-transports=memory", "--tb=short"
    )
    result.assert_outcomes(failed=3)
    reports = _reports(result.stdout.lines)
    for name, called in (("test_start", "'silent'"), ("test_named", "'the queue'")):
        where, source, error = reports[name]
        assert re.match(rf"test_it\.py:\d+: in {name}", where)
        assert ".start(background.silent" in source
        assert re.match(
            rf"E +RuntimeError: {called} \(background\.py:3\) .*task_status\.started\(\)", error
        )
    assert [line.strip() for line in reports["test_failing"]] == [
        "test_it.py:10: in test_failing",
        "await harness.start(background.failing)",
        "background.py:8: in failing",
        'raise LookupError("no such thing")',
        "E   LookupError: no such thing",
    ]


def _reports(lines: list[str]) -> dict[str, list[str]]:
    """What stands below the lines with the names of the tests, but for marks below the source."""
    reports: dict[str, list[str]] = {}
    report: list[str] = []
    for line in lines:
        heading = re.match(r"_+ .*?(test_\w+)\[\S+\] _+$", line)
        if heading:
            report = reports[heading[1]] = []
        elif line.startswith("="):
            report = []
        elif line.strip(" ^~"):
            report.append(line)
    return reports


def test_other_plugins_see_the_report_as_it_is_shown(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makeconftest(
        """
        import pytest

        @pytest.hookimpl(wrapper=True, tryfirst=True)
        def pytest_runtest_makereport(item, call):
            report = yield
            if report.when == "call":
                print(f"seen: {report.longrepr}")
            return report
        """
    )
    pytester.makepyfile(
        test_it="""
        import unittest

        async def handle(stream):
            await stream.receive()

        async def test_not_raised(harness):
            await harness.serve(handle, expect=ValueError, expect_required=True)

        async def test_skipped(harness):
            from harness import adapters
            raise unittest.SkipTest("not here")
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory", "-s")
    result.assert_outcomes(failed=1, skipped=1)
    seen = [line for line in result.outlines if "seen: " in line]
    assert "seen: ('" in seen[1]
    assert "test_it.py', " in seen[1]
    assert "server.py" not in seen[0]
    assert "a handler of <Server 'handle'" in seen[0]
