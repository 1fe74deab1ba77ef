"""The time of a trio run: trio's own ``MockClock``, told when it may jump.

trio lets no other class of clock jump (``trio/_core/_run.py``, ``unrolled_run``: an ``assert
isinstance(runner.clock, _core.MockClock)``), and ``MockClock`` may not be derived from. It calls
its ``_autojump`` when the run queue is empty and no socket is ready; here that is replaced, on the
one object, by :meth:`TrioTime._pass_time`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio
from trio._core._run import GLOBAL_RUN_CONTEXT
from trio.lowlevel import current_trio_token
from trio.testing import MockClock, wait_all_tasks_blocked

from .contract import Timeline

#: Real seconds until a timer that no real time will reach; longer than trio waits for sockets.
FOR_EVER = 999999999


class TrioTime(Timeline):
    """The time of one trio run."""

    def __init__(self) -> None:
        super().__init__()
        self.clock: MockClock = _clock()
        self.clock._autojump = self._pass_time  # type: ignore[method-assign]
        self._waker: Any = None
        self._token: Any = None
        #: trio's heap of deadlines (``trio/_core/_run.py``, ``Runner.deadlines``)
        self._deadlines: Any = None

    def now(self) -> float:
        return self.clock.current_time()

    def jump_to(self, when: float) -> None:
        self.clock.jump(max(0.0, when - self.clock.current_time()))
        if not self.clock.rate:
            # A sum of floats need not be the float that was wanted (`MockClock.jump` adds).
            self.clock._virtual_base = when
        if self.followers:
            self.follow()

    def deadline(self) -> float:
        if self._deadlines is None:
            self._deadlines = GLOBAL_RUN_CONTEXT.runner.deadlines
        # `current_statistics()` has it as a difference, which is not exact.
        deadline: float = self._deadlines.next_deadline()
        return deadline

    @property
    def rate(self) -> float:
        return self.clock.rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self.clock.rate = rate

    async def settle(self) -> None:
        await wait_all_tasks_blocked()

    def resume(self) -> None:
        self.clock.autojump_threshold = 0
        waker, self._waker = self._waker, None
        if waker is not None:
            trio.lowlevel.remove_instrument(waker)

    def begin(self) -> None:
        self._token = current_trio_token()

    def is_here(self) -> bool:
        return trio.lowlevel.in_trio_task() and trio.lowlevel.current_clock() is self.clock

    def soon(self, callback: Callable[[], object]) -> None:
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(callback)

    def _pass_time(self) -> None:
        """Called by trio when every task is blocked."""
        deadline = self.deadline()
        if (self.holds or self.may_lead_out) and self.is_held():
            self._wait(self.look_again_in)
        elif self.autojump and deadline < math.inf:
            clock = self.clock
            if clock._rate or deadline < clock._virtual_base:
                self.jump_to(max(deadline, self.now()))
            else:
                clock._virtual_base = deadline
                if self.followers:
                    self.follow()
        elif self.clock.rate and deadline < math.inf:
            self._wait(math.inf)
        else:
            if self.is_deadlocked():
                # In a task: what it does has to find out which event loop it is in.
                current_trio_token().run_sync_soon(self.deadlock)
            self._wait(self.look_again_in)

    def _wait(self, seconds: float) -> None:
        """Wait for something real, and think again then."""
        self.clock.autojump_threshold = seconds
        if self._waker is None:
            self._waker = _Waker(self)
            trio.lowlevel.add_instrument(self._waker)


class _Waker(trio.abc.Instrument):
    """Resumes as soon as any task has something to do."""

    def __init__(self, time: TrioTime) -> None:
        self._time = time

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        self._time.resume()


def _clock() -> MockClock:
    """A clock that does not ask for the real time as long as its rate is 0.

    trio asks it half a dozen times for each sleep.
    """
    clock: Any = MockClock(autojump_threshold=0)
    current_time, deadline_to_sleep_time = clock.current_time, clock.deadline_to_sleep_time

    def current_time_at_rate() -> float:
        now: float = current_time() if clock._rate else clock._virtual_base
        return now

    def sleep_time_at_rate(deadline: float) -> float:
        if clock._rate:
            seconds: float = deadline_to_sleep_time(deadline)
            return seconds
        return 0 if deadline <= clock._virtual_base else FOR_EVER

    clock.current_time, clock.deadline_to_sleep_time = current_time_at_rate, sleep_time_at_rate
    made: MockClock = clock
    return made
