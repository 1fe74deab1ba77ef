"""Who keeps the event loop from turning, and for how long: a thread that asks and looks.

Everything that a loop runs shares one thread. A step of it that takes long - a call that blocks, a
computation, ``socket.getaddrinfo`` - stops all others, and the tests of that step alone never show
it. The sampler posts a callback to the loop; when no answer comes within the threshold, it takes
the stack of the loop's thread again and again until it does.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from types import FrameType
from typing import NamedTuple

from .loopview import LoopView
from .stacks import Place, is_user_code, place_of
from .threads import first_inside_pytest, frames_of, thread_lines

#: How many looks at the loop's thread are taken in the time of one threshold.
LOOKS = 5


@dataclass(frozen=True)
class Blocked:
    """A step of an event loop that took too long.

    :ivar seconds: how long the loop did not turn
    :ivar function: the innermost function of the user's in which its thread was seen most often
    :ivar stack: a stack in which it was seen there, in the user's code, outermost line first
    """

    seconds: float
    function: str
    stack: tuple[str, ...]

    def __str__(self) -> str:
        lines = "".join(f"\n    {line}" for line in self.stack)
        return f"blocked the event loop for {self.seconds:.2g} s in {self.function}:{lines}"


class _Seen(NamedTuple):
    """Where the loop's thread was at one look."""

    inmost: Place
    stack: tuple[str, ...]


class Sampler:
    """Watches one event loop from a thread of its own.

    :param view: the loop
    :param call_soon: runs a function in it, from another thread
    :param threshold: seconds that a step may take
    """

    def __init__(
        self, view: LoopView, call_soon: Callable[[Callable[[], object]], object], threshold: float
    ) -> None:
        self._view = view
        self._call_soon = call_soon
        self._threshold = threshold
        self._found: list[Blocked] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="harness sampler", daemon=True)
        self._thread.start()

    def stop(self) -> list[Blocked]:
        """End the thread. Returns what blocked the loop, in order."""
        self._stopping.set()
        self._thread.join()
        return self._found

    def _sample(self) -> None:
        pause = self._threshold / LOOKS
        while not self._stopping.is_set():
            answered = threading.Event()
            asked = monotonic()
            starved = _starved(self._view.thread_id)
            try:
                self._call_soon(answered.set)
            except RuntimeError:
                return  # the loop is closed
            step: FrameType | None = None  # the step that the loop's thread is in
            since = asked
            seen: Counter[_Seen] = Counter()
            while not answered.wait(pause):
                if self._stopping.is_set() and step is None:
                    return
                now, before = monotonic(), step
                step, at = self._look()
                if step is not before:
                    # Many short steps are not one long one.
                    self._add(since, now, starved, seen)
                    since, seen = (asked if before is None else now), Counter()
                if at is not None:
                    seen[at] += 1
            self._add(since, monotonic(), starved, seen)
            self._stopping.wait(pause)

    def _add(self, since: float, now: float, starved: float, seen: Counter[_Seen]) -> None:
        """Record a step, if it took too long without the time in which the machine ran others."""
        if now - since < self._threshold or not seen:
            return
        seconds = now - since - (_starved(self._view.thread_id) - starved)
        if seconds >= self._threshold:
            # First the function, then the line, then the way to it: a computation of many lines, or
            # one that calls itself, is seldom seen twice in the same stack.
            function = _most(seen, lambda at: (at.inmost.file, at.inmost.function))
            line = _most(function, lambda at: at.inmost)
            at = line.most_common(1)[0][0]
            self._found.append(Blocked(seconds, at.inmost.name, at.stack))

    def _look(self) -> tuple[FrameType | None, _Seen | None]:
        """The outermost frame of the user's in the loop's thread, and where that is."""
        inmost = self._view.frame()
        if inmost is None:
            return None, None
        frames = frames_of(inmost)
        frames = frames[frames.index(first_inside_pytest(inmost)) :]
        users = [frame for frame in frames if is_user_code(frame)]
        if not users:
            return None, None
        stack = thread_lines(inmost, width=96, outermost=users[0])
        return users[0], _Seen(place_of(users[-1]), tuple(stack))


def _most(seen: Counter[_Seen], key: Callable[[_Seen], object]) -> Counter[_Seen]:
    """Those of ``seen`` whose ``key`` was seen most often."""
    keys: Counter[object] = Counter()
    for at, times in seen.items():
        keys[key(at)] += times
    most = keys.most_common(1)[0][0]
    return Counter({at: times for at, times in seen.items() if key(at) == most})


def _starved(thread_id: int) -> float:
    """Seconds for which a thread could have run and the machine ran others; 0 if unknown.

    Linux tells (``/proc/PID/task/TID/schedstat``, second number, in nanoseconds).
    """
    if sys.platform != "linux":
        return 0.0
    for thread in threading.enumerate():
        if thread.ident == thread_id:
            try:
                with open(f"/proc/self/task/{thread.native_id}/schedstat") as file:
                    return int(file.read().split()[1]) / 1e9
            except (OSError, IndexError, ValueError):
                return 0.0
    return 0.0
