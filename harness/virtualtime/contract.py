"""What a virtual clock needs of an event loop, and what holds its time."""

from __future__ import annotations

import abc
import math
import time
from collections.abc import Awaitable, Callable
from typing import ClassVar

#: The time at which every virtual clock begins. Small, so that sums are exact.
START = 0.0


class Hold:
    """Something real that is in flight: as long as it is, virtual time stands still.

    :ivar what: in words
    :ivar pid: the number of the process that is in flight, if it is one
    """

    __slots__ = ("_timeline", "pid", "suspended", "unsure_since", "what")

    def __init__(self, timeline: Timeline, what: str, pid: int | None = None) -> None:
        self._timeline: Timeline = timeline
        self.what: str = what
        self.pid: int | None = pid
        #: what it waits for is for the loop itself to do
        self.suspended: Callable[[], bool] | None = None
        #: since when, in real time, it may as well never end; see `Timeline._awaits_deadline`
        self.unsure_since: float | None = None

    def __enter__(self) -> Hold:
        self._timeline.holds[self] = None
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def release(self) -> None:
        """End it. Called in the event loop; more than once does no harm."""
        if self._timeline.holds.pop(self, self) is None:
            self._timeline.resume()

    def is_active(self) -> bool:
        return self.suspended is None or not self.suspended()


class Timeline(abc.ABC):
    """The time of one event loop: what it is, and when it goes on."""

    #: Seconds of real time after which to look again at what tells nobody of its end.
    LOOK_AGAIN: ClassVar[float] = 0.05

    def __init__(self) -> None:
        self.autojump: bool = True
        self.holds: dict[Hold, None] = {}
        #: what else may hold the time, in words, if it does; asked only when all is quiet
        self.outside: Callable[[], list[str]] = list
        #: whether something that does not hold the time may still call into the loop
        self.may_be_called: Callable[[], bool] = bool
        self._seen_outside: list[str] = []
        #: real seconds after which to look again; infinite if whatever ends will say so
        self.look_again_in: float = math.inf
        #: there may be new sockets, or there are some that lead out: `outside` has to be asked
        self.may_lead_out: bool = False
        #: to be called after every jump
        self.followers: list[Callable[[], object]] = []
        #: what to do when all is blocked for ever
        self.on_deadlock: Callable[[], object] | None = None

    @abc.abstractmethod
    def now(self) -> float:
        """The virtual time, in seconds."""

    @abc.abstractmethod
    def jump_to(self, when: float) -> None:
        """Set the time. What is due by then is run at the next turn, whatever it was due at."""

    @abc.abstractmethod
    def deadline(self) -> float:
        """When the next timer is due; infinite if there is none."""

    @property
    @abc.abstractmethod
    def rate(self) -> float:
        """Virtual seconds per second of real time, beside the jumps."""

    @rate.setter
    @abc.abstractmethod
    def rate(self, rate: float) -> None: ...

    @abc.abstractmethod
    def settle(self) -> Awaitable[object]:
        """Wait until every other task is blocked."""

    @abc.abstractmethod
    def resume(self) -> None:
        """Think again about whether time may go on. Called in the event loop."""

    def begin(self) -> None:  # noqa: B027 (it need not do anything)
        """The event loop runs for the first time; called in it."""

    def follow(self) -> None:
        """Tell those who follow the time of a jump."""
        for follower in self.followers:
            follower()

    @abc.abstractmethod
    def is_here(self) -> bool:
        """Whether this is the time of the event loop that runs this code, if any does."""

    @abc.abstractmethod
    def soon(self, callback: Callable[[], object]) -> None:
        """Call it in the event loop, if that still runs. Callable from any thread."""

    def held_by(self) -> list[str]:
        """What holds the time, in words."""
        holds = [hold.what for hold in list(self.holds) if hold.is_active()]
        return holds + self._seen_outside

    def is_held(self) -> bool:
        """Whether something real keeps the time from going on."""
        self.look_again_in = math.inf
        if any(hold.unsure_since is None and hold.is_active() for hold in list(self.holds)):
            return True
        self._seen_outside = self.outside() if self.may_lead_out else []
        unsure = [hold for hold in list(self.holds) if hold.is_active()]
        if unsure:
            # One of the connections may lead to the process that is unsure.
            return self._awaits_deadline(unsure)
        if self._seen_outside:
            self.look_again_in = min(self.look_again_in, self.LOOK_AGAIN)
        return bool(self._seen_outside)

    def _awaits_deadline(self, unsure: list[Hold]) -> bool:
        """Whether the next timer has to wait for what may never end.

        A process that was asked to end may take its time, or not do so at all, and what becomes of
        it then is up to a timer. That would never fall due if the process held the time for good,
        and at once if it did not hold it. So until the next timer, as much real time goes by as
        virtual time will.
        """
        since = [hold.unsure_since for hold in unsure]
        if self.autojump and None not in since:  # other threads may start and kill processes
            now = time.perf_counter()
            rest = max(filter(None, since)) + (self.deadline() - self.now()) - now
            if rest <= 0:
                for hold in unsure:
                    hold.unsure_since = now
                return False
            self.look_again_in = min(self.look_again_in, rest, self.LOOK_AGAIN)
        return True

    def is_deadlocked(self) -> bool:
        """Whether nobody can change anything any more, given that all is blocked and not held."""
        may_be_called = self.on_deadlock is not None and (
            # a process that is at rest may connect, or write something
            any(hold.pid is not None for hold in self.holds) or self.may_be_called()
        )
        self.look_again_in = self.LOOK_AGAIN if may_be_called else math.inf
        return self.on_deadlock is not None and not may_be_called

    def deadlock(self) -> None:
        """Say so, the first time."""
        callback, self.on_deadlock = self.on_deadlock, None
        if callback is not None:
            callback()
