"""One test as the harness runs it: from before its first fixture to after its last."""

from __future__ import annotations

import functools
import reprlib
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from inspect import isasyncgenfunction, iscoroutinefunction
from time import monotonic
from typing import Any, Literal, NoReturn
from unittest import SkipTest
from weakref import WeakKeyDictionary, WeakSet

import pytest
from anyio.pytest_plugin import extract_backend_and_options

from ..adapters import blocking
from ..diagnostics import Sampler
from ..steps import FixtureTask
from ..virtualtime import VirtualClock
from ..watch import Crash, add_note, interrupt, is_final
from .aside import Interrupted, NoMoreExamples, brought_back, context_kept, passes
from .clocks import clock_for
from .current import current_run, run_key
from .ending import When, end_the_run, end_without_threads, exit_status_key
from .guard import Guard
from .leaking import Leaking
from .lease import Lease, WayIn
from .leftovers import know_others
from .loops import loops_key
from .matrix import marker_of_run
from .options import Marked, Settings, settings_key
from .places import place_of_function
from .report import describe

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

#: What is no failure of a test.
SKIPS = (pytest.skip.Exception, SkipTest)

#: The async fixtures of harness tests that are held open.
held_fixtures: WeakKeyDictionary[pytest.FixtureDef[Any], FixtureTask] = WeakKeyDictionary()

#: The fixtures that have called ``serve_blocking``.
serving_fixtures: WeakSet[pytest.FixtureDef[Any]] = WeakSet()


