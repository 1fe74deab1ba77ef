"""A check, what it is given, and how it says that a promise was broken."""

from __future__ import annotations

import _thread
import functools
import gc
import inspect
import math
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Generic, TypeVar
from unittest import SkipTest

from anyio import (
    CancelScope,
    Event,
    TypedAttributeLookupError,
    TypedAttributeProvider,
    TypedAttributeSet,
    aclose_forcefully,
    create_task_group,
    get_cancelled_exc_class,
    get_running_tasks,
    move_on_after,
    sleep_forever,
    typed_attribute,
)
from anyio.abc import AsyncResource, TaskGroup
from anyio.lowlevel import checkpoint

from ..backends import call_soon_from_thread, time_is_virtual
from ..descriptors import open_sockets
from ..diagnostics import LoopView, format_tasks, innermost_project_line
from ..diagnostics.stacks import place_of
from ..settling import settle
from ..watch import add_note, sole

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

T = TypeVar("T")
Resource = TypeVar("Resource", bound=AsyncResource)
Kind = TypeVar("Kind", bound="Check[Any]")

#: Makes two streams that are connected to one another, new ones at each call.
MakePair = Callable[[], Awaitable[tuple[Resource, Resource]]]

#: How often a check looks whether something has gone, and lets everything else run in between.
LOOKS = 20

#: How often an operation is tried until another task has had a turn during one of them. Once need
#: not be enough: trio runs the tasks of one turn in any order.
TRIES = 24

#: Seconds that a check may take, if nothing else is said. Long, since it is only for what hangs.
TIMEOUT = 60.0

ROOM = __name__.rpartition(".")[0]

#: The name of the task that ends a check after its time, before that of the check.
TIMER = "the time-out of"

#: Turns of the event loop in which what has been cancelled ends.
TURNS_TO_END = 1000


class CannotBeBlocked(SkipTest):
    """A ``send`` of these streams does not wait for the peer."""


class PromiseBroken(AssertionError):
    """What was checked does not keep its contract. The message says which promise, and how.

    :ivar expected: what the promise means for what was done
    :ivar seen: what happened
    :ivar check: the check that found it, or whose promise it is; ``None`` until that is known
    """

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(expected, seen)
        self.expected: str = expected
        self.seen: str = seen
        self.check: Check[Any] | None = None
        #: what was done before, a line each, and the seed that does it again; if it was fuzzed
        self.steps: tuple[str, ...] = ()
        self.seed: int | str | None = None
        #: the rest of what replays it
        self.replay: str = ""
        #: it stands for an exception that no check has looked for
        self.unexpected: bool = False
        #: which of the two streams of a pair the check called its first
        self.turned: bool = False
        #: the line of the code that was checked which raised what was seen
        self.place: str | None = None

    @classmethod
    def by(cls, error: BaseException, expected: str, seen: str) -> PromiseBroken:
        """What ``error`` is where something else was expected."""
        broken = cls(expected, seen)
        traceback = error.__traceback__
        broken.place = innermost_project_line(traceback) or _line_of_check(traceback)
        return broken

    def __str__(self) -> str:
        lines = []
        if self.check is not None:
            side = " (with the second stream of the pair as its first)" if self.turned else ""
            lines += [
                f"{self.check.name}{side}",
                f"  promised: {self.check.promise}",
                f"            ({self.check.source})",
            ]
        lines += [
            f"  {'after:' if number == 0 else '':9} {step}"
            for number, step in enumerate(self.steps)
        ]
        lines += [f"  expected: {self.expected}", f"  seen:     {self.seen}"]
        if self.place is not None:
            lines.append(f"            at {self.place}")
        if self.seed is not None:
            lines.append(f"  seed:     {self.seed!r} ({self.replay})")
        return "\n".join(lines)


