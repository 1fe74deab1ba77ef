"""Coroutines that were made and never awaited."""

from __future__ import annotations

import itertools
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

from ..diagnostics.stacks import Place
from .caught_warnings import WarningsOfTheTest
from .contract import Kind, Leak, Owner, Suspects, owner
from .hooks import Hook
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


class Coroutines(Kind):
    """Coroutines that are collected without having run."""

    names: ClassVar[tuple[str, ...]] = ("coroutine",)

    def __init__(self, test: Owner, warnings: WarningsOfTheTest) -> None:
        super().__init__(test)
        self._warnings = warnings
        self._dropped: list[tuple[int, str, Place | None]] = []
        self._numbers = itertools.count()
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
        # Whose it is, is not known; whoever drops it is most likely who made it.
        if not self.mine(owner.get()) or self._warnings.are_caught():
            return False
        place = from_origin(coroutine.cr_origin)
        self._dropped.append((next(self._numbers), coroutine.__qualname__, place))
        return True

    def look(self) -> Suspects:
        return {
            ("coroutine", number): _describe(name, place) for number, name, place in self._dropped
        }

    def look_outside(self) -> Suspects:
        return self.look()

    def stop(self) -> None:
        _warned.leave(self)
        if self._depth is not None and threading.get_ident() == self._thread:
            sys.set_coroutine_origin_tracking_depth(self._depth)


def _describe(name: str, place: Place | None) -> Callable[[], Leak]:
    return lambda: Leak("coroutine", f"{name}() was never awaited", described(place))
