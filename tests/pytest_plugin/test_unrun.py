"""Async tests and async fixtures that nothing runs."""

from __future__ import annotations

import pytest
from blackbox import RunPytest, skip_without

WARNINGS = ("-W", "ignore::pytest.PytestWarning", "-W", "ignore:coroutine:RuntimeWarning")


def test_an_async_test_that_nothing_runs_says_what_to_write(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makepyfile(
        """
        async def test_plain(): ...

        class TestClass:
            async def test_method(self): ...
        """
    )
    result = run_pytest()
    result.assert_outcomes(failed=2)
    cure = (
        "is an async test that nothing runs. Add the fixture `harness`, @pytest.mark.harness or "
        "@pytest.mark.anyio, or set `anyio_mode = auto` in the ini file"
    )
    name = "test_an_async_test_that_nothing_runs_says_what_to_write.py"
    assert f"{name}::test_plain ({name}:1) {cure}\n" in result.stdout.str()
    assert f"{name}::TestClass::test_method ({name}:4) {cure}\n" in result.stdout.str()
    result.stdout.no_fnmatch_line("*natively supported*")


@pytest.mark.parametrize(
    "cure", ["harness", "@pytest.mark.harness", "@pytest.mark.anyio", "anyio_mode = auto"]
)
def test_each_cure_that_is_named_is_one(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, cure: str
) -> None:
    marker = cure if cure.startswith("@") else ""
    pytester.makepyfile(
        f"""
        import pytest, sniffio
        {marker}
        async def test_it({"harness" if cure == "harness" else ""}):
            assert sniffio.current_async_library()
        """
    )
    if "mode" in cure:
        pytester.makeini(f"[pytest]\n{cure}")
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory")
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] >= 1


