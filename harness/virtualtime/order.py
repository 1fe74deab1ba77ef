"""The order in which the things of one moment happen: the same in every run.

What is ready is run first in, first out, but some of it gets in in the order of a set: the tasks
that one cancellation ends, on asyncio; the tasks of one turn, which trio shuffles on purpose. A set
of objects has the order of their addresses, so that is another one in every run.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Callable, Iterator, MutableSet
from typing import Any

from ..backends import current_library
from ..hooks import Hook
from .contract import Timeline

#: What trio's scheduler is seeded with at the beginning of every virtual test.
SEED = 0


class NumberedTask(asyncio.Task[Any]):
    """A task that sets keep by its number. One loop numbers its tasks from 0."""

    def __init__(self, number: int, *args: Any, **options: Any) -> None:
        self._number = number  # first: asyncio puts it into a set
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        return self._number


class Numbering:
    """Makes the tasks of one loop."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def make(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> NumberedTask:
        given = {name: value for name, value in options.items() if value is not None}
        return NumberedTask(next(self._numbers), coro, loop=loop, **given)


class Order:
    """Keeps the order for one event loop at a time."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._undo: Callable[[], object] | None = None

    def begin(self) -> None:
        """Called in the event loop."""
        if current_library() == "trio":
            self._undo = _seeded_trio(self)
            return
        hook = _hook_of_scopes()
        hook.listen(self)
        self._undo = lambda: hook.leave(self)

    def end(self) -> None:
        if self._undo is not None:
            self._undo()


class _InOrder(MutableSet[Any]):
    """A set in the order in which things came in."""

    def __init__(self) -> None:
        self._things: dict[int, Any] = {}

    def __contains__(self, thing: object) -> bool:
        return id(thing) in self._things

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._things.values()))

    def __len__(self) -> int:
        return len(self._things)

    def add(self, value: Any) -> None:
        self._things[id(value)] = value

    def discard(self, value: Any) -> None:
        self._things.pop(id(value), None)

    def remove(self, value: Any) -> None:
        del self._things[id(value)]


def _init(original: Callable[..., Any], hook: Hook[Order]) -> Callable[..., Any]:
    def __init__(scope: Any, *args: Any, **options: Any) -> None:  # noqa: N807 (it is one)
        original(scope, *args, **options)
        if hook.listeners:
            scope._child_scopes = _InOrder()

    return __init__


_scopes: Hook[Order] | None = None


def _hook_of_scopes() -> Hook[Order]:
    """AnyIO cancels the scopes inside of a scope in the order of a set.

    anyio/_backends/_asyncio.py, ``CancelScope._deliver_cancellation``.
    """
    global _scopes
    if _scopes is None:
        from anyio._backends._asyncio import CancelScope

        _scopes = Hook(CancelScope, "__init__", _init)
    return _scopes


def _seeded_trio(order: Order) -> Callable[[], object]:
    """Have trio shuffle its tasks in the same way every time, as it does for Hypothesis.

    ``trio/_core/_run.py``, ``_hypothesis_plugin_setup`` and ``unrolled_run``.
    """
    scheduler: Any = sys.modules["trio._core._run"]
    before = scheduler._ALLOW_DETERMINISTIC_SCHEDULING
    state = scheduler._r.getstate()
    hook = _hook_of_shuffle(scheduler._r)
    hook.listen(order)
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
    scheduler._r.seed(SEED)

    def undo() -> None:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = before
        hook.leave(order)
        scheduler._r.setstate(state)

    return undo


def _shuffle(original: Callable[..., Any], hook: Hook[Order]) -> Callable[..., Any]:
    def shuffle(batch: list[Any]) -> None:
        if len(batch) > 1:  # of most turns it is 1, for which it would take as long as for 2
            original(batch)

    return shuffle


_shuffles: Hook[Order] | None = None


def _hook_of_shuffle(random: object) -> Hook[Order]:
    global _shuffles
    if _shuffles is None:
        _shuffles = Hook(random, "shuffle", _shuffle)
    return _shuffles