class Run:
    """What belongs to one test while it is run.

    :ivar item: the test
    :ivar guard: bounds its phases
    :ivar by_harness: whether the harness runs it; if not, AnyIO does, and it is only looked at for
        leaks
    """

    def __init__(
        self,
        item: pytest.Item,
        guard: Guard,
        settings: Settings,
        mark: Marked,
        *,
        by_harness: bool,
    ) -> None:
        self.item = item
        self.guard = guard
        self.by_harness = by_harness
        self._settings = settings
        self._mark = mark
        #: the clock, if the test runs in virtual time
        self.clock: VirtualClock | None = clock_for(item, settings, mark) if by_harness else None
        #: the phase that is running, or the last one
        self.when: When = "setup"
        self._lease: Lease | None = None
        self._leaking: Leaking | None = None
        #: a phase of the test has raised something
        self.failed: bool = False
        #: what teardowns of fixtures of a wider scope have raised, which met this test by chance
        self.not_of_the_test: list[BaseException] = []
        #: if the body is many examples, the arguments of the last one
        self.example: dict[str, Any] | None = None
        #: backend, transport and name in the matrix at the end, once they are known
        self.cell: tuple[str, str, str] | None = None
        #: whether something of the test follows from its seed
        self.seeded: bool = False
        #: how many harnesses, in this example, were given a seed by the run
        self.seeds_given: int = 0
        #: what is on its way out of the event loop by hand
        self._aside: list[BaseException] = []
        #: bounds the phase that is running, if nothing does yet
        self._bound: Callable[[], object] | None = None
        self._thread = threading.get_ident()
        #: the fixtures that are being set up, one for another
        self._set_up: list[pytest.FixtureDef[Any]] = []

    @contextmanager
    def phase(
        self, what: Literal["setup", "body", "teardown"], *, headed: bool = True
    ) -> Iterator[None]:
        """Bound a phase of the test by its time-out.

        :param headed: whether its failure is shown below a header with the test's name
        """
        __tracebackhide__ = True
        self.when = "call" if what == "body" else what
        mark, settings = self._mark, self._settings
        bounds = self.guard.phase(
            f"the {what}" if headed else f"the {what} of {self.item.nodeid}",
            timeout=settings.timeout if mark.timeout is None else mark.timeout,
            cancel_timeout=(
                settings.cancel_timeout if mark.cancel_timeout is None else mark.cancel_timeout
            ),
            began_at=monotonic(),
        )
        with ExitStack() as stack:
            self._bound = functools.partial(stack.enter_context, bounds)
            # Fixtures of wider scope may be torn down at the end of any test.
            if (
                self.by_harness
                or self._uses_serve_blocking()
                or (what == "teardown" and (held_fixtures or blocking.serving))
            ):
                self._be_bounded()
            try:
                yield
            finally:
                self._bound = None

    def _be_bounded(self) -> None:
        bound, self._bound = self._bound, None
        if bound is not None:
            bound()

    def serves_blocking(self) -> None:
        """Something of the test is going to wait for ``serve_blocking``: bound it from here on."""
        serving_fixtures.update(self._set_up[-1:])
        if threading.get_ident() == self._thread and not _is_async(self.item):
            self._be_bounded()

    def _uses_serve_blocking(self) -> bool:
        fixtures = fixtures_of(self.item)
        return not _is_async(self.item) and any(each in serving_fixtures for each in fixtures)

    @contextmanager
    def setting_up(self, fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
        """Around the setup of a fixture."""
        self._set_up.append(fixturedef)
        try:
            yield
        finally:
            self._set_up.pop()

    def suspend(self) -> None:
        """Let the phase that is running take as long as it likes: somebody is debugging it."""
        self._bound = None
        self.guard.suspend()

    def lease(self, anyio_backend: Any) -> None:
        """Take hold of AnyIO's runner, for the rest of the test."""
        if self._lease is None:
            name, options = extract_backend_and_options(anyio_backend)
            catch = self._mark.catch_loop_exceptions
            if self.clock is not None:
                options = self._virtual_options(name, options)
            self._lease = Lease(name, options, catch_loop_exceptions=catch is not False)

    def _virtual_options(self, library: str, options: dict[str, Any]) -> dict[str, Any]:
        assert self.clock is not None
        holders = self.item.config.stash[loops_key].holders()
        if holders:
            held = " and ".join(map(str, holders))
            raise RuntimeError(
                f"{self.item.nodeid} is to run in virtual time, but {held} "
                f"{'holds' if len(holders) == 1 else 'hold'} its event loop, which goes by real "
                "time. Give that fixture a function scope, or take the test out of virtual time"
            )
        return self.clock.options(library, options)

    def refusal(self, fixturedef: pytest.FixtureDef[Any]) -> Exception | None:
        """Why the test cannot have an async fixture set up for it, if so."""
        if self.clock is None or fixturedef.scope == "function":
            return None
        place = place_of_function(fixturedef.func, self.item.config)
        return RuntimeError(
            f"{self.item.nodeid} runs in virtual time, in an event loop of its own, and the "
            f"{fixturedef.scope}-scoped fixture {fixturedef.argname!r} ({place}) would keep that "
            "for the tests after it. Give the fixture a function scope, or take the test out of "
            "virtual time"
        )

    def refuse_fixtures(self) -> None:
        """Raise what is wrong with the fixtures of the test before the first is set up.

        pytest would keep what a wider fixture raises, for tests that may well have it.
        """
        if self.clock is None:
            return
        definitions: Any = getattr(getattr(self.item, "_fixtureinfo", None), "name2fixturedefs", {})
        for definition in definitions.values():
            function = definition[-1].func
            if iscoroutinefunction(function) or isasyncgenfunction(function):
                refusal = self.refusal(definition[-1])
                if refusal is not None:
                    raise refusal

    def begin(self) -> None:
        """Before the first fixture: begin to look for leaks."""
        if not self.by_harness and not _is_of_anyio(self.item):
            return
        mode = self._mark.leaks or self._settings.leaks or ("error" if self.by_harness else "warn")
        if mode != "off":
            self._leaking = Leaking(self.item, mode, self._mark.allow_leaks)

    def made_for(self, scope: str) -> AbstractContextManager[None]:
        """What is made in this block is made for a fixture of ``scope``, or for the test."""
        if self._leaking is None or scope == "function":
            return nullcontext()
        return self._leaking.exempt()

    def entered_loop(self) -> WayIn:
        """Get to know the event loop, in it."""
        if self._leaking is not None:
            self._leaking.entered_loop()
        # Without a lease, a fixture of wider scope is torn down: in a test that has no event loop,
        # or before the fixtures of another backend are set up.
        way_in = WayIn.here() if self._lease is None else self._lease.entered_loop()
        if self.clock is not None and self._lease is not None:
            self.clock.begin(functools.partial(self._deadlocked, way_in))
            way_in.held_by = self.clock.held_by
        self.guard.enter(way_in)
        return way_in

    def _deadlocked(self, way_in: WayIn) -> None:
        """Nothing can happen any more in virtual time; called in the event loop."""
        assert self.clock is not None
        timers = "no timer is pending" if self.clock.autojump else "autojump is off"
        report = (
            f"deadlock: every task is blocked, {timers}, and nothing real is in flight\n"
            + describe(way_in.view, blocked=False)
        )
        interrupt(Crash(pytest.fail.Exception(report, pytrace=False), ""))

    def is_of_the_test(self, error: BaseException) -> bool:
        """Whether ``error``, or something in it, is more than the end of a wider fixture."""
        if any(error is each for each in self.not_of_the_test):
            return False
        if isinstance(error, BaseExceptionGroup):
            return any(map(self.is_of_the_test, error.exceptions))
        return True

    @property
    def looks(self) -> bool:
        """Whether it has anything to do with how its async fixtures and its body are run."""
        return self.by_harness or self._leaking is not None

    @contextmanager
    def watching_for_failure(self) -> Iterator[None]:
        """Remember whether this part of the test fails, or is skipped."""
        __tracebackhide__ = True
        try:
            yield
        except BaseException as exc:
            self.failed = True
            if self._leaking is not None and not is_final(exc) and not isinstance(exc, SKIPS):
                for leak in self._leaking.failed(exc):
                    add_note(exc, f"({leak.what}: {leak.where})")
            raise

    @contextmanager
    def step(self, scope: str = "function") -> Iterator[None]:
        """Around a step, in the event loop: what a test is told of that its code cannot see."""
        __tracebackhide__ = True
        way_in = self.entered_loop()
        with self.made_for(scope), self.put_aside(), self._unblocked(way_in), self._limited():
            yield

    def _limited(self) -> AbstractContextManager[None]:
        """A limit to the worker threads, if there is one."""
        if self._mark.threads is None:
            return nullcontext()
        from .threads import limit_threads

        return limit_threads(self._mark.threads)

    @contextmanager
    def _unblocked(self, way_in: WayIn) -> Iterator[None]:
        """Fail, or warn, if one step of the event loop takes too long."""
        __tracebackhide__ = True
        mark, settings = self._mark, self._settings
        mode = mark.blocking or settings.blocking
        if mode == "off":
            yield
            return
        threshold = mark.blocking_threshold or settings.blocking_threshold
        sampler = Sampler(way_in.view, way_in.call_soon, threshold)
        try:
            yield
        except BaseException as exc:
            for each in sampler.stop():  # it may well be why
                add_note(exc, f"(besides, the test {each})")
            raise
        found = sampler.stop()
        if not found:
            return
        if mode == "error":
            pytest.fail("\n".join(map(str, found)), pytrace=False)
        for each in found:
            warnings.warn(f"{self.item.nodeid} {each}", LoopBlockedWarning, stacklevel=2)

    @contextmanager
    def put_aside(self) -> Iterator[None]:
        """Let nothing out, into AnyIO's task, that would end it.

        On asyncio, whatever is no ``Exception`` and none of pytest's outcomes ends the task of
        AnyIO's runner for good; what is run after that fails, or waits for ever
        (anyio/_backends/_asyncio.py, ``TestRunner._run_tests_and_fixtures``).
        """
        __tracebackhide__ = True
        try:
            yield
        except BaseException as exc:
            time_out = self.guard.time_out_in(exc) if self.example is not None else None
            if time_out is not None:
                time_out.msg = f"{time_out.msg}\nin the example {self._example_in_words()}"
            elif passes(exc) or not self.by_harness:
                raise
            self._aside.append(exc)
            stands_for_it = Interrupted if self.example is None else NoMoreExamples
            raise stands_for_it(exc) from None

    @contextmanager
    def as_example(self, arguments: dict[str, Any]) -> Iterator[None]:
        """Around one of the many examples that are the body of a test of Hypothesis."""
        __tracebackhide__ = True
        self.example = arguments
        self.seeds_given = 0
        self.guard.between_examples()
        yield
        self.guard.between_examples()

    def _example_in_words(self) -> str:
        given = {} if self.example is None else self.example
        return ", ".join(f"{name}={reprlib.repr(value)}" for name, value in given.items())

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Around what is run in the event loop: raise here what was put aside there."""
        __tracebackhide__ = True
        raised: BaseException | None = None
        try:
            yield
        except BaseException as exc:
            raised = exc
        aside, self._aside = self._aside, []
        if aside:
            raised = brought_back(raised, aside)
        try:
            if raised is not None:
                # Its own context, and not what stood for it meanwhile and is handled here.
                with context_kept(raised):
                    raise raised
        finally:
            del raised, aside  # or this frame and the traceback keep one another alive
            self.guard.between_steps()

    def end(self) -> None:
        """After the last fixture: look what is left, and let go of the event loop."""
        __tracebackhide__ = True
        lease, self._lease = self._lease, None
        leaking, self._leaking = self._leaking, None
        try:
            try:
                if leaking is not None:
                    leaking.look(lease, failed=self.failed)
            finally:
                if lease is not None:
                    self._aside += [crash.exception for crash in lease.take_pending()]
                    lease.give_back()
            with self.outside():
                pass
        finally:
            self.guard.enter(None)
            if self.clock is not None:
                self.clock.end()
            if leaking is not None:
                leaking.end()


class LoopBlockedWarning(UserWarning):
    """A step of the event loop took longer than ``harness_blocking_threshold``."""


def fixtures_of(item: pytest.Item) -> list[pytest.FixtureDef[Any]]:
    """The fixtures that a test has had set up so far, of which pytest has no public list."""
    request: Any = getattr(item, "_request", None)
    return list(getattr(request, "_fixture_defs", {}).values())


_guard_key: pytest.StashKey[Guard] = pytest.StashKey()


def bound_serve_blocking(config: pytest.Config) -> None:
    """Bound the test that calls ``serve_blocking``."""
    run = current_run(config)
    if run is not None:
        run.serves_blocking()


def _guard_of(config: pytest.Config) -> Guard:
    guard = config.stash.get(_guard_key, None)
    if guard is None:
        know_others()
        guard = config.stash[_guard_key] = Guard(functools.partial(_end_the_run, config))
    return guard


def _end_the_run(config: pytest.Config, report: str) -> NoReturn:
    run = current_run(config)
    assert run is not None, "a phase is guarded outside of a test"
    end_the_run(run.item, run.when, report)


def _is_async(item: pytest.Item) -> bool:
    return iscoroutinefunction(getattr(item, "obj", None))


def _is_of_anyio(item: pytest.Item) -> bool:
    """Whether AnyIO's plugin runs the test, without the harness."""
    function = getattr(item, "obj", None)
    if "anyio_backend" not in getattr(item, "fixturenames", ()):
        return False
    return iscoroutinefunction(function) or hasattr(function, "hypothesis")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    config = item.config
    settings = config.stash[settings_key]
    mark = marker_of_run(item, settings)
    run = config.stash[run_key] = Run(
        item, _guard_of(config), settings, mark or Marked(), by_harness=mark is not None
    )
    result = yield
    run.not_of_the_test.clear()  # their tracebacks refer to the run
    config.stash[run_key] = None  # unless Ctrl-C came: the fixtures are then still to be torn down
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    __tracebackhide__ = True
    run = current_run(item.config)
    if run is None:
        return (yield)
    with run.phase("setup"), run.watching_for_failure():
        run.begin()
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    __tracebackhide__ = True
    run = current_run(item.config)
    if run is None:
        return (yield)
    with run.phase("body"), run.watching_for_failure():
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    __tracebackhide__ = True
    run = current_run(item.config)
    if run is None:
        return (yield)
    with run.phase("teardown"):
        try:
            with run.watching_for_failure(), run.outside():
                return (yield)
        finally:
            run.end()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(
    session: pytest.Session, exitstatus: int
) -> Generator[None, object, object]:
    """After Ctrl-C, pytest tears fixtures down here and not at the end of their test."""
    session.config.stash[exit_status_key] = int(exitstatus)
    run = current_run(session.config)
    try:
        if run is None:
            return (yield)
        with run.phase("teardown", headed=False):
            try:
                with run.outside():
                    return (yield)
            finally:
                run.end()
    except KeyboardInterrupt as exc:
        # pytest has no place for a second one, and would crash (_pytest/main.py, wrap_session).
        pytest.exit(f"in the teardown: {exc!r}", returncode=pytest.ExitCode.INTERRUPTED)
    finally:
        session.config.stash[run_key] = None
        guard = session.config.stash.get(_guard_key, None)
        if guard is not None:
            guard.stop()


class RefuseFixtures:
    """A hook that is no wrapper, since what raises in those keeps others from beginning."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        __tracebackhide__ = True
        run = current_run(item.config)
        if run is not None:
            run.refuse_fixtures()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End the process here if a thread that a test is stuck in would keep it from ending."""
    guard = config.stash.get(_guard_key, None)
    if guard is not None and guard.timed_out:
        end_without_threads(config)


def pytest_enter_pdb(config: pytest.Config) -> None:
    run = current_run(config)
    if run is not None:
        run.suspend()
