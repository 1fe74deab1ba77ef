"""How a test body is run: on the backend that it was made for, and watched for crashes."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from inspect import isasyncgenfunction, iscoroutinefunction, ismethod
from typing import Any

import pytest

from ..backends import check_running
from ..core import fixture_setup
from ..diagnostics import without_machinery
from ..supervisor import Watch
from .fixtures import open_like
from .matrix import marker_of_run
from .options import Settings, settings_key

Body = Callable[..., Awaitable[None]]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Tell harnesses that are opened here that they are held over a ``yield``.

    First, because AnyIO's wrapper of the same hook puts a function that is not async in the place
    of the fixture's own.
    """
    function = fixturedef.func
    if not (isasyncgenfunction(function) or iscoroutinefunction(function)):
        return (yield)
    with fixture_setup(), pytest.MonkeyPatch.context() as patch:
        item = getattr(request, "_pyfuncitem", None)
        if item is not None and fixturedef.argname != "harness":
            settings = request.config.stash[settings_key]
            if marker_of_run(item, settings) is not None:
                instance = request.instance
                if ismethod(function) and type(function.__self__) is type(instance):
                    function = function.__func__.__get__(instance)  # as AnyIO would
                patch.setattr(fixturedef, "func", watched_fixture(function))
        return (yield)


def watched_fixture(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, an async fixture, but a crash ends its setup or teardown and is raised there.

    The watch of a generator is entered before its setup and left after its teardown, so that
    scopes and task groups that it holds open over the ``yield`` stay inside of it. While it
    stands at the ``yield`` it hears nothing.
    """
    if iscoroutinefunction(function):

        @functools.wraps(function)
        async def coroutine(*args: Any, **arguments: Any) -> Any:
            __tracebackhide__ = True
            return await Watch().run(functools.partial(function, *args, **arguments))

        return coroutine

    @functools.wraps(function)
    async def generator(*args: Any, **arguments: Any) -> AsyncGenerator[Any, None]:
        __tracebackhide__ = True
        watch = Watch()
        steps = function(*args, **arguments)
        watch.enter()
        while True:
            value = await watch.step(steps)
            if watch.finished:
                watch.leave()
                return
            yield value  # AnyIO says what is wrong with a second one

    return generator


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Put the watched body in the place of the test function while AnyIO runs it."""
    __tracebackhide__ = True
    if "anyio_backend" not in pyfuncitem.funcargs:
        return (yield)
    settings = pyfuncitem.config.stash[settings_key]
    if marker_of_run(pyfuncitem, settings) is None:
        return (yield)
    test = pyfuncitem.obj
    if hasattr(test, "hypothesis"):
        inner = _original(test.hypothesis.inner_test)
        if not iscoroutinefunction(inner):
            return (yield)
        before = test.hypothesis.inner_test
        test.hypothesis.inner_test = _watched_example(inner, pyfuncitem, settings)
        try:
            return (yield)
        finally:
            test.hypothesis.inner_test = before
    if not iscoroutinefunction(test):
        return (yield)
    interrupts: list[BaseException] = []
    pyfuncitem.obj = _uninterrupted(_watched(test, pyfuncitem, settings), interrupts)
    try:
        result = yield
    except BaseException as exc:
        without_machinery(exc)
        raise exc  # a bare `raise` would bring the old traceback back, on Python 3.10
    finally:
        pyfuncitem.obj = test
    if interrupts:
        raise interrupts[0]
    return result


def _uninterrupted(body: Body, interrupts: list[BaseException]) -> Body:
    """``body``, but what ends the whole run is put aside, to be raised outside the event loop.

    On asyncio, a ``KeyboardInterrupt`` that leaves the task of AnyIO's runner ends it for good, and
    the teardown of fixtures waits for it for ever (anyio/_backends/_asyncio.py,
    ``TestRunner._run_tests_and_fixtures``).
    """

    @functools.wraps(body)
    async def uninterrupted(**arguments: Any) -> None:
        __tracebackhide__ = True
        try:
            await body(**arguments)
        except (KeyboardInterrupt, SystemExit) as exc:
            interrupts.append(exc)

    return uninterrupted


def _watched(test: Body, item: pytest.Function, settings: Settings) -> Body:
    backend = settings.backend_of(item.funcargs["anyio_backend"])

    @functools.wraps(test)
    async def body(**arguments: Any) -> None:
        __tracebackhide__ = True
        check_running(backend)
        await Watch().run(functools.partial(test, **arguments))

    return body


def _watched_example(inner: Body, item: pytest.Function, settings: Settings) -> Body:
    """One example of a Hypothesis test, with a harness of its own in the place of the fixture's.

    Fixtures are made once for all examples; what one example serves must not meet the next.
    """

    @functools.wraps(inner)
    async def example(**arguments: Any) -> None:
        __tracebackhide__ = True
        if "harness" not in arguments:
            await inner(**arguments)
            return
        funcargs = item.funcargs
        async with open_like(
            settings, item, funcargs["anyio_backend"], funcargs["transport"]
        ) as arguments["harness"]:
            await inner(**arguments)

    return _watched(example, item, settings)


def _original(test: Body) -> Body:
    """The user's own function, without what AnyIO put around it for the backend before this one."""
    original: Body = getattr(test, "_anyio_original_func", test)
    return original
