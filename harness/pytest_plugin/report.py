"""What is running, in words, for a test that did not end."""

from __future__ import annotations

import textwrap
import threading

from ..core import live_connections
from ..diagnostics import LoopView, format_tasks, format_threads, innermost_of_thread

#: Columns of a report.
WIDTH = 100


def describe(view: LoopView | None, *, blocked: bool) -> str:
    """The tasks of the event loop; if it is ``blocked``, first where, and last all threads.

    :param view: the event loop of the test, if it has one yet
    """
    parts = []
    thread_id = threading.main_thread().ident if view is None else view.thread_id
    if blocked:
        what = "the main thread" if view is None else "the event loop"
        parts.append(innermost_of_thread(f"{what} is blocked at ", thread_id, width=WIDTH))
    if view is not None:
        parts.append(format_tasks(view, connections=live_connections(), width=WIDTH))
    if blocked:
        loop_thread = None if view is None else thread_id
        threads = format_threads(
            skip={threading.get_ident()}, mark_loop_thread=loop_thread, width=WIDTH - 2
        )
        parts.append(f"threads\n{textwrap.indent(threads, '  ')}")
    return "\n".join(parts)
