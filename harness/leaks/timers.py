"""Timers of asyncio event loops that user code has set and that have neither run nor been
cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar

from ..diagnostics.stacks import Place
from .contract import Kind, Leak, Owner, Suspects
from .places import described

#: Timers to remember before the ones that are over are let go.
_MANY = 256


class Timers(Kind):
    """What ``loop.call_later`` and ``loop.call_at`` return."""

    names: ClassVar[tuple[str, ...]] = ("timer",)

    def __init__(self, test: Owner) -> None:
        super().__init__(test)
        self._made: list[tuple[asyncio.TimerHandle, Place | None]] = []
        self._many = _MANY

    def made_timer(
        self, handle: asyncio.TimerHandle, place: Place | None, whose: Owner | None
    ) -> None:
        """The running loop's timer ``handle`` was set."""
        if self.mine(whose):
            self._made.append((handle, place))
            if len(self._made) > self._many:
                now = asyncio.get_running_loop().time()
                self._made = [made for made in self._made if _is_pending(made[0], now)]
                self._many = _MANY + 2 * len(self._made)

    def look(self) -> Suspects:
        if not self._made:
            return {}
        now = asyncio.get_running_loop().time()
        return {
            ("timer", id(handle)): _describe(handle, place, now)
            for handle, place in self._made
            if _is_pending(handle, now)
        }

    def nothing_left(self, loop: asyncio.AbstractEventLoop | None) -> bool:
        return not self._made

    def stop(self) -> None:
        self._made.clear()


def _is_pending(handle: asyncio.TimerHandle, now: float) -> bool:
    # The loop has turned since: what was due has run. A handle has no word for it on uvloop.
    return not handle.cancelled() and handle.when() > now


def _describe(handle: asyncio.TimerHandle, place: Place | None, now: float) -> Callable[[], Leak]:
    # Handle._callback is asyncio's name for it; uvloop's has none, and says it in its repr.
    callback = getattr(handle, "_callback", None)
    name = getattr(callback, "__qualname__", None) or repr(callback or handle)
    what = f"{name}, due in {handle.when() - now:.3g} s"
    return lambda: Leak("timer", what, described(place))
