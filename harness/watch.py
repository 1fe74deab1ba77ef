"""Running a piece of test code so that what goes wrong elsewhere ends it, and is what it raises.

A crash in a handler must end the test body at once, and be the test's failure. The two meet here:
whoever catches a crash hands it to a :class:`Watch`, which cancels the code that it watches and
raises the crash in the place of the cancellation. Timeouts and Ctrl-C take the same way.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

from anyio import (
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    ConnectionFailed,
    EndOfStream,
    IncompleteRead,
    create_task_group,
    current_effective_deadline,
    get_cancelled_exc_class,
)

from .backends import current_loop, current_task_id
from .diagnostics import end_in_user_code, innermost_project_line, was_on_its_way_out
from .leaks.cancel_scopes import open_in_this_task
from .settling import settle

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

T = TypeVar("T")

#: Turns of the event loop that a finished body grants to a crash that is already on its way.
TURNS_FOR_A_CRASH = 64


class HasEnded(ConnectionFailed):
    """A server cannot be connected to, because it has ended by itself."""


#: What a client sees when the other side of its connection crashes.
CONSEQUENCES = (
    HasEnded,
    EndOfStream,
    BrokenResourceError,
    ClosedResourceError,
    IncompleteRead,
    ConnectionError,
)


#: What ends the whole run, whatever else went wrong. The pytest plugin adds pytest's own.
FINAL: list[type[BaseException]] = [KeyboardInterrupt, SystemExit]


#: An attribute of what ends the run and is being raised: it may come out of the loop later still.
TOLD = "_told_by_the_harness"


class Crash:
    """An exception that ended something supervised, and where it came from.

    :param origin: in words; empty for what comes from outside of all code, such as a time-out
    :param lasting: it ended something that a fixture had started for every test that uses it
    """

    __slots__ = ("exception", "lasting", "origin", "reported")

    def __init__(self, exception: BaseException, origin: str, *, lasting: bool = False) -> None:
        self.exception: BaseException = exception
        self.origin: str = origin
        self.lasting: bool = lasting
        #: a watch has taken it and will raise it
        self.reported: bool = False


class Watch:
    """Runs one piece of test code so that a crash elsewhere ends it and is what it raises.

    :param hears: tells whether the crashes of a fixture that stands at its ``yield`` are this
        code's failure; of every fixture's by default
    :param what: what messages call the code
    """

    def __init__(
        self, hears: Callable[[object], bool] = lambda _: True, what: str = "the test"
    ) -> None:
        self.hears = hears
        self.what = what
        self._scope = CancelScope()
        #: the task that runs the code
        self.task_id: int = 0
        #: whether the code, or the step of it that was running, has come to its end
        self.over: bool = False
        #: called when it has, by whoever waits for that in another thread
        self.on_over: Callable[[], object] | None = None
        self._entered = False
        self._crashes: list[Crash] = []
        self._late: list[BaseException] = []
        #: blocks that the watched code has entered in its own task and not left yet
        self._blocks: list[Watch] = []
        #: what was on its way out of the watched code when it was cancelled
        self._unwinding: BaseException | None = None
        self._failed_first = False

    async def run(self, body: Callable[[], Awaitable[T]]) -> T:
        """Await ``body()``; raise what it raised, or what crashed meanwhile, or both in a group."""
        __tracebackhide__ = True
        error: BaseException | None = None
        result: T | None = None
        with self.listening(from_before=True):
            self.enter()
            try:
                result = await self.interruptible(body)
                await settle(turns=TURNS_FOR_A_CRASH)
            except BaseException as exc:
                error = exc
            if self.leave(error):
                error = None
            if error is not None and not self._crashes and isinstance(error, Exception):
                # A client's EndOfStream may be the trace of a crash that is not recorded yet.
                self._failed_first = True
                if is_consequence(error):
                    await hear_from_elsewhere()
            if error is not None or self._crashes:
                with CancelScope(shield=True):
                    await settle(turns=TURNS_FOR_A_CRASH)
        failure = self.failure(error)
        if failure is not None:
            try:
                raise failure
            finally:
                del failure, error  # or this frame and the traceback keep one another alive
        return cast(T, result)

    async def interruptible(self, body: Callable[[], Awaitable[T]]) -> T:
        """Await ``body()``; remember where it was, and what it was raising, if a crash ends it."""
        __tracebackhide__ = True
        try:
            return await body()
        except get_cancelled_exc_class() as exc:
            # Leaving an `async with` after a failed assertion can itself make a handler crash. The
            # cancellation then takes the place of the assertion, which stays in its context.
            if self._crashes:
                exc, self._unwinding = _unwound_by(exc)
                crash = self._crashes[0].exception
                place = innermost_project_line(exc.__traceback__)
                if place is None:
                    pass
                elif isinstance(crash, KeyboardInterrupt) and crash.__traceback__ is None:
                    # Ctrl-C has no line of its own. pytest names the last one.
                    crash.__traceback__ = exc.__traceback__
                    end_in_user_code(crash)
                else:
                    add_note(crash, f"({self.what} was at {place})")
            raise

    @contextmanager
    def listening(self, *, from_before: bool = False) -> Iterator[None]:
        """Be the one that hears of crashes of everything that fixtures hold open.

        :param from_before: also of those that came while nothing was listening
        """
        loop = _loop()
        outer, loop.listening = loop.listening, self
        self.over = False
        while loop.pending:
            self.notice(loop.pending.pop(0))
        loop.unheard = [each for each in loop.unheard if not each[1].reported]
        for fixture, crash in loop.unheard:
            if from_before and self.hears(fixture):
                self.notice(crash)
        try:
            yield
        finally:
            self.over = True
            loop.listening = outer
            if self.on_over is not None:
                self.on_over()

    def enter(self) -> None:
        """Watch the block that begins here, in this task."""
        self.task_id = current_task_id()
        outer = _loop().listening
        if outer is not None and outer is not self and outer.task_id == self.task_id:
            outer._blocks.append(self)
        self._scope.__enter__()
        self._entered = True

    def leave(self, error: BaseException | None = None) -> bool:
        """End that block; tell whether ``error`` was only the cancellation by a crash.

        Blocks inside of it that were meant to outlive it, as when a body calls a fixture's
        factory, stop being cancellable: a cancel scope cannot be left after the one around it.
        """
        if not self._entered or current_task_id() != self.task_id:
            # unittest.IsolatedAsyncioTestCase leaves in another task than it entered in, and so
            # does what a test enters for a fixture to leave. The scope went with its task.
            return False
        self._entered = False
        for block in reversed(self._blocks):
            block.leave()
        outer = _loop().listening
        if outer is not None and self in outer._blocks:
            outer._blocks.remove(self)
        traceback = None if error is None else error.__traceback__
        try:
            return bool(self._scope.__exit__(type(error) if error else None, error, traceback))
        except RuntimeError as exc:
            if exc is error:
                return False
            self.also(
                ScopeLeftOpen(
                    "a cancel scope or task group was entered and never left: write `with` or "
                    "`async with`, or leave it in a `finally`"
                    + "".join(f"\nIt was entered at {place}" for place in open_in_this_task())
                )
            )
            return False

    @property
    def lasting(self) -> bool:
        """Whether what is started now is for more than one test: what watches one never is."""
        return False

    @property
    def interrupted(self) -> bool:
        """Whether a crash has ended the code."""
        return bool(self._crashes)

    def also(self, error: BaseException) -> None:
        """Remember an error of the end of the block."""
        self._late.append(error)

    def notice(self, crash: Crash) -> None:
        """Take ``crash`` and cancel the body."""
        crash.reported = True
        for known in self._crashes:
            if known.exception is crash.exception:  # it has come out of the event loop, too
                known.origin = known.origin or crash.origin
                return
        self._crashes.append(crash)
        self._scope.cancel()

    def failure(self, error: BaseException | None) -> BaseException | None:
        """The one exception to raise for ``error``, raised by the body, and the crashes."""
        crashes = self._crashes
        handled = (*CONSEQUENCES, get_cancelled_exc_class())
        if error is not None:
            error = unwrapped(error)
            if any(error is unwrapped(crash.exception) for crash in crashes):
                error = None
        if error is None and self._unwinding and not isinstance(self._unwinding, handled):
            error = self._unwinding
            self._failed_first = True
        if not crashes:
            return failure_of([], error, *self._late)
        if error is None or is_final(error):
            return failure_of(crashes, error, *self._late)
        if self._failed_first and all(is_consequence(crash.exception) for crash in crashes):
            # The body failed by itself, and its handlers met what it left behind.
            for crash in crashes:
                note = f"({crash.origin} then raised {crash.exception!r}, as could be expected)"
                add_note(error, note)
            crashes = []
        elif is_consequence(error) or not isinstance(error, Exception):
            # The body only met what the crash left behind, or was about to end as a skip.
            note = f"({self.what} then raised {error!r}, as could be expected)"
            add_note(crashes[0].exception, note)
            error = None
        return failure_of(crashes, error, *self._late)


class ScopeLeftOpen(RuntimeError):
    """Test code ended inside of a cancel scope or task group that it had entered."""


class _Loop:
    """What is known of one event loop."""

    def __init__(self) -> None:
        #: a test body or a step of a fixture, whichever runs at this moment
        self.listening: Watch | None = None
        #: crashes of the loop that came while nothing was listening, for whatever listens next
        self.pending: list[Crash] = []
        #: crashes of what fixtures hold open that came while nothing that hears them was listening
        self.unheard: list[tuple[object, Crash]] = []
        #: waits a moment, each, for the end of something that runs outside of this process
        self.elsewhere: list[Callable[[], Coroutine[Any, Any, None]]] = []


#: AnyIO's ``RunVar`` would do, but it knows its loop only in a task, and crashes also come from
#: callbacks and from signal handlers.
_loops: WeakKeyDictionary[object, _Loop] = WeakKeyDictionary()


def _loop() -> _Loop:
    key = current_loop()
    try:
        return _loops[key]
    except KeyError:
        return _loops.setdefault(key, _Loop())


def listening_watch() -> Watch | None:
    """The watch over the test body, or over the fixture, that is running in this event loop."""
    return _loop().listening


@contextmanager
def running_elsewhere(moment: Callable[[], Coroutine[Any, Any, None]]) -> Iterator[None]:
    """While something runs whose connections may end before this event loop hears of its crash.

    :param moment: waits for that, a bounded time
    """
    loop = _loop()
    loop.elsewhere.append(moment)
    try:
        yield
    finally:
        loop.elsewhere.remove(moment)


async def hear_from_elsewhere() -> None:
    """Give what runs outside of this process a moment to be known as crashed."""
    moments = list(_loop().elsewhere)
    if moments:
        with CancelScope(shield=True):
            async with create_task_group() as tasks:
                for moment in moments:
                    tasks.start_soon(moment)


def leave_unheard(fixture: object, crash: Crash) -> None:
    """Keep a crash of what ``fixture`` holds open, for what listens next and hears the fixture."""
    loop = _loop()
    loop.unheard.append((fixture, crash))
    loop.pending = [each for each in loop.pending if each.exception is not crash.exception]


def is_final(error: BaseException) -> bool:
    """Whether ``error`` ends the whole run, whatever else went wrong."""
    return isinstance(error, tuple(FINAL))


def _unwound_by(cancellation: BaseException) -> tuple[BaseException, BaseException | None]:
    """The cancellation that came first, and what it took the place of on its way out.

    What waits on the way out of a cancelled block is cancelled again, with the first cancellation
    as its context. On trio the context may also be what the canceller was handling: it makes the
    exception in the task that cancels (trio/_core/_run.py, ``Task._attempt_abort``).
    """
    first = cancellation
    context = cancellation.__context__
    seen: set[int] = set()
    while context is not None and id(context) not in seen:
        seen.add(id(context))
        context = _of_the_body(context, replaced_by=first)
        if was_on_its_way_out(context, replaced_by=first):
            if not isinstance(context, (get_cancelled_exc_class(), GeneratorExit)):
                return first, context
            first = context
        context = context.__context__
    return first, None


def _of_the_body(error: BaseException, replaced_by: BaseException) -> BaseException:
    """Of the cancellations of a nursery, the one that was its body's; otherwise ``error``.

    AnyIO raises a new one for them all (anyio/_backends/_trio.py, ``TaskGroup.__aexit__``).
    """
    if isinstance(error, BaseExceptionGroup) and without_cancellation(error) is None:
        for each in _leaves(error):
            if was_on_its_way_out(each, replaced_by=replaced_by):
                return each
    return error


def is_consequence(error: BaseException | None) -> bool:
    """Whether ``error`` is only what the end of the other side looks like."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(CONSEQUENCES)[1] is None
    return isinstance(error, CONSEQUENCES)


