"""How test bodies and async fixtures are run: watched, and each in a task of its own."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from inspect import isasyncgenfunction, iscoroutinefunction, ismethod
from typing import Any

import pytest

from ..backends import check_running
from ..core import Harness
from ..diagnostics import TEST
from ..steps import FixtureTask, adopt, apart
from ..watch import Watch, add_note, is_final
from .aside import Interrupted
from .current import current_run
from .fixtures import open_like
from .loops import loops_key
from .options import Settings, settings_key
from .places import Owner, place_of_function
from .run import Run, fixtures_of, held_fixtures
from .seeds import begin_fixture

Body = Callable[..., Awaitable[None]]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Run the async fixtures of harness tests in tasks of their own.

    First, because AnyIO's wrapper of the same hook puts a function that is not async in the place
    of the fixture's own.
    """
    __tracebackhide__ = True
    run = current_run(request.config)
    if run is None:
        return (yield)
    with run.setting_up(fixturedef):
        if not run.looks:
            return (yield)
        run.guard.between_steps()
        with run.made_for(fixturedef.scope):
            return (yield from _set_up(fixturedef, request, run))


def _set_up(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest, run: Run
) -> Generator[None, object, object]:
    __tracebackhide__ = True
    function = fixturedef.func
    if run.by_harness:
        try:
            check_fixtures(run)
        except BaseException as exc:
            return (yield from _refuse(fixturedef, exc))
    is_async = isasyncgenfunction(function) or iscoroutinefunction(function)
    if not is_async or "anyio_backend" not in request.fixturenames:
        try:
            return (yield)
        finally:
            run.guard.between_steps()
    instance = request.instance
    if ismethod(function) and type(function.__self__) is type(instance):
        function = function.__func__.__get__(instance)  # as AnyIO would
    try:
        refusal = run.refusal(fixturedef)
        if refusal is not None:
            raise refusal
        run.lease(request.getfixturevalue("anyio_backend"))
    except Exception as exc:
        return (yield from _refuse(fixturedef, exc))
    with pytest.MonkeyPatch.context() as patch:
        if not run.by_harness:
            make = _seen_coroutine if iscoroutinefunction(function) else _seen_generator
        else:
            make = _coroutine_fixture if iscoroutinefunction(function) else _generator_fixture
        patch.setattr(fixturedef, "func", make(function, fixturedef, request.config))
        with run.outside(), _cached_as_it_is(fixturedef):
            return (yield)


@contextmanager
def _cached_as_it_is(fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
    """Let the next test that wants the fixture meet what it has raised, not what stood for that."""
    __tracebackhide__ = True
    try:
        yield
    finally:
        cached = fixturedef.cached_result
        if cached is not None and cached[2] is not None and isinstance(cached[2][0], Interrupted):
            error: Any = cached[2][0].error  # pytest keeps no other than these; it only raises it
            fixturedef.cached_result = (None, cached[1], (error, error.__traceback__))


def _refuse(
    fixturedef: pytest.FixtureDef[Any], error: BaseException
) -> Generator[None, object, object]:
    """Let the fixture raise ``error``.

    Not raised from here: pytest would find its own finalizers at the fixture's next setup, and
    stumble (_pytest/fixtures.py, FixtureDef.execute).
    """
    __tracebackhide__ = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fixturedef, "func", _raising(error))
        return (yield)


def _raising(error: BaseException) -> Callable[..., Any]:
    def fixture(*args: Any, **arguments: Any) -> Any:
        __tracebackhide__ = True
        raise error

    return fixture


def _coroutine_fixture(
    function: Callable[..., Any], fixturedef: pytest.FixtureDef[Any], config: pytest.Config
) -> Callable[..., Any]:
    @functools.wraps(function)
    async def coroutine(*args: Any, **arguments: Any) -> Any:
        __tracebackhide__ = True
        watch = Watch(hears_fixtures_of(config), f"the fixture {fixturedef.argname!r}")
        body = functools.partial(function, *args, **arguments)
        with _run_of_step(config).step(fixturedef.scope):
            value, context = await apart(
                functools.partial(watch.run, body), f"fixture {fixturedef.argname!r}"
            )
            adopt(context)
            return value

    return coroutine