class Pairs(Generic[Resource]):
    """What a check makes its streams with. They are closed when the block ends.

    ::

        async with make() as (first, second):
            ...
    """

    def __init__(
        self,
        make_pair: MakePair[Resource],
        clogged_pair: MakePair[Resource] | None,
        *,
        turned: bool,
    ) -> None:
        self._make_pair = make_pair
        self._clogged_pair = clogged_pair
        self._turned = turned
        self._open: list[Resource] = []
        self.was_clogged: bool = False
        #: what `make_pair` or `clogged_pair` has raised: no promise of the streams is broken by it
        self.error: BaseException | None = None

    def __call__(self) -> AbstractAsyncContextManager[tuple[Resource, Resource]]:
        return self._made_by(self._make_pair, "make_pair")

    @property
    def has_clogged(self) -> bool:
        return self._clogged_pair is not None

    def clogged(self) -> AbstractAsyncContextManager[tuple[Resource, Resource]]:
        """A pair in which neither side's ``send`` ends until the other side receives."""
        assert self._clogged_pair is not None
        self.was_clogged = True
        return self._made_by(self._clogged_pair, "clogged_pair")

    @asynccontextmanager
    async def _made_by(
        self, make: MakePair[Resource], name: str
    ) -> AsyncIterator[tuple[Resource, Resource]]:
        try:
            with waits_for(f"{name}()"):
                first, second = await made_pair(make, name)
        except Exception as exc:
            self.error = exc
            raise
        if self._turned:
            first, second = second, first
        self._open += (first, second)
        try:
            yield first, second
        finally:
            try:
                await aclose_forcefully(first)
            finally:
                await aclose_forcefully(second)
                self._open.clear()

    async def abandon(self) -> None:
        """Close what is open, though it is in use: the only way to end what cannot be cancelled."""
        for stream in self._open:
            with suppress(Exception):
                await aclose_forcefully(stream)