def without_cancellation(error: BaseException) -> BaseException | None:
    """``error`` without the cancellations in it; ``None`` if there was nothing else.

    A trio nursery raises its children's cancellations and errors in one group.
    """
    cancelled = get_cancelled_exc_class()
    if isinstance(error, BaseExceptionGroup):
        return error.split(cancelled)[1]
    return None if isinstance(error, cancelled) else error


class StrayCancellation(Exception):
    """What a task waited for was cancelled, and the task was not."""


def is_asked_for(error: BaseException) -> bool:
    """Whether ``error``, which is handled, is a cancellation by a cancel scope around this task.

    asyncio has others: that of a future that is awaited, and that of ``task.cancel()``. In a task
    group of AnyIO's, one of them ends all other tasks, and nobody hears why
    (anyio/_backends/_asyncio.py, ``TaskGroup._spawn``).
    """
    cancelled = isinstance(error, get_cancelled_exc_class())
    return cancelled and current_effective_deadline() == -math.inf


def not_cancelling(error: BaseException) -> BaseException:
    """``error``, which has left a task; but no cancellation, which would cancel who waits for it.

    On asyncio, that is what comes of ``await`` on a task that somebody has cancelled.
    """
    if not isinstance(error, get_cancelled_exc_class()):
        return error
    kind = type(error)
    stray = StrayCancellation(
        f"what this waited for was cancelled ({kind.__module__}.{kind.__qualname__})"
    )
    stray.__suppress_context__ = True
    return stray.with_traceback(error.__traceback__)


