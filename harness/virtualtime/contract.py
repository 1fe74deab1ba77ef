"""What a virtual clock needs of an event loop, and what holds its time."""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable
from typing import ClassVar

#: The time at which every virtual clock begins. Small, so that sums are exact.
START = 0.0


class Hold:
    """Something real that is in flight: as long as it is, virtual time stands still.

    :ivar what: in words
    """

    __slots__ = ("_timeline", "suspended", "what")

    def __init__(self, timeline: Timeline, what: str) -> None:
        self._timeline: Timeline = timeline
        self.what: str = what
        #: what it waits for is for the loop itself to do
        self.suspended: Callable[[], bool] | None = None

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
        self.has_to_look_again: bool = False
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
        self.has_to_look_again = False
        if self.holds and any(hold.is_active() for hold in list(self.holds)):
            return True
        self._seen_outside = self.outside() if self.may_lead_out else []
        self.has_to_look_again = bool(self._seen_outside)
        return self.has_to_look_again

    def is_deadlocked(self) -> bool:
        """Whether nobody can change anything any more, given that all is blocked and not held."""
        self.has_to_look_again = self.on_deadlock is not None and self.may_be_called()
        return self.on_deadlock is not None and not self.has_to_look_again

    def deadlock(self) -> None:
        """Say so, the first time."""
        callback, self.on_deadlock = self.on_deadlock, None
        if callback is not None:
            callback()
