"""A check, what it is given, and how it says that a promise was broken."""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Generic, TypeVar
from unittest import SkipTest

from anyio import aclose_forcefully, create_task_group, get_cancelled_exc_class, move_on_after
from anyio.abc import AsyncResource, TaskGroup

from ..diagnostics import innermost_project_line
from ..settling import settle
from ..watch import add_note, sole

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

T = TypeVar("T")
Resource = TypeVar("Resource", bound=AsyncResource)

#: Makes two streams that are connected to one another, new ones at each call.
MakePair = Callable[[], Awaitable[tuple[Resource, Resource]]]

#: Seconds that a check may take, if nothing else is said. Long, since it is only for what hangs.
TIMEOUT = 60.0


class PromiseBroken(AssertionError):
    """What was checked does not keep its contract. The message says which promise, and how.

    :ivar expected: what the promise means for what was done
    :ivar seen: what happened
    :ivar check: the check that found it; ``None`` until that is known
    """

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(expected, seen)
        self.expected: str = expected
        self.seen: str = seen
        self.check: Check[Any] | None = None
        #: which of the two streams of a pair the check called its first
        self.turned: bool = False
        #: the line of the code that was checked which raised what was seen
        self.place: str | None = None

    def __str__(self) -> str:
        lines = []
        if self.check is not None:
            side = " (with the second stream of the pair as its first)" if self.turned else ""
            lines += [
                f"{self.check.name}{side}",
                f"  promised: {self.check.promise}",
                f"            ({self.check.source})",
            ]
        lines += [f"  expected: {self.expected}", f"  seen:     {self.seen}"]
        if self.place is not None:
            lines.append(f"            at {self.place}")
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

    def __call__(self) -> AbstractAsyncContextManager[tuple[Resource, Resource]]:
        return self._made_by(self._make_pair)

    @property
    def has_clogged(self) -> bool:
        return self._clogged_pair is not None

    def clogged(self) -> AbstractAsyncContextManager[tuple[Resource, Resource]]:
        """A pair in which neither side's ``send`` ends until the other side receives."""
        assert self._clogged_pair is not None
        return self._made_by(self._clogged_pair)

    @asynccontextmanager
    async def _made_by(self, make: MakePair[Resource]) -> AsyncIterator[tuple[Resource, Resource]]:
        first, second = await make()
        if self._turned:
            first, second = second, first
        try:
            yield first, second
        finally:
            try:
                await aclose_forcefully(first)
            finally:
                await aclose_forcefully(second)


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
        broken: PromiseBroken | None = None
        try:
            with move_on_after(timeout) as scope:
                await self._function(subject)
            if scope.cancelled_caught:
                broken = PromiseBroken("all that is done here comes to an end", _endless(timeout))
        except get_cancelled_exc_class():
            raise
        except BaseException as exc:
            broken = _broken_by(exc)
        if broken is not None:
            broken.check, broken.turned = self, turned
            raise broken

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
        """
        __tracebackhide__ = True
        checked_maker(make_pair, "make_pair")
        if clogged_pair is not None:
            checked_maker(clogged_pair, "clogged_pair")
        for turned in (False,) if self.symmetric else (False, True):
            pairs = Pairs(make_pair, clogged_pair, turned=turned)
            await self.look(pairs, timeout=timeout, turned=turned)


class Checks(Generic[Resource]):
    """The checks of one kind of stream, in order. Its call is a decorator that makes one more."""

    def __init__(self) -> None:
        self.all: tuple[PairCheck[Resource], ...] = ()

    def __call__(
        self, promise: str, source: str, *, symmetric: bool = False
    ) -> Callable[[Callable[[Pairs[Resource]], Awaitable[None]]], PairCheck[Resource]]:
        def made(function: Callable[[Pairs[Resource]], Awaitable[None]]) -> PairCheck[Resource]:
            check = PairCheck(function, promise=promise, source=source, symmetric=symmetric)
            self.all += (check,)
            return check

        return made


async def each_of(
    checks: tuple[Any, ...], subject: object, **options: Any
) -> tuple[tuple[Any, SkipTest], ...]:
    """Run all the checks; raise what was broken, if anything; return what could not be checked."""
    __tracebackhide__ = True
    broken: list[PromiseBroken] = []
    skipped: list[tuple[Any, SkipTest]] = []
    for check in checks:
        try:
            await check(subject, **options)
        except PromiseBroken as exc:
            broken.append(exc)
        except SkipTest as exc:
            skipped.append((check, exc))
    if len(broken) == 1:
        raise broken[0]
    if broken:
        raise BaseExceptionGroup(f"{len(broken)} of {len(checks)} promises were broken", broken)
    return tuple(skipped)


def checked_maker(make: object, name: str) -> None:
    if not callable(make):
        raise TypeError(
            f"{name} has to be an async callable that returns two streams, not {make!r}"
        )


def checked_timeout(timeout: float) -> None:
    if not timeout > 0:
        raise ValueError(f"timeout has to be a positive number of seconds, not {timeout!r}")


def _endless(timeout: float) -> str:
    return f"after {timeout:g} s something still waits"


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
    broken = PromiseBroken("no exception here", f"{error!r}")
    broken.place = innermost_project_line(error.__traceback__)
    broken.__cause__ = error
    return broken


# What checks are made of


async def raises(
    kinds: type[Exception] | tuple[type[Exception], ...], awaitable: Awaitable[object], what: str
) -> Exception:
    """Expect ``awaitable`` to raise one of ``kinds``; return what it raised.

    :param what: what is awaited, in words: ``"receive() after the peer's aclose()"``
    """
    __tracebackhide__ = True
    expected = f"{what} raises {in_words(kinds)}"
    try:
        result = await awaitable
    except kinds as exc:
        return exc
    except get_cancelled_exc_class():
        raise
    except Exception as exc:
        broken = PromiseBroken(expected, f"it raised {exc!r}")
        broken.place = innermost_project_line(exc.__traceback__)
        raise broken from exc
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
        self.over: bool = False

    @classmethod
    async def begin(
        cls, group: TaskGroup, call: Callable[[], Awaitable[T]], what: str
    ) -> Waiting[T]:
        """Start it, and return when every other task is blocked."""
        waiting = cls(call, what)
        group.start_soon(waiting._run, name=what)
        await settle()
        return waiting

    async def _run(self) -> None:
        try:
            self.result = await self._call()
        except get_cancelled_exc_class():
            raise
        except Exception as exc:
            self.error = exc
        finally:
            self.over = True

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
            raise PromiseBroken(f"{self.what} waits", self.state) from self.error

    async def expect_raised(
        self, kinds: type[Exception] | tuple[type[Exception], ...], when: str
    ) -> None:
        """Expect it to be over, with one of ``kinds``, as soon as every other task is blocked."""
        __tracebackhide__ = True
        await settle()
        if not isinstance(self.error, kinds):
            expected = f"{self.what} raises {in_words(kinds)} {when}"
            raise PromiseBroken(expected, self.state) from self.error


@asynccontextmanager
async def tasks() -> AsyncIterator[TaskGroup]:
    """A task group that is cancelled when the block ends."""
    async with create_task_group() as group:
        yield group
        group.cancel_scope.cancel()


def in_words(kinds: type[Exception] | tuple[type[Exception], ...]) -> str:
    names = [kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,))]
    return " or ".join(names)


#: Bytes of a value that a message shows.
ENOUGH = 40


def shown(value: object) -> str:
    """A value in a message: not the whole of a megabyte."""
    if isinstance(value, (bytes, bytearray, memoryview)) and len(value) > ENOUGH:
        return f"{len(value)} bytes, {bytes(value[:ENOUGH])!r}..."
    return repr(value)