class Check(Generic[T]):
    """One promise, and the code that finds out whether it is kept. Call it to check.

    :ivar name: what it is called, in one word
    :ivar promise: the sentence of the contract
    :ivar source: where that stands
    """

    def __init__(
        self, function: Callable[[T], Awaitable[None]], *, promise: str, source: str
    ) -> None:
        self._function = function
        self.name: str = function.__name__
        self.promise: str = promise
        self.source: str = source
        self.__doc__ = inspect.getdoc(function)

    async def look(self, subject: T, *, timeout: float, turned: bool = False) -> None:
        """Raise :exc:`PromiseBroken` if the promise is not kept within ``timeout`` seconds."""
        __tracebackhide__ = True
        checked_timeout(timeout)
        waits: dict[object, Callable[[], str]] = {}
        _waits.set(waits)
        bound = _Bound(self.name, timeout, waits, functools.partial(self._abandon, subject))
        error: BaseException | None = None
        broken: PromiseBroken | None = None
        async with create_task_group() as group:
            group.start_soon(bound.keep, name=bound.name)
            try:
                with bound.scope:
                    await self._function(subject)
            except get_cancelled_exc_class():
                raise
            except BaseException as exc:
                error = exc
                only = sole(exc)
                if isinstance(only, PromiseBroken):  # also if the task group ends with another one
                    only.check, only.turned = self, turned
            bound.over = True
            group.cancel_scope.cancel()
        if error is not None:
            if self._is_outside(error, subject):
                raise sole(error)
            broken = _broken_by(error)
        if bound.seen is not None and (broken is None or broken.unexpected):
            # What it raises after its time is only what the end has made of it.
            broken = PromiseBroken("all that is done here comes to an end", bound.seen)
            add_note(broken, bound.tree)
        if broken is not None:
            broken.check, broken.turned = self, turned
            raise broken

    async def _abandon(self, subject: T) -> None:
        """End what is done with ``subject`` when a cancellation does not."""

    def _is_outside(self, error: BaseException, subject: T) -> bool:
        """Whether ``error`` is of what makes the streams, and not of the streams."""
        return False

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class PairCheck(Check[Pairs[Resource]]):
    """A check of two streams that are connected to one another.

    ``await check(make_pair)`` makes pairs by ``await make_pair()`` and looks at them from both
    sides.

    :ivar symmetric: whether one look sees both sides
    """

    def __init__(
        self,
        function: Callable[[Pairs[Resource]], Awaitable[None]],
        *,
        promise: str,
        source: str,
        symmetric: bool = False,
    ) -> None:
        super().__init__(function, promise=promise, source=source)
        self.symmetric: bool = symmetric

    async def __call__(
        self,
        make_pair: MakePair[Resource],
        *,
        clogged_pair: MakePair[Resource] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        """Check that the promise is kept.

        :param make_pair: an async callable that returns two connected streams
        :param clogged_pair: the same, but no ``send`` on either of them ends until the other one
            receives; by default the check fills a pair up itself
        :param timeout: seconds for each of the two looks
        :raises PromiseBroken: if it is not kept
        :raises unittest.SkipTest: if it cannot be found out with these streams; pytest skips then
        :raises TypeError: if ``make_pair`` does not make two streams; what it raises comes out as
            it is
        :raises ValueError: if ``timeout`` is not positive
        """
        __tracebackhide__ = True
        checked_timeout(timeout)
        checked_maker(make_pair, "make_pair")
        if clogged_pair is not None:
            checked_maker(clogged_pair, "clogged_pair")
        skip: SkipTest | None = None
        for turned in (False,) if self.symmetric else (False, True):
            pairs = Pairs(make_pair, clogged_pair, turned=turned)
            try:
                await self.look(pairs, timeout=timeout, turned=turned)
            except CannotBeBlocked as exc:
                if pairs.was_clogged:
                    raise ValueError(
                        "clogged_pair has to make streams on which no send() ends until the other "
                        "side receives, and one ended"
                    ) from None
                skip = exc
            except SkipTest as exc:
                if pairs.error is not None:
                    raise
                skip = exc
        if skip is not None:
            raise skip

    async def _abandon(self, subject: Pairs[Resource]) -> None:
        await subject.abandon()

    def _is_outside(self, error: BaseException, subject: Pairs[Resource]) -> bool:
        return subject.error is sole(error)


class _Bound:
    """Ends a check that does not end by itself.

    :ivar seen: what was found when the time was up; ``None`` if that was never so
    :ivar tree: what was running then
    """

    def __init__(
        self,
        check: str,
        timeout: float,
        waits: dict[object, Callable[[], str]],
        abandon: Callable[[], Awaitable[None]],
    ) -> None:
        self.name: str = f"{TIMER} {check}"
        self.scope: CancelScope = CancelScope()
        self.over: bool = False
        self.seen: str | None = None
        self.tree: str = ""
        self._timeout = timeout
        self._waits = waits
        self._abandon = abandon

    async def keep(self) -> None:
        with move_on_after(self._timeout) as waiting:  # which may be infinite
            with _in_real_time(self._timeout, waiting.cancel):
                await sleep_forever()
        found = dict.fromkeys(what() for what in self._waits.values())
        what = f"it still waits for {' and '.join(found)}" if found else "something still waits"
        self.seen = f"after {self._timeout:g} s {what}"
        self.tree = format_tasks(LoopView.here(), hide={self.name})
        self.scope.cancel()
        await settle(turns=TURNS_TO_END)
        if not self.over:
            self.seen += ", and goes on when it is cancelled"
            await self._abandon()


@contextmanager
def _in_real_time(seconds: float, call: Callable[[], object]) -> Iterator[None]:
    """Where time is virtual, ``call`` in the event loop after so many real seconds, too.

    Virtual time does not pass while something runs, and what never blocks runs for ever.
    """
    if not time_is_virtual() or math.isinf(seconds):
        yield
        return
    over = _thread.allocate_lock()
    over.acquire()
    call_soon = call_soon_from_thread()

    def wait() -> None:
        if not over.acquire(timeout=min(seconds, threading.TIMEOUT_MAX)):
            with suppress(RuntimeError):  # the event loop has ended
                call_soon(call)

    # Not a `threading.Thread`: it is not the test's.
    _thread.start_new_thread(wait, ())
    try:
        yield
    finally:
        over.release()


class CheckList(Generic[T, Kind]):
    """The checks of one kind of thing, in order. Its call is a decorator that makes one more.

    :param kind: the class of the checks
    """

    def __init__(self, kind: Callable[..., Kind]) -> None:
        self._kind = kind
        self.all: tuple[Kind, ...] = ()

    def __call__(
        self, promise: str, source: str, **options: bool
    ) -> Callable[[Callable[[T], Awaitable[None]]], Kind]:
        def made(function: Callable[[T], Awaitable[None]]) -> Kind:
            check = self._kind(function, promise=promise, source=source, **options)
            self.all += (check,)
            return check

        return made


class Checks(CheckList[Pairs[Resource], PairCheck[Resource]]):
    """The checks of one kind of stream."""

    def __init__(self) -> None:
        super().__init__(PairCheck[Resource])


async def each_of(
    checks: tuple[Any, ...], *subject: object, **options: Any
) -> tuple[tuple[Any, SkipTest], ...]:
    """Run all the checks; raise what was broken, if anything; return what could not be checked.

    If none could be checked that is no success: then the first skip is raised.
    """
    __tracebackhide__ = True
    broken: list[PromiseBroken] = []
    skipped: list[tuple[Any, SkipTest]] = []
    for check in checks:
        try:
            await check(*subject, **options)
        except PromiseBroken as exc:
            broken.append(exc)
        except SkipTest as exc:
            skipped.append((check, exc))
    if len(broken) == 1:
        raise broken[0]
    if broken:
        raise BaseExceptionGroup(f"{len(broken)} of {len(checks)} promises were broken", broken)
    if checks and len(skipped) == len(checks):
        raise skipped[0][1]
    return tuple(skipped)


def checked_maker(make: object, name: str, returns: str = "two streams") -> None:
    if not callable(make):
        raise TypeError(f"{name} has to be an async callable that returns {returns}, not {make!r}")


async def made_pair(make: MakePair[Resource], name: str) -> tuple[Resource, Resource]:
    """The streams that ``make`` makes. Raises :exc:`TypeError` if it makes anything else."""
    made: Any = make()
    if not inspect.isawaitable(made):
        raise TypeError(f"{name} has to be async: it returned {made!r}, which cannot be awaited")
    pair: Any = await made
    if (
        isinstance(pair, (tuple, list))
        and len(pair) == 2
        and all(callable(getattr(each, "aclose", None)) for each in pair)
    ):
        return pair[0], pair[1]
    raise TypeError(f"{name} has to return two streams that are connected, not {pair!r}")


def checked_timeout(timeout: float) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout has to be a number of seconds, not {timeout!r}")
    if not timeout > 0:
        raise ValueError(f"timeout has to be a positive number of seconds, not {timeout!r}")


def _broken_by(error: BaseException) -> PromiseBroken:
    """What a check has raised, as what it means."""
    error = sole(error)
    if isinstance(error, PromiseBroken):
        return error
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            if isinstance(sole(each), PromiseBroken):
                broken = _broken_by(each)
                for other in error.exceptions:
                    if other is not each:
                        add_note(broken, f"(besides: {other!r})")
                return broken
    if isinstance(error, SkipTest) or not isinstance(error, Exception):
        raise error
    broken = PromiseBroken.by(error, "no exception here", f"{error!r}")
    broken.unexpected = True
    broken.__cause__ = error
    return broken


def _line_of_check(traceback: TracebackType | None) -> str | None:
    """The line of the check that ``traceback`` went through."""
    while traceback is not None:
        name = str(traceback.tb_frame.f_globals.get("__name__", ""))
        if name.startswith(ROOM) and name != __name__:
            return str(place_of(traceback.tb_frame, traceback.tb_lineno))
        traceback = traceback.tb_next
    return None


# What checks are made of

#: What the check that is running waits for.
_waits: ContextVar[dict[object, Callable[[], str]]] = ContextVar("_waits")


@contextmanager
def waits_for(what: str | Callable[[], str]) -> Iterator[None]:
    """What is done in this block, in words, for the message if it does not come to its end."""
    waits, key = _waits.get({}), object()
    waits[key] = (lambda: what) if isinstance(what, str) else what
    try:
        yield
    finally:
        del waits[key]


async def raises(
    kinds: type[Exception] | tuple[type[Exception], ...], awaitable: Awaitable[object], what: str
) -> Exception:
    """Expect ``awaitable`` to raise one of ``kinds``; return what it raised.

    :param what: what is awaited, in words: ``"receive() after the peer's aclose()"``
    """
    __tracebackhide__ = True
    expected = f"{what} raises {in_words(kinds)}"
    try:
        with waits_for(what):
            result = await awaitable
    except kinds as exc:
        return exc
    except (PromiseBroken, get_cancelled_exc_class()):
        raise
    except Exception as exc:
        raise PromiseBroken.by(exc, expected, f"it raised {exc!r}") from exc
    raise PromiseBroken(expected, f"it returned {shown(result)}")


def expect(condition: bool, expected: str, seen: str) -> None:
    """Raise :exc:`PromiseBroken` unless ``condition``."""
    __tracebackhide__ = True
    if not condition:
        raise PromiseBroken(expected, seen)


class Waiting(Generic[T]):
    """A call that runs in a task of its own until it is blocked, or is over.

    :ivar result: what it has returned
    :ivar error: what it has raised
    """

    def __init__(self, call: Callable[[], Awaitable[T]], what: str) -> None:
        self._call = call
        self.what: str = what
        self.result: T | None = None
        self.error: BaseException | None = None
        self._ended = Event()

    @property
    def over(self) -> bool:
        return self._ended.is_set()

    @classmethod
    async def begin(
        cls,
        group: TaskGroup,
        call: Callable[[], Awaitable[T]],
        what: str,
        *,
        turns: int | None = None,
    ) -> Waiting[T]:
        """Start it, and return when every other task is blocked.

        :param turns: return after so many turns of the event loop, whatever still runs
        """
        waiting = cls(call, what)
        group.start_soon(waiting._run, name=what)
        await settle(turns=turns)
        return waiting

    async def _run(self) -> None:
        try:
            self.result = await self._call()
        except get_cancelled_exc_class():
            raise
        except Exception as exc:
            self.error = exc
        finally:
            self._ended.set()

    async def end(self) -> None:
        """Return when it is over."""
        with waits_for(self.what):
            await self._ended.wait()

    @property
    def state(self) -> str:
        if not self.over:
            return "it still waits"
        if self.error is not None:
            return f"it raised {self.error!r}"
        return f"it returned {shown(self.result)}"

    def expect_waiting(self) -> None:
        __tracebackhide__ = True
        if self.over:
            raise self._unlike(f"{self.what} waits") from self.error

    def _unlike(self, expected: str) -> PromiseBroken:
        if self.error is not None:
            return PromiseBroken.by(self.error, expected, self.state)
        return PromiseBroken(expected, self.state)

    async def expect_raised(
        self, kinds: type[Exception] | tuple[type[Exception], ...], when: str
    ) -> None:
        """Expect it to be over, with one of ``kinds``, as soon as every other task is blocked."""
        __tracebackhide__ = True
        await settle()
        if not isinstance(self.error, kinds):
            expected = f"{self.what} raises {in_words(kinds)} {when}"
            raise self._unlike(expected) from self.error


@asynccontextmanager
async def tasks() -> AsyncIterator[TaskGroup]:
    """A task group that is cancelled when the block ends."""
    async with create_task_group() as group:
        yield group
        group.cancel_scope.cancel()


@asynccontextmanager
async def closed_at_the_end(*resources: AsyncResource) -> AsyncIterator[None]:
    """Close each of them forcefully when the block ends, the first one first."""
    async with AsyncExitStack() as stack:
        for resource in reversed(resources):
            stack.push_async_callback(aclose_forcefully, resource)
        yield


@asynccontextmanager
async def leaving_nothing(what: str) -> AsyncIterator[None]:
    """Expect that no socket is open and no task runs after the block that was not before it.

    Nor may a socket have been left to the garbage collector, which Python tells by a warning. Other
    descriptors are the event loop's, which may need one more than before.

    :param what: what the block does, in words: ``"a cancelled connect()"``
    """
    __tracebackhide__ = True
    await settle()
    sockets = open_sockets()
    before = {task.id for task in get_running_tasks()}
    left: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        try:
            yield
            for _ in range(LOOKS):  # the other side may learn of the end a little later
                await settle()
                opened = open_sockets().items() - sockets.items()
                started = [task for task in get_running_tasks() if task.id not in before]
                left = [f"a socket (descriptor {number})" for number, _ in sorted(opened)]
                left += [f"the task {task.name!r}" for task in started]
                if not left:
                    break
                await checkpoint()
        finally:
            if left or sys.exc_info()[1] is not None:
                gc.collect()  # a warning that comes later would be told of something else
    for each in caught:
        if "socket" in str(each.message):
            left.append(str(each.message).replace("unclosed", "an unclosed"))
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    if left:
        raise PromiseBroken(f"nothing is left after {what}", f"there was {' and '.join(left)}")


class _Unknown(TypedAttributeSet):
    attribute: str = typed_attribute()


def expect_attributes(provider: TypedAttributeProvider) -> None:
    """Expect that each attribute that is listed has a value, and that an unknown one has none."""
    __tracebackhide__ = True
    listed: dict[Any, Callable[[], Any]] = {**provider.extra_attributes}
    for attribute, value in listed.items():
        try:
            value()
        except KeyError:
            continue  # listed, and not there: `extra` then gives the default
        provider.extra(attribute)
    default = object()
    found = provider.extra(_Unknown.attribute, default)
    expect(found is default, "extra(unknown, default) is the default", shown(found))
    try:
        found = provider.extra(_Unknown.attribute)
    except TypedAttributeLookupError:
        return
    expected = "extra(unknown) raises TypedAttributeLookupError"
    raise PromiseBroken(expected, f"it returned {shown(found)}")


def in_words(kinds: type[Exception] | tuple[type[Exception], ...]) -> str:
    names = [kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,))]
    return " or ".join(names)


#: Bytes of a value that a message shows.
ENOUGH = 20


def shown(value: object) -> str:
    """A value in a message: not the whole of a megabyte."""
    if isinstance(value, (bytes, bytearray, memoryview)) and len(value) > ENOUGH:
        return f"{len(value)} bytes, {bytes(value[:ENOUGH])!r}..."
    return repr(value)
