"""Coroutines that were made and never awaited."""

from __future__ import annotations

import functools
import gc
import inspect
import sys
import threading
import warnings
from collections.abc import Callable
from types import CellType, CoroutineType
from typing import Any, ClassVar

from ..diagnostics.stacks import Place, all_in
from ..hooks import Hook
from .caught_warnings import WarningsOfTheTest
from .contract import Kind, Leak, Owner, Suspects, owner
from .places import described, from_origin

#: Frames that a coroutine remembers of where it was made. One costs about 0.15 µs a coroutine, each
#: further one as much again, and the first is nearly always the line in question.
ORIGIN_DEPTH = 1


def _warn(original: Callable[..., Any], hook: Hook[Coroutines]) -> Callable[..., Any]:
    def warn(coroutine: Any) -> None:
        taken = [listener.dropped(coroutine) for listener in hook.listeners]
        if not any(taken):
            original(coroutine)

    return warn


# What CPython calls when it collects such a coroutine (Python/_warnings.c,
# _PyErr_WarnUnawaitedCoroutine). In the place of the warning comes the leak.
_warned: Hook[Coroutines] = Hook(warnings, "_warn_unawaited_coroutine", _warn)


#: The origins of those that were there when a test had failed, by their ids: they are that test's,
#: or of one before it, in whatever test they go. Each coroutine has an origin of its own.
_left: dict[int, object] = {}


class Coroutines(Kind):
    """Coroutines that are collected without having run.

    :param elsewhere: whether a line is another test's
    """

    names: ClassVar[tuple[str, ...]] = ("coroutine",)

    def __init__(
        self,
        test: Owner,
        warnings: WarningsOfTheTest,
        elsewhere: Callable[[Place], bool] = lambda place: False,
    ) -> None:
        super().__init__(test)
        self._warnings = warnings
        self._elsewhere = functools.cache(elsewhere)
        #: how many were dropped, by name and line: a loop without `await` makes a million
        self._dropped: dict[tuple[str, Place | None], int] = {}
        self._depth: int | None = None
        self._thread = 0

    def start(self) -> None:
        _warned.listen(self)
        self._thread = threading.get_ident()
        if sys.get_coroutine_origin_tracking_depth() < ORIGIN_DEPTH:
            self._depth = sys.get_coroutine_origin_tracking_depth()
            sys.set_coroutine_origin_tracking_depth(ORIGIN_DEPTH)

    def dropped(self, coroutine: Any) -> bool:
        """``coroutine`` is being collected; tell whether it will be reported."""
        origin = coroutine.cr_origin
        if id(origin) in _left:
            return True
        if origin is None and threading.get_ident() == self._thread:
            return False  # made while nobody looked
        # Whose it is, is not known; whoever drops it is most likely who made it.
        if not self.mine(owner.get()) or self._warnings.are_caught():
            return False
        made = coroutine.__qualname__, from_origin(origin)
        self._dropped[made] = self._dropped.get(made, 0) + 1
        return True

    def look(self) -> Suspects:
        return {
            ("coroutine", *made): _describe(*made, times)
            for made, times in list(self._dropped.items())
            if not self._is_late(made[1])
        }

    def late(self) -> list[Leak]:
        """Those that were made in another test."""
        return [
            _describe(*made, times)()
            for made, times in self._dropped.items()
            if self._is_late(made[1])
        ]

    def _is_late(self, place: Place | None) -> bool:
        return place is not None and self._elsewhere(place)

    def look_outside(self) -> Suspects:
        return self.look()

    def stop(self) -> None:
        _warned.leave(self)
        if self._depth is not None and threading.get_ident() == self._thread:
            sys.set_coroutine_origin_tracking_depth(self._depth)


def close_never_awaited(error: BaseException) -> list[Leak]:
    """Close what nothing refers to but the tracebacks of ``error``; tell what it was.

    It would else be dropped with them, in some later test.
    """
    referrers: dict[int, object] = {}
    for each in all_in(error):
        referrers[id(each)] = each  # an AttributeError has the object
        traceback = each.__traceback__
        while traceback is not None:
            frame = traceback.tb_frame
            referrers[id(frame)] = frame
            # Not f_locals, which a frame keeps before Python 3.13.
            for referent in gc.get_referents(frame):
                if isinstance(referent, CellType):
                    referrers[id(referent)] = referent
            traceback = traceback.tb_next
    found = [each for each in gc.get_referents(*referrers.values()) if _is_new(each)]
    found = list({id(each): each for each in found}.values())
    ours: list[object] = [found, sys._getframe()]
    known = {*referrers, *map(id, ours)}
    leaks = []
    for coroutine in found:
        if all(id(each) in known for each in gc.get_referrers(coroutine)):
            made = coroutine.__qualname__, from_origin(coroutine.cr_origin)
            coroutine.close()
            leaks.append(_describe(*made, 1)())
    return leaks


def remember_left() -> None:
    """After a test that has failed: what is dropped from here on may be its coroutine."""
    _left.clear()
    for each in gc.get_objects():
        if type(each) is CoroutineType and each.cr_origin is not None and _is_new(each):
            _left[id(each.cr_origin)] = each.cr_origin


def _is_new(thing: object) -> bool:
    return type(thing) is CoroutineType and inspect.getcoroutinestate(thing) == inspect.CORO_CREATED


def _describe(name: str, place: Place | None, times: int) -> Callable[[], Leak]:
    often = f", {times:,} times" if times > 1 else ""
    return lambda: Leak("coroutine", f"{name}() was never awaited{often}", described(place))
