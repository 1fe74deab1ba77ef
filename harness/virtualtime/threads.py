"""Threads of the test's own.

They do not hold the time: many a library keeps one that only waits for work. But as long as one
runs, it may call into the event loop, and what waits there is not blocked for ever. What the
threads of pools do for the event loop holds the time by itself.
"""

from __future__ import annotations

import threading

from ..diagnostics.threads import is_machinery_thread, is_of_pool
from .contract import Timeline


class Threads:
    """Knows the threads that were started since it began."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._before: list[threading.Thread] = []

    def begin(self) -> None:
        self._before = threading.enumerate()
        self._timeline.may_be_called = self.are_running

    def end(self) -> None:
        self._before.clear()

    def are_running(self) -> bool:
        """Whether any of them runs."""
        return any(
            not (thread in self._before or is_of_pool(thread) or is_machinery_thread(thread))
            for thread in threading.enumerate()
        )