def _generator_fixture(
    function: Callable[..., Any], fixturedef: pytest.FixtureDef[Any], config: pytest.Config
) -> Callable[..., Any]:
    @functools.wraps(function)
    async def generator(*args: Any, **arguments: Any) -> AsyncGenerator[Any, None]:
        __tracebackhide__ = True
        task = FixtureTask(
            fixturedef.argname,
            function(*args, **arguments),
            Watch(hears_fixtures_of(config), f"the fixture {fixturedef.argname!r}"),
            lambda: _run_of_step(config).item,
        )
        begin_fixture(task, fixturedef)
        made_for = _run_of_step(config).item.nodeid
        with _run_of_step(config).step(fixturedef.scope):
            value = await task.start()
        held_fixtures[fixturedef] = task
        yield value
        del held_fixtures[fixturedef]
        run = _run_of_step(config)  # another one, if its scope is wide
        owner = Owner(
            made_for, fixturedef.argname, fixturedef.scope, place_of_function(function, config)
        )
        with _said_whose(owner, fixturedef, run), run.step(fixturedef.scope):
            await task.finish()

    return generator


@contextmanager
def _said_whose(owner: Owner, fixturedef: pytest.FixtureDef[Any], run: Run) -> Iterator[None]:
    """Say of what the teardown of a wider fixture raises that it is not of the test it meets.

    pytest tears such a fixture down where it needs the next one, or leaves the module: at the setup
    of a test with another parameter, or the teardown of one that may not even use it.
    """
    __tracebackhide__ = True
    try:
        yield
    except BaseException as raised:
        exc = raised.error if isinstance(raised, Interrupted) else raised
        if owner.outlives_its_test and not is_final(exc):
            run.not_of_the_test.append(exc)
            here = run.item.nodeid
            made_for = "this test" if here == owner.nodeid else f"an earlier test, {owner.nodeid}"
            note = (
                f"from the teardown of the {owner.scope}-scoped fixture {owner.fixture!r} "
                f"({owner.place}),\nmade for {made_for}"
            )
            if run.when == "setup" or fixturedef not in fixtures_of(run.item):
                note += f";\n{here} only happens to be where pytest runs it"
            add_note(exc, f"({note})")
        raise raised  # a bare `raise` would bring the old traceback back, on Python 3.10


def _seen_coroutine(
    function: Callable[..., Any], fixturedef: pytest.FixtureDef[Any], config: pytest.Config
) -> Callable[..., Any]:
    """A fixture of a test that AnyIO runs, as AnyIO runs it."""

    @functools.wraps(function)
    async def coroutine(*args: Any, **arguments: Any) -> Any:
        __tracebackhide__ = True
        with _entered(fixturedef, config):
            return await function(*args, **arguments)

    return coroutine


def _seen_generator(
    function: Callable[..., Any], fixturedef: pytest.FixtureDef[Any], config: pytest.Config
) -> Callable[..., Any]:
    @functools.wraps(function)
    async def generator(*args: Any, **arguments: Any) -> AsyncGenerator[Any, None]:
        __tracebackhide__ = True
        steps = function(*args, **arguments)
        with _entered(fixturedef, config):
            value = await steps.__anext__()
        yield value
        with _entered(fixturedef, config):
            async for value in steps:
                yield value  # AnyIO says what is wrong with a second one

    return generator


def _entered(
    fixturedef: pytest.FixtureDef[Any], config: pytest.Config
) -> AbstractContextManager[None]:
    run = _run_of_step(config)
    run.entered_loop()
    return run.made_for(fixturedef.scope)


def _run_of_step(config: pytest.Config) -> Run:
    run = current_run(config)
    assert run is not None, "an async fixture of the harness is run outside of a test"
    return run


def hears_fixtures_of(config: pytest.Config) -> Callable[[object], bool]:
    """Whether the test that is running uses a fixture: what happens to that is its failure."""

    def hears(fixture: object) -> bool:
        run = current_run(config)
        return run is not None and any(
            held_fixtures.get(each) is fixture for each in fixtures_of(run.item)
        )

    return hears


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    __tracebackhide__ = True
    result = yield
    run = current_run(item.config)
    if run is not None and run.by_harness:
        check_fixtures(run)
    return result


