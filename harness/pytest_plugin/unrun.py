"""An async test or an async fixture that nothing runs is an error that says what to write.

What nothing has run is what arrives at pytest's own implementation of a hook, behind those of all
plugins: pytest then fails the test, and what it says is replaced. So a plugin that nobody here has
heard of needs no entry in a list. Where pytest says nothing (async fixtures before pytest 9, async
methods of a plain ``unittest.TestCase``), the result is looked at.
"""

from __future__ import annotations

import unittest
from collections.abc import Generator
from inspect import isasyncgen, isasyncgenfunction, iscoroutine, iscoroutinefunction
from typing import Any

import pytest

from .options import MARKER
from .places import item_of, place_of_function
from .rivals import is_loaded

#: ``_pytest/python.py``, ``async_fail``.
PYTEST_ON_TESTS = "async def functions are not natively supported"
#: ``_pytest/fixtures.py``, ``pytest_fixture_setup``: a failure, and a warning before pytest 9.
PYTEST_ON_FIXTURES = "requested an async fixture"
#: ``hypothesis/core.py``, ``given``.
HYPOTHESIS_ON_TESTS = "doesn't know how to run async test functions"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    __tracebackhide__ = True
    try:
        return (yield)
    except pytest.fail.Exception as exc:
        if not str(exc).startswith(PYTEST_ON_TESTS):
            raise
    except Exception as exc:
        if not hasattr(pyfuncitem.obj, "hypothesis") or HYPOTHESIS_ON_TESTS not in str(exc):
            raise
    pytest.fail(_about_test(pyfuncitem), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """``unittest`` calls an ``async def`` method, and takes the coroutine for a pass."""
    __tracebackhide__ = True
    case = item.instance if isinstance(item, pytest.Function) else None
    if isinstance(case, unittest.TestCase) and iscoroutinefunction(getattr(item, "obj", None)):
        cls = type(case)
        # Any library with async test methods (IsolatedAsyncioTestCase, Django, Twisted, Tornado)
        # replaces one of these, or the method.
        plain = all(
            getattr(cls, name) is getattr(unittest.TestCase, name)
            for name in ("__call__", "run", "_callTestMethod")
        )
        if plain and iscoroutinefunction(getattr(case, case._testMethodName)):
            pytest.fail(
                f"{item.nodeid} is an async test that nothing runs: {cls.__name__} is a "
                "unittest.TestCase, which does not await its test methods. Derive it from "
                "unittest.IsolatedAsyncioTestCase, or make it a plain class whose tests use the "
                "fixture `harness`",
                pytrace=False,
            )
    return (yield)


def _about_test(item: pytest.Function) -> str:
    function = item.obj
    if hasattr(function, "hypothesis"):
        function = function.hypothesis.inner_test
    where = f"{item.nodeid} ({place_of_function(function, item.config)})"
    if isasyncgenfunction(function):
        return (
            f"{where} is an async test that nothing runs: it has a `yield` in it, which makes it "
            "an async generator. Take the `yield` out, or put it into a fixture"
        )
    if not iscoroutinefunction(function):
        return (
            f"{where} returned an awaitable that nothing awaits: the test is not an `async def` "
            "itself. If a decorator hides one, let the decorator return an `async def` that awaits "
            "it (with functools.wraps)"
        )
    for marker in (MARKER, "anyio"):
        if item.get_closest_marker(marker) is not None and "anyio_backend" not in item.fixturenames:
            return (
                f"{where} is an async test that nothing runs: @pytest.mark.{marker} came too late "
                "to give it a backend. Put it into the source (on the test, its class or "
                "`pytestmark`), not on by a hook; or set `anyio_mode = auto`"
            )
    return (
        f"{where} is an async test that nothing runs. Add the fixture `harness`, "
        "@pytest.mark.harness or @pytest.mark.anyio, or set `anyio_mode = auto` in the ini file"
        f"{_other_plugins(item.config)}"
    )


def _other_plugins(config: pytest.Config) -> str:
    words = [
        f"@pytest.mark.{name} for pytest-{name}"
        for name in ("asyncio", "trio")
        if is_loaded(config, f"pytest_{name}.plugin")
    ]
    return f" ({', '.join(words)})" if words else ""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    __tracebackhide__ = True
    function = fixturedef.func
    if not (iscoroutinefunction(function) or isasyncgenfunction(function)):
        return (yield)
    try:
        result = yield
    except (pytest.fail.Exception, pytest.PytestWarning) as exc:
        name = f"requested an async fixture {fixturedef.argname!r}"
        if not (PYTEST_ON_FIXTURES in str(exc) and name in str(exc)):
            raise
    else:
        if not _is_unrun(result, function):
            return result
        if iscoroutine(result):
            result.close()
    # Nothing of this may be left to the next test: neither a value nor, in pytest 9.2, finalizers.
    subrequest: Any = request
    fixturedef.cached_result = (None, fixturedef.cache_key(subrequest), None)
    fixturedef.finish(subrequest)
    __tracebackhide__ = False  # with every frame hidden, pytest would add a line about that
    pytest.fail(_about_fixture(fixturedef, function, request), pytrace=False)


def _is_unrun(result: object, function: Any) -> bool:
    """Whether ``result`` is what calling ``function`` makes, and not something out of it."""
    code = getattr(function, "__code__", None)
    if iscoroutine(result):
        return code is None or result.cr_code is code
    if isasyncgen(result):
        return code is None or result.ag_code is code
    return False


def _about_fixture(
    fixturedef: pytest.FixtureDef[Any], function: Any, request: pytest.FixtureRequest
) -> str:
    item = item_of(request)
    name = fixturedef.argname
    place = place_of_function(function, request.config)
    test: Any = getattr(item, "obj", None)
    if hasattr(test, "hypothesis"):
        test = test.hypothesis.inner_test
    runs = "AnyIO runs it only for tests that have `anyio_backend` among their fixtures"
    if iscoroutinefunction(test):
        cure = (
            f"{runs}: add the fixture `harness`, @pytest.mark.harness or @pytest.mark.anyio to "
            f"the test, or `anyio_backend` to the arguments of {name!r}"
        )
    else:
        cure = (
            f"the test is not async, and {runs}: add `anyio_backend` to the arguments of {name!r}, "
            "or make the test async and let it use `harness` or @pytest.mark.anyio"
        )
    if is_loaded(request.config, "pytest_asyncio.plugin"):
        cure += f"; for pytest-asyncio, write @pytest_asyncio.fixture on {name!r}"
    by_itself = ", which is autouse," if getattr(fixturedef, "_autouse", False) else ""
    return (
        f"{item.nodeid} uses the async fixture {name!r} ({place}){by_itself} "
        f"that nothing runs: {cure}"
    )
