"""What is running, in words, for a test that did not end."""

from __future__ import annotations

import threading

from ..core import live_connections
from ..diagnostics import LoopView, format_tasks, format_threads

#: Columns of a report.
WIDTH = 100


def describe(view: LoopView | None, *, blocked: bool) -> str:
    """The tasks of the event loop and, if it is ``blocked``, the stacks of all threads.

    :param view: the event loop of the test, if it has one yet
    """
    parts = []
    if view is not None:
        parts.append(format_tasks(view, connections=live_connections(), width=WIDTH))
    if blocked:
        what = "the main thread is blocked" if view is None else "the event loop is blocked"
        loop_thread = None if view is None else view.thread_id
        parts.append(
            f"{what}; the threads:\n"
            + format_threads(
                skip={threading.get_ident()}, mark_loop_thread=loop_thread, width=WIDTH
            )
        )
    return "\n".join(parts)