def check_fixtures(run: Run) -> None:
    """Raise what has happened, since the last test, to the fixtures that this one has so far."""
    __tracebackhide__ = True
    for each in fixtures_of(run.item):
        task = held_fixtures.get(each)
        if task is not None:
            task.check()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Put the watched body in the place of the test function while AnyIO runs it."""
    __tracebackhide__ = True
    settings = pyfuncitem.config.stash[settings_key]
    run = current_run(pyfuncitem.config)
    if run is None:
        return (yield)
    test = pyfuncitem.obj
    if hasattr(test, "hypothesis"):
        inner = _original(test.hypothesis.inner_test)
        before = test.hypothesis.inner_test
        if not iscoroutinefunction(inner):  # it may be bounded yet, if it uses serve_blocking
            test.hypothesis.inner_test = _bounded_example(before, run)
        elif not run.by_harness:
            return (yield)
        elif "anyio_backend" in pyfuncitem.funcargs:
            run.lease(pyfuncitem.funcargs["anyio_backend"])
            test.hypothesis.inner_test = _watched_example(inner, pyfuncitem, settings, run)
        else:
            return (yield)
        run.example = {}
        try:
            with run.outside():
                return (yield)
        finally:
            run.example = None
            test.hypothesis.inner_test = before
    if not run.looks:
        return (yield)
    if "anyio_backend" not in pyfuncitem.funcargs:
        return (yield)
    if not iscoroutinefunction(test):
        return (yield)
    if not run.by_harness:
        return (yield from _call_seen(pyfuncitem, run))
    run.lease(pyfuncitem.funcargs["anyio_backend"])
    pyfuncitem.obj = _watched(test, pyfuncitem, settings, run)
    try:
        with run.outside():
            return (yield)
    finally:
        pyfuncitem.obj = test


def _call_seen(item: pytest.Function, run: Run) -> Generator[None, object, object]:
    """Let AnyIO call a test, and get to know its event loop."""
    __tracebackhide__ = True
    test = item.obj

    @functools.wraps(test)
    async def body(**arguments: Any) -> None:
        __tracebackhide__ = True
        run.entered_loop()
        await test(**arguments)

    run.lease(item.funcargs["anyio_backend"])
    item.obj = body
    try:
        return (yield)
    finally:
        item.obj = test


def _watched(test: Body, item: pytest.Function, settings: Settings, run: Run) -> Body:
    backend = settings.backend_of(item.funcargs["anyio_backend"])

    @functools.wraps(test)
    async def body(**arguments: Any) -> None:
        __tracebackhide__ = True
        check_running(backend, item.config.stash[loops_key].holders())
        watch = Watch(hears_fixtures_of(item.config))
        step = functools.partial(watch.run, functools.partial(_to_the_end, test, item, arguments))
        with run.step():
            await apart(step, TEST)

    return body


async def _to_the_end(test: Body, item: pytest.Function, arguments: dict[str, Any]) -> None:
    """The body, and what it has asked to be looked at when it has ended."""
    __tracebackhide__ = True
    await test(**arguments)
    harness = item.funcargs.get("harness")
    if isinstance(harness, Harness):
        await harness.check_expected()


def _watched_example(inner: Body, item: pytest.Function, settings: Settings, run: Run) -> Body:
    """One example of a Hypothesis test, with a harness of its own in the place of the fixture's.

    Fixtures are made once for all examples; what one example serves must not meet the next.
    """

    @functools.wraps(inner)
    async def example(**arguments: Any) -> None:
        __tracebackhide__ = True
        given = {name: arguments[name] for name in arguments if name not in item.funcargs}
        if "harness" not in arguments:
            with run.as_example(given):
                await inner(**arguments)
            return
        funcargs = item.funcargs
        async with open_like(
            settings, item, funcargs["anyio_backend"], funcargs["transport"]
        ) as arguments["harness"]:
            with run.as_example(given):
                await inner(**arguments)

    return _watched(example, item, settings, run)


def _bounded_example(inner: Callable[..., Any], run: Run) -> Callable[..., Any]:
    """One example of a Hypothesis test that is not async."""

    @functools.wraps(inner)
    def example(*args: Any, **arguments: Any) -> Any:
        __tracebackhide__ = True
        with run.put_aside(), run.as_example(arguments):
            return inner(*args, **arguments)

    return example


def _original(test: Body) -> Body:
    """The user's own function, without what AnyIO put around it for the backend before this one."""
    original: Body = getattr(test, "_anyio_original_func", test)
    return original
