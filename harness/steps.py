"""The steps of a test, its body and its async fixtures, each in a task of its own.

AnyIO's plugin runs all fixtures and tests of one event loop in one task. What one of them does to
its task then happens to all: a task group that a fixture holds open over its ``yield`` cancels the
task that runs the tests when a child crashes; a scope that a test forgets to leave stays around the
next one. Here AnyIO's task only waits. The body is run by :func:`apart`, a fixture that yields is
held by a :class:`FixtureTask`, and what becomes of their tasks is theirs alone.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar, Token, copy_context
from typing import Any, TypeVar

from anyio import Event, get_cancelled_exc_class

from .backends import current_library, current_task_id
from .diagnostics import innermost_user_line
from .diagnostics.stacks import Place, place_of, shorten
from .supervisor import spawn_host
from .watch import (
    Crash,
    Watch,
    failure_of,
    leave_unheard,
    listening_watch,
    not_cancelling,
    sole,
)

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

T = TypeVar("T")

#: Columns of what may be long in a message; some words and pytest's margin stand before it.
WIDTH = 80


async def apart(func: Callable[[], Awaitable[T]], name: str) -> tuple[T, Context]:
    """Await ``func()`` in a task of its own, in a copy of this context.

    Returns its result and the context as it was at its end.
    """
    __tracebackhide__ = True
    over = Event()
    results: list[tuple[T, Context]] = []
    errors: list[BaseException] = []

    async def step() -> None:
        __tracebackhide__ = True
        try:
            results.append((await func(), copy_context()))
        except BaseException as exc:
            errors.append(not_cancelling(exc))
        finally:
            over.set()

    spawn_step(step, name)
    await over.wait()
    if errors:
        try:
            raise errors[0]
        finally:
            del errors  # or this frame and the traceback keep one another alive
    return results[0]


class FixtureTask:
    """Holds an async generator fixture open over its ``yield``, in a task of its own.

    A crash of what the fixture holds - a child of its task group - ends the fixture's task, not the
    test's; the test that is running is told, if it uses the fixture, and otherwise the next one
    that does.

    :param name: the fixture's name
    :param generator: the fixture, called and not begun
    :param watch: over the fixture's own steps, its setup and its teardown
    :param test: tells which test is running
    """

    def __init__(
        self,
        name: str,
        generator: AsyncGenerator[Any, None],
        watch: Watch,
        test: Callable[[], object],
    ) -> None:
        self.name = name
        self._test = test
        self._generator = generator
        self._code = getattr(generator, "ag_code", None)  # another kind of generator may have none
        self._watch = watch
        self._ready = Event()
        self._resume = Event()
        self._over = Event()
        self._in_step = True
        self._value: Any = None
        self._context: Context | None = None
        self._tokens: list[tuple[ContextVar[Any], Token[Any]]] = []
        self._error: BaseException | None = None
        #: what it met at its yield that nobody has been told of yet
        self._unheard: list[Crash] = []
        #: the test in which it was over
        self._ended_in: object = None
        #: why it is of no more use although nobody has ended it
        self._cause: BaseException | None = None
        self._ended_early = False
        #: what of it has crashed, in words, if that was only a part
        self._lost: str | None = None

    async def start(self) -> Any:
        """Run the fixture to its ``yield``; return what it yields, or raise what it raises."""
        __tracebackhide__ = True
        spawn_step(self._main, f"fixture {self.name!r}")
        await self._ready.wait()
        if self._context is not None:
            self._tokens = adopt(self._context)
        self._raise()
        return self._value

    @property
    def lasting(self) -> bool:
        """Whether what is started now is for every test that uses the fixture: in its setup."""
        return self._in_step and not self._ready.is_set()

    async def finish(self) -> None:
        """Run the fixture from its ``yield`` to its end; raise what it raises."""
        __tracebackhide__ = True
        self._resume.set()
        await self._over.wait()
        for variable, token in reversed(self._tokens):
            with suppress(ValueError):  # after Ctrl-C, another task of AnyIO's runs the teardown
                variable.reset(token)
        self._tokens.clear()
        self._value = self._context = None  # they may refer to this
        self._raise()
        unheard = self._take_unheard()
        if unheard:
            failure = failure_of(unheard)
            assert failure is not None
            raise failure

    def notice(self, crash: Crash) -> None:
        """Take a crash of something that the fixture holds open."""
        if self._in_step:
            self._watch.notice(crash)
            return
        if crash.lasting and not self._ended_early:
            self._ended_early = True
            self._ended_in = self._test()
            self._cause = crash.exception
            self._lost = crash.origin
        listening = listening_watch()
        if listening is not None and listening.hears(self):
            listening.notice(crash)
        else:
            self._unheard.append(crash)
            leave_unheard(self, crash)

    def check(self) -> None:
        """Raise what has happened to the fixture at its ``yield`` and is not told yet.

        Raises :exc:`FixtureEnded`, every time, if the fixture is of no more use; but first, in the
        test in which it came to that, and if that was a skip or the like, the cause itself.
        """
        __tracebackhide__ = True
        failure = failure_of(self._take_unheard())
        if self._ended_early and (
            failure is None
            or (self._ended_in is not self._test() and isinstance(failure, Exception))
        ):
            raise FixtureEnded(self._why_ended()) from self._cause
        if failure is not None:
            raise failure

    def _why_ended(self) -> str:
        if self._lost is None:
            lines = [f"the fixture {self.name!r} has ended before this test"]
        else:
            lines = [f"the fixture {self.name!r} has lost a task before this test"]
        code = self._code
        if code is not None:
            place = Place(code.co_filename, code.co_firstlineno, self.name)
            lines.append(f"  the fixture: {place.position}")
        if self._lost is not None:
            lines.append(f"  the task: {shorten(self._lost, WIDTH)}")
        if self._cause is not None:
            lines.append(f"  the cause: {shorten(repr(self._cause), WIDTH)}")
            line = innermost_user_line(self._cause.__traceback__)
            if line is not None:
                lines.append(f"    raised at {shorten(line, WIDTH)}")
        if self._lost is None:
            lines += [
                "A task group or cancel scope that it holds open over its yield was cancelled.",
                "Mend the cause, or catch it inside of the fixture; or give it function scope,",
                "so that each test has its own",
            ]
        else:
            lines += [
                "It has started that task in its setup, and nothing starts it again.",
                "Mend the cause, or catch it inside of the task; or give the fixture function",
                "scope, so that each test has its own",
            ]
        return "\n".join(lines)

    def _take_unheard(self) -> list[Crash]:
        unheard = [crash for crash in self._unheard if not crash.reported]
        for crash in unheard:
            crash.reported = True
        return unheard

    def _raise(self) -> None:
        __tracebackhide__ = True
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error

    async def _main(self) -> None:
        task_id = current_task_id()
        _fixture_tasks[task_id] = self
        error: BaseException | None = None
        try:
            self._watch.enter()
            try:
                await self._hold()
            except BaseException as exc:
                error = exc
            if self._watch.leave(error):
                error = None
            failure = self._watch.failure(error)
            if not self._ready.is_set() or self._resume.is_set():
                self._error = None if failure is None else not_cancelling(failure)
            else:
                self._ended_early = True
                self._ended_in = self._test()
                if failure is not None:
                    self._cause = sole(failure)
                    self.notice(Crash(self._cause, f"the fixture {self.name!r}"))
            del failure, error
        finally:
            del _fixture_tasks[task_id]
            del self._generator  # its loop would else have to close it once more at its own end
            self._ready.set()
            self._over.set()

    async def _hold(self) -> None:
        __tracebackhide__ = True
        if not await self._step():
            raise ValueError(f"the fixture {self.name!r} did not yield a value")
        if not self._watch.interrupted:
            self._context = copy_context()
            self._ready.set()
        # else it came too late to end the setup in its code, and ends it here.
        try:
            await self._resume.wait()
        except get_cancelled_exc_class() as exc:
            # What it holds open has been cancelled: it meets this where it stands.
            try:
                await self._generator.athrow(exc)
            except StopAsyncIteration:
                return
        else:
            if not await self._step():
                return
        # Before it is closed, which takes its frame. Another kind of generator may have none.
        frame = getattr(self._generator, "ag_frame", None)
        where = "" if frame is None else f", at {place_of(frame)}"
        del frame
        await self._generator.aclose()
        raise RuntimeError(
            f"the fixture {self.name!r} has a second yield{where}\n"
            "A fixture yields once; what comes after that is its teardown"
        )

    async def _step(self) -> bool:
        """Run the generator to its next ``yield``; tell whether there was one."""
        __tracebackhide__ = True
        self._in_step = True
        try:
            # The end of a fixture is not that of what others hold; they have an end of their own.
            with self._watch.listening(from_before=not self._ready.is_set()):
                self._value = await self._watch.interruptible(self._generator.__anext__)
        except StopAsyncIteration:
            return False
        finally:
            self._in_step = False
        return True


class FixtureEnded(RuntimeError):
    """A fixture of wider scope, or what it has started, is over before a test that uses it."""


#: The fixtures that are held open, by the ids of their tasks.
_fixture_tasks: dict[int, FixtureTask] = {}


def current_fixture() -> FixtureTask | None:
    """The fixture whose own task this is."""
    return _fixture_tasks.get(current_task_id())


def adopt(context: Context) -> list[tuple[ContextVar[Any], Token[Any]]]:
    """Set the variables of ``context`` here, where they differ; return what undoes it."""
    own = copy_context()
    return [
        (variable, variable.set(value))
        for variable, value in context.items()
        if variable not in own or own[variable] is not value
    ]


def spawn_step(func: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
    """Start a task that may leave its cancel scopes in any state. ``func`` raises nothing."""
    if current_library() != "trio":
        spawn_host(func, name)
        return
    import trio

    async def around() -> None:
        # trio ends a task that leaves a nursery open with an error, and a system task that ends
        # with an error ends the whole run (trio/_core/_run.py, Runner.task_exited).
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(func, name=name)
        except ExceptionGroup as group:
            if group.split(RuntimeError)[1] is not None:
                raise

    spawn_host(around, f"around {name}")
