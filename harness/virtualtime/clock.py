"""What a test holds of virtual time."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import copy_context
from datetime import datetime
from typing import Any

from .contract import Timeline
from .holding import Holding


class VirtualClock:
    """The time of one test: it stands still while anything runs, and jumps when nothing does.

    Every timer of the test's event loop goes by it. When every task is blocked, and nothing real
    is in flight - a worker thread, a name lookup, a subprocess, a socket whose other end is not in
    this event loop - time jumps to the next timer.
    """

    def __init__(self, *, autojump: bool = True) -> None:
        self._autojump = autojump
        self._timeline: Timeline | None = None
        self._holding: Holding | None = None
        self._over = False

    @property
    def now(self) -> float:
        """Seconds since the beginning of the test, as ``anyio.current_time()`` gives them."""
        return self._running().now()

    @property
    def autojump(self) -> bool:
        """Whether time jumps to the next timer when everything is blocked; it does by default."""
        return self._autojump

    @autojump.setter
    def autojump(self, autojump: bool) -> None:
        timeline = self._running()
        self._autojump = timeline.autojump = bool(autojump)
        timeline.resume()

    @property
    def rate(self) -> float:
        """Virtual seconds for each second of real time; 0, time stands still between the jumps.

        Set :attr:`autojump` to ``False``, too, for time that only goes by at this rate.

        :raises ValueError: when set to a negative number, or to one that is not finite
        """
        return self._running().rate

    @rate.setter
    def rate(self, rate: float) -> None:
        rate = float(rate)
        if not 0 <= rate < math.inf:
            raise ValueError(f"rate must be a number of seconds, zero or more, not {rate!r}")
        timeline = self._running()
        timeline.rate = rate
        timeline.resume()

    def deadline(self) -> float:
        """The time of the next timer; infinite if none is pending."""
        return self._running().deadline()

    async def settle(self) -> None:
        """Return when every other task is blocked, and let no time pass meanwhile."""
        await self._running().settle()

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass: everything that falls due meanwhile happens, in order.

        At each timer on the way, time stands until every other task is blocked again. It does not
        wait for what holds the time.

        :raises ValueError: if ``seconds`` is negative or not finite
        """
        seconds = _checked(seconds)
        timeline = self._running()
        target = timeline.now() + seconds
        await timeline.settle()
        while (deadline := timeline.deadline()) <= target:
            timeline.jump_to(max(deadline, timeline.now()))
            await timeline.settle()
        timeline.jump_to(max(target, timeline.now()))
        await timeline.settle()

    def jump(self, seconds: float) -> None:
        """Set the time ``seconds`` ahead, in one step, as trio's ``MockClock.jump`` does.

        What falls due on the way happens afterwards, at the new time; :meth:`advance` is what lets
        each thing happen at its own.

        :raises ValueError: if ``seconds`` is negative or not finite
        """
        seconds = _checked(seconds)
        timeline = self._running()
        timeline.jump_to(timeline.now() + seconds)
        timeline.resume()

    @property
    def autojump_threshold(self) -> float:
        """trio's word for :attr:`autojump`: 0 if time jumps, infinite if it does not.

        :raises ValueError: when set to another number: there is no pause before a jump
        """
        return 0.0 if self._autojump else math.inf

    @autojump_threshold.setter
    def autojump_threshold(self, threshold: float) -> None:
        if threshold not in (0, math.inf):
            raise ValueError(f"autojump_threshold must be 0 or infinite, not {threshold!r}")
        self.autojump = threshold == 0

    def hold(self, what: str = "virtual_clock.hold()") -> AbstractContextManager[object]:
        """In this block, real work that the clock does not know of is in flight: no time passes.

        :param what: in words, for the report of a test that hangs
        """
        return self._held().hold(what)

    def patch_wall_clock(self, start: datetime | None = None) -> AbstractContextManager[None]:
        """In this block, the clocks of the whole process go with this one.

        ``time.time``, ``datetime.now`` and all others that tell the date, and ``time.monotonic``
        where the code under test reads it. Needs the package ``time-machine``.

        :param start: the date at which this block begins; by default, the real one
        :raises RuntimeError: if ``time-machine`` is not installed
        """
        from .wall import patched_wall_clock

        return patched_wall_clock(self._running(), start)

    # For the room that gives tests their clocks

    def options(self, library: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """AnyIO's options for an event loop of this clock, from those for a real one."""
        if library == "trio":
            from .trio_time import TrioTime

            time = TrioTime()
            self._timeline = time
            changed = {**options, "clock": time.clock}
        else:
            from .asyncio_time import loop_options

            self._timeline, changed = loop_options(options)
        self._timeline.autojump = self._autojump
        self._holding = Holding(self._timeline)
        return changed

    def begin(self, on_deadlock: Callable[[], object]) -> None:
        """A part of the test begins; called in its event loop.

        :param on_deadlock: called once, in the event loop, when nothing can happen any more
        """
        timeline = self._running()
        self._held().begin()
        # In this context: in a callback on uvloop AnyIO does not know its backend otherwise.
        timeline.on_deadlock = functools.partial(copy_context().run, on_deadlock)

    def end(self) -> None:
        """The test is over, and with it the clock."""
        self._over = True
        if self._holding is not None:
            self._holding.end()
        if self._timeline is not None:
            self._timeline.on_deadlock = None

    def held_by(self) -> list[str]:
        """What holds the time at this moment, in words."""
        return [] if self._timeline is None else self._timeline.held_by()

    def _running(self) -> Timeline:
        if self._over:
            raise RuntimeError("the test that this virtual clock belongs to has ended")
        if self._timeline is None:
            raise RuntimeError(
                "this virtual clock does not run yet: the event loop of its test begins with the "
                "first async fixture, or with the test"
            )
        return self._timeline

    def _held(self) -> Holding:
        self._running()
        assert self._holding is not None
        return self._holding

    def __repr__(self) -> str:
        if self._over or self._timeline is None:
            return f"<VirtualClock, {'over' if self._over else 'not running yet'}>"
        return f"<VirtualClock at {self._timeline.now():g} s>"


def _checked(seconds: float) -> float:
    seconds = float(seconds)
    if not 0 <= seconds < math.inf:
        raise ValueError(f"expected a number of seconds, zero or more, not {seconds!r}")
    return seconds
