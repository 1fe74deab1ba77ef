"""Threads of the test's own.

They do not hold the time: many a library keeps one that only waits for work. But as long as one
runs, it may call into the event loop, and what waits there is not blocked for ever. What the
threads of pools do for the event loop holds the time by itself, but not what was given to a pool by
its own ``submit``.
"""

from __future__ import annotations

import threading

from ..diagnostics.threads import (
    is_busy_in_executor,
    is_machinery_thread,
    is_of_pool,
    is_portal,
)
from .contract import Timeline


class Threads:
    """Knows the threads that were started since it began."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._before: list[threading.Thread] = []

    def begin(self) -> None:
        self._before = [thread for thread in threading.enumerate() if _may_call(thread)]
        self._timeline.may_be_called = self.are_running

    def end(self) -> None:
        self._before.clear()

    def are_running(self) -> bool:
        """Whether any of them runs."""
        return any(
            thread not in self._before and _may_call(thread) for thread in threading.enumerate()
        )


def _may_call(thread: threading.Thread) -> bool:
    if is_of_pool(thread):
        return is_busy_in_executor(thread)
    return is_portal(thread) or not is_machinery_thread(thread)
