"""What is running, in words, for a test that did not end."""

from __future__ import annotations

import textwrap
import threading

from ..adapters import blocking
from ..core import ended_servers, live_connections
from ..diagnostics import (
    LoopView,
    format_endless,
    format_tasks,
    format_threads,
    innermost_of_thread,
)

#: Columns of a report.
WIDTH = 100


def describe(view: LoopView | None, *, blocked: bool) -> str:
    """The tasks of the event loop; if it is ``blocked``, first where, and last all threads.

    Before the tasks stand the streams that are read again and again at their end, and after them
    what runs in the threads of ``serve_blocking``.

    :param view: the event loop of the test, if it has one yet
    """
    parts = []
    thread_id = threading.main_thread().ident if view is None else view.thread_id
    if blocked:
        what = "the main thread" if view is None else "the event loop"
        parts.append(innermost_of_thread(f"{what} is blocked at ", thread_id, width=WIDTH))
    parts += format_endless(live_connections(), width=WIDTH)
    elsewhere = list(blocking.serving)
    if view is not None:
        connections = live_connections(but=elsewhere)
        ended = ended_servers(but=elsewhere)
        parts.append(format_tasks(view, connections=connections, ended=ended, width=WIDTH))
    for harness in elsewhere:
        tree = textwrap.indent(harness._report(WIDTH - 2), "  ")
        parts.append(f"the event loop of serve_blocking(), on {harness.backend}\n{tree}")
    if blocked:
        loop_thread = None if view is None else thread_id
        threads = format_threads(
            skip={threading.get_ident()}, mark_loop_thread=loop_thread, width=WIDTH - 2
        )
        parts.append(f"threads\n{textwrap.indent(threads, '  ')}")
    return "\n".join(parts)