def sole(error: BaseException) -> BaseException:
    """The one exception that a group, or a group of groups, holds; ``error`` if there are more."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def unwrapped(error: BaseException) -> BaseException:
    """What a group means that a task group has made of pytest's outcomes, of Ctrl-C or an exit.

    An outcome that is alone in it means what it would mean without the group; what ends the run
    does so in any company.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    found = list(_leaves(without_cancellation(error) or error))
    final = next(filter(is_final, found), None)
    if final is not None:
        for each in found:
            if each is not final:
                add_note(final, f"(besides: {each!r})")
        return final
    if len(found) == 1 and not isinstance(found[0], Exception):
        return found[0]
    return error


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def failure_of(crashes: list[Crash], *errors: BaseException | None) -> BaseException | None:
    """The crashes and ``errors`` as one exception: itself if there is one, else a group.

    What is no :exc:`Exception` - Ctrl-C, a time-out, pytest's skip - is raised alone, with the
    others as notes: a group of it would mean nothing to whoever handles it.
    """
    exceptions: list[BaseException] = []
    told: set[int] = set()
    for crash in crashes:
        exception = unwrapped(crash.exception)
        if crash.origin:
            add_note(exception, f"(raised in {crash.origin})")
    for each in (*(crash.exception for crash in crashes), *errors):
        if each is None:
            continue
        error = unwrapped(each)
        # What is in a group that a nursery has raised may have been told of by itself.
        if not told.issuperset(map(id, _leaves(error))):
            exceptions.append(error)
            told.update(map(id, _leaves(error)))
    cancelled = get_cancelled_exc_class()
    for exception in exceptions:
        if isinstance(exception.__context__, cancelled):
            exception.__suppress_context__ = True  # that it was raised while being cancelled
    special = sorted(
        (each for each in exceptions if not isinstance(each, Exception) or is_final(each)),
        key=is_final,
        reverse=True,
    )
    if special:
        for exception in exceptions:
            if exception is not special[0]:
                add_note(special[0], f"(besides: {exception!r})")
        special[0].__dict__[TOLD] = True
        return special[0]
    if len(exceptions) < 2:
        return exceptions[0] if exceptions else None
    return BaseExceptionGroup("several things went wrong in this test", exceptions)


def add_note(exception: BaseException, note: str) -> None:
    """``exception.add_note(note)``, on Python 3.10 too, and once only."""
    notes = getattr(exception, "__notes__", [])
    if note not in notes:
        exception.__dict__["__notes__"] = [*notes, note]


def interrupt(crash: Crash) -> None:
    """End the step that is running in this event loop, or else the next one, with ``crash``."""
    if is_final(crash.exception) and TOLD in crash.exception.__dict__:
        return
    loop = _loop()
    if loop.listening is None:
        loop.pending.append(crash)
    else:
        loop.listening.notice(crash)


def take_pending(event_loop: object) -> list[Crash]:
    """The crashes of an event loop for which no step has come; from outside of it, too."""
    loop = _loops.get(event_loop)
    if loop is None:
        return []
    pending, loop.pending = loop.pending, []
    return pending
