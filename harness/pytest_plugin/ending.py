"""The end of a process that cannot go on."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Literal, NoReturn

import pytest

from ..diagnostics import format_threads
from .leftovers import release_everything

#: What a part of a test is called in pytest's reports.
When = Literal["setup", "call", "teardown"]

#: Seconds that pytest's own plugins get to report what was run.
REPORTS_MAY_TAKE = 10.0


def end_the_run(item: pytest.Item, when: When, report: str) -> NoReturn:
    """Report that ``item`` has failed, and all failures before it, and end the process.

    An event loop with a task that swallows every cancellation cannot be closed: on every backend,
    AnyIO's runner would now wait for it for ever, silently and at full speed.

    :param when: the part of the test that cannot end
    """
    capture: Any = item.config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.suspend_global_capture(in_=True)
    shown: list[None] = []
    # Not in this thread: whatever hangs in there, the process has to end.
    reporting = threading.Thread(
        target=_report_all, args=(item, when, report, shown), name="harness report", daemon=True
    )
    reporting.start()
    reporting.join(REPORTS_MAY_TAKE)
    print(
        f"\n\n{item.nodeid}: {_first_line(report) if shown else report}\n"
        "The event loop of this test cannot end, and the run with it: the process stops here."
        f"{_left_out(item)}",
        file=sys.stderr,
        flush=True,
    )
    release_everything()
    os._exit(pytest.ExitCode.INTERNAL_ERROR)


def _left_out(item: pytest.Item) -> str:
    """How many tests come after this one, in words; a worker's are run by the next one."""
    if hasattr(item.config, "workerinput"):
        return ""
    items = item.session.items
    left = len(items) - items.index(item) - 1 if item in items else 0
    return f" {left} of {len(items)} tests were not run." if left else ""


def _first_line(report: str) -> str:
    return report.partition("\n")[0]


def _report_all(item: pytest.Item, when: When, report: str, shown: list[None]) -> None:
    """What pytest would do at the end of the run, as far as it can be done in the middle.

    :param shown: gets an item if ``report`` was shown, too
    """
    config = item.config
    terminal: Any = config.pluginmanager.getplugin("terminalreporter")

    def log() -> None:
        # A worker of pytest-xdist sends it to the controller, which goes on with a new worker.
        call = pytest.CallInfo.from_call(lambda: pytest.fail(report, pytrace=False), when)
        made = item.ihook.pytest_runtest_makereport(item=item, call=call)
        item.ihook.pytest_runtest_logreport(report=made)
        if terminal is None:
            return
        terminal.summary_errors()
        terminal.summary_failures()
        if made.failed and config.getoption("tbstyle", "auto") != "no":
            shown.append(None)

    # Each for itself: what one plugin cannot do is no reason for the others to be silent.
    steps: list[Callable[[], object]] = [log]
    if terminal is not None:
        steps += [terminal.short_test_summary, terminal.summary_stats, sys.stdout.flush]
    for plugin in config.pluginmanager.get_plugins():
        # LogXML, which keeps its reports to itself until the end of the session.
        if type(plugin).__module__ == "_pytest.junitxml":
            steps.append(plugin.pytest_sessionfinish)
    for step in steps:
        with suppress(BaseException):
            step()


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
    release_everything()
    os._exit(config.stash.get(exit_status_key, int(pytest.ExitCode.INTERNAL_ERROR)))
