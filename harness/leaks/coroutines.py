"""Coroutines that were made and never awaited."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

from ..diagnostics.stacks import Place
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


class Coroutines(Kind):
    """Coroutines that are collected without having run."""

    names: ClassVar[tuple[str, ...]] = ("coroutine",)

    def __init__(self, test: Owner, warnings: WarningsOfTheTest) -> None:
        super().__init__(test)
        self._warnings = warnings
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
        # Whose it is, is not known; whoever drops it is most likely who made it.
        if not self.mine(owner.get()) or self._warnings.are_caught():
            return False
        made = coroutine.__qualname__, from_origin(coroutine.cr_origin)
        self._dropped[made] = self._dropped.get(made, 0) + 1
        return True

    def look(self) -> Suspects:
        return {
            ("coroutine", *made): _describe(*made, times)
            for made, times in list(self._dropped.items())
        }

    def look_outside(self) -> Suspects:
        return self.look()

    def stop(self) -> None:
        _warned.leave(self)
        if self._depth is not None and threading.get_ident() == self._thread:
            sys.set_coroutine_origin_tracking_depth(self._depth)


def _describe(name: str, place: Place | None, times: int) -> Callable[[], Leak]:
    often = f", {times:,} times" if times > 1 else ""
    return lambda: Leak("coroutine", f"{name}() was never awaited{often}", described(place))
