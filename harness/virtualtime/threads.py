"""Threads of the test's own.

They do not hold the time: many a library keeps one that only waits for work. But as long as one
runs, it may call into the event loop, and what waits there is not blocked for ever.
"""

from __future__ import annotations

import threading
from typing import Any

from .contract import Timeline

#: Whose threads are pools: what they do for the event loop holds the time by itself.
POOLS = ("anyio", "concurrent", "harness", "trio")


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
            thread not in self._before and not _is_of_pool(thread)
            for thread in threading.enumerate()
        )


def _is_of_pool(thread: threading.Thread) -> bool:
    target: Any = getattr(thread, "_target", None)  # gone when the thread is about to end
    modules = type(thread).__module__, getattr(target, "__module__", None) or ""
    return any(module.partition(".")[0] in POOLS for module in modules)
