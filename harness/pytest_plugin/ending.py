"""The end of a process that cannot go on."""

from __future__ import annotations

import os
import sys
import threading
from time import monotonic
from typing import Any, NoReturn

import pytest

from ..diagnostics import format_threads


def end_the_run(config: pytest.Config, report: str) -> NoReturn:
    """Print ``report`` and end the process.

    An event loop with a task that swallows every cancellation cannot be closed: on every backend,
    AnyIO's runner would now wait for it for ever, silently and at full speed.
    """
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.suspend_global_capture(in_=True)
    sys.stdout.flush()
    print(
        f"\n\n{report}\nThe event loop of this test cannot end, and the run with it: "
        "the process stops here.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(pytest.ExitCode.INTERNAL_ERROR)


exit_status_key: pytest.StashKey[int] = pytest.StashKey()

#: Seconds that threads get to end by themselves after the run.
THREADS_MAY_TAKE = 2.0


def end_without_threads(config: pytest.Config) -> None:
    """End the process if threads that are no daemons still run, as after a call that never returns.

    Python waits for such threads for ever before it ends (CPython, ``threading._shutdown``), and
    AnyIO's worker threads on asyncio are of that kind.
    """
    others = [
        thread
        for thread in threading.enumerate()
        if not thread.daemon and thread is not threading.current_thread()
    ]
    end = monotonic() + THREADS_MAY_TAKE
    for thread in others:
        thread.join(max(0.0, end - monotonic()))
    stuck = [thread for thread in others if thread.is_alive()]
    if not stuck:
        return
    sys.stdout.flush()
    print(
        "\nA test did not end in time, and these threads still run. The process ends without "
        f"them:\n{format_threads(skip={threading.get_ident()})}",
        file=sys.stderr,
        flush=True,
    )
    os._exit(config.stash.get(exit_status_key, int(pytest.ExitCode.INTERNAL_ERROR)))
