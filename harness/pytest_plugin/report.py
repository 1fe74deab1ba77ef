"""What is running, in words, for a test that did not end."""

from __future__ import annotations

import sys
import threading
import traceback

from anyio import get_running_tasks

from ..diagnostics import format_stack


def describe(blocked: bool) -> str:
    """The tasks of the event loop, or the stacks of all threads if it is ``blocked``."""
    if not blocked:
        stacks = ((task.name, format_stack(task.coro)) for task in get_running_tasks())
        return "\n".join(f"  {name}\n{stack}" for name, stack in stacks if stack)
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines = ["the event loop is blocked"]
    for ident, frame in sys._current_frames().items():
        if ident != threading.get_ident():
            lines.append(f"  thread {names.get(ident, ident)}")
            lines.append("".join(traceback.format_stack(frame)))
    return "\n".join(lines)