def test_tests_that_no_plugin_could_run(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytester.makepyfile(
        """
        import pytest, unittest

        @pytest.mark.harness
        async def test_yields():
            yield

        def wrapped():
            async def inner(): ...
            return inner()

        def test_hidden():
            return wrapped()

        class TestCase(unittest.TestCase):
            async def test_case(self):
                raise AssertionError("is never raised")

        class TestIsolated(unittest.IsolatedAsyncioTestCase):
            async def test_isolated(self): ...

        class TestOfALibrary(unittest.TestCase):
            def _callTestMethod(self, method):
                import asyncio
                asyncio.run(method())

            async def test_of_a_library(self): ...
        """,
    )
    pytester.makeconftest(
        """
        import pytest

        def pytest_collection_modifyitems(items):
            for item in items:
                if item.name == "test_late":
                    item.add_marker(pytest.mark.harness)
        """
    )
    pytester.makepyfile(test_late="async def test_late(): ...")
    result = run_pytest(*WARNINGS)
    result.assert_outcomes(failed=4, passed=2)
    result.stdout.fnmatch_lines_random(
        [
            "*::test_yields (*:3) is an async test that nothing runs: it has a `yield` in it*",
            "*::test_hidden (*:11) returned an awaitable that nothing awaits: *decorator*",
            "*::test_case is an async test that nothing runs: TestCase is a unittest.TestCase*",
            "*::test_late (*) is an async test that nothing runs: @pytest.mark.harness came too *",
        ]
    )


def test_a_hypothesis_test_that_nothing_runs(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytest.importorskip("hypothesis")
    pytester.makepyfile(
        """
        from hypothesis import given, strategies as st

        @given(n=st.integers())
        async def test_it(n): ...
        """
    )
    result = run_pytest(mode="autoload")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*::test_it (*) is an async test that nothing runs. Add the *"])


def test_an_async_fixture_that_nothing_runs_says_what_to_write(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.fixture
        async def number():
            return 5

        @pytest.fixture(scope="module")
        async def stream():
            yield "stream"

        @pytest.fixture
        def through(number):
            return number

        def test_sync(number): ...
        async def test_async(number): ...
        def test_module(stream): ...
        def test_module_again(stream): ...
        def test_through(through): ...
        def test_dynamic(request):
            request.getfixturevalue("number")

        @pytest.mark.anyio
        async def test_run(number, stream, through):
            assert (number, stream, through) == (5, "stream", 5)

        def test_not_again(request):
            with pytest.raises(BaseException, match="uses the async fixture 'number'"):
                request.getfixturevalue("number")
        """
    )
    result = run_pytest(*WARNINGS)
    result.assert_outcomes(errors=5, failed=1, passed=3)
    sync_cure = (
        "that nothing runs: the test is not async, and AnyIO runs it only for tests that have "
        "`anyio_backend` among their fixtures: add `anyio_backend` to the arguments of {!r}, "
        "or make the test async and let it use `harness` or @pytest.mark.anyio\n"
    )
    output = result.stdout.str()
    for test, fixture, line in [
        ("sync", "number", 3),
        ("module", "stream", 7),
        ("module_again", "stream", 7),
        ("through", "number", 3),
        ("dynamic", "number", 3),
    ]:
        where = f"test_it.py::test_{test} uses the async fixture '{fixture}' (test_it.py:{line})"
        assert f"{where} {sync_cure.format(fixture)}" in output
    assert (
        "test_it.py::test_async uses the async fixture 'number' (test_it.py:3) that nothing runs: "
        "AnyIO runs it only for tests that have `anyio_backend` among their fixtures: add the "
        "fixture `harness`, @pytest.mark.harness or @pytest.mark.anyio to the test, or "
        "`anyio_backend` to the arguments of 'number'\n"
    ) in output
    result.stdout.no_fnmatch_line("*natively support*")


def test_an_autouse_fixture_is_said_to_be_one(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(autouse=True)
        async def always(): ...

        def test_sync(): ...
        """
    )
    result = run_pytest(*WARNINGS)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*::test_sync uses the async fixture 'always' *autouse, that no*"])


def test_a_sync_test_may_use_an_async_fixture_with_a_backend(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        async def number(anyio_backend):
            return 5

        @pytest.mark.harness
        def test_sync(number):
            assert number == 5
        """
    )
    run_pytest(f"--harness-backends={backend}", "-W", "error").assert_outcomes(passed=1)


def test_what_a_plugin_of_a_project_runs_is_run(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    """Whoever runs it: by any of the hooks, and whether it comes before or after this plugin."""
    pytester.makepyfile(
        runs_async="""
        import asyncio, functools, inspect, pytest

        def pytest_pyfunc_call(pyfuncitem):
            if inspect.iscoroutinefunction(pyfuncitem.obj):
                names = pyfuncitem._fixtureinfo.argnames
                asyncio.run(pyfuncitem.obj(**{n: pyfuncitem.funcargs[n] for n in names}))
                return True

        class Lazy:
            def __init__(self, coroutine):
                self.value = asyncio.run(coroutine)

        def pytest_fixture_setup(fixturedef, request):
            if inspect.iscoroutinefunction(fixturedef.func):
                value = Lazy(fixturedef.func()).value
                fixturedef.cached_result = (value, fixturedef.cache_key(request), None)
                return value
        """,
        test_it="""
        import pytest

        @pytest.fixture
        async def number():
            return 5

        @pytest.fixture
        def coroutine():
            async def later(): return 6
            return later()

        def test_sync(number):
            assert number == 5

        async def test_async(number, coroutine):
            assert (number, await coroutine) == (5, 6)
        """,
    )
    pytester.syspathinsert()
    run_pytest("-p", "runs_async", "-W", "error").assert_outcomes(passed=2)
    pytester.makeconftest("from runs_async import *")
    run_pytest("-W", "error").assert_outcomes(passed=2)


@pytest.mark.parametrize("plugin", ["asyncio", "trio"])
def test_other_async_plugins_go_on(
    pytester: pytest.Pytester, run_pytest: RunPytest, plugin: str
) -> None:
    skip_without(f"pytest_{plugin}")
    fixture = {"asyncio": "pytest_asyncio.fixture", "trio": "pytest.fixture"}[plugin]
    pytester.makepyfile(
        f"""
        import pytest, sniffio, pytest_{plugin}

        @{fixture}
        async def library():
            yield sniffio.current_async_library()

        @pytest.mark.{plugin}
        async def test_it(library):
            assert sniffio.current_async_library() == library == "{plugin}"

        async def test_unrun(): ...
        """
    )
    result = run_pytest(
        "-p", f"pytest_{plugin}.plugin", "-W", "ignore:The configuration option:Warning"
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([f"*in the ini file (@pytest.mark.{plugin} for pytest-{plugin})"])
