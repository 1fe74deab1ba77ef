"""What a failure's traceback shows: the code of the user, from its first line on.

pytest cuts a traceback at the file of the test, and shows all of one that has no line there, such
as that of a handler in a module of its own. So the way of the harness and of AnyIO's runner to the
user's code is taken off before pytest looks; ``--full-trace`` keeps it.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from types import TracebackType
from typing import Any
from unittest import SkipTest

import pytest

from ..diagnostics import all_in, end_in_user_code, without_machinery
from .current import current_run

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup


def made_of_users_code(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Around the making of the report of a phase that has failed, or was skipped."""
    run = current_run(item.config)
    excinfo = call.excinfo
    if excinfo is None or run is None or not run.by_harness or item.config.getoption("fulltrace"):
        return (yield)
    error = excinfo.value
    if isinstance(error, SkipTest):
        report = yield
        _show_test_as_place(report, item)
        return report
    whole = error.__traceback__
    without_machinery(error)
    for each in all_in(error):
        if isinstance(each, BaseExceptionGroup):
            end_in_user_code(each)  # that a task group has raised it says its name
    nothing_left = _last_shown(error.__traceback__) is None
    if nothing_left:
        error.__traceback__ = _last_shown(whole) or whole  # pytest cannot do without any
    call.excinfo = pytest.ExceptionInfo.from_exception(error)
    report = yield
    if nothing_left and item.config.getoption("tbstyle") in ("auto", "long", "short"):
        _show_message_only(report, call.excinfo)
    return report


def _show_test_as_place(report: pytest.TestReport, item: pytest.Item) -> None:
    """A skip that the harness has raised is of the test; pytest's own line would be told."""
    if report.skipped and isinstance(report.longrepr, tuple):
        path, line, _ = item.reportinfo()
        report.longrepr = (str(path), (line or 0) + 1, report.longrepr[2])


def _last_shown(traceback: TracebackType | None) -> TracebackType | None:
    """The last entry that is not hidden: without one, pytest's summary has no message."""
    last = None
    while traceback is not None:
        if not traceback.tb_frame.f_locals.get("__tracebackhide__"):
            last = traceback
        traceback = traceback.tb_next
    if last is None:
        return None
    return TracebackType(None, last.tb_frame, last.tb_lasti, last.tb_lineno)


def _show_message_only(
    report: pytest.TestReport, excinfo: pytest.ExceptionInfo[BaseException]
) -> None:
    longrepr: Any = report.longrepr
    if not hasattr(longrepr, "reprtraceback"):
        return  # a skip; or an error that has a text of its own
    error = excinfo.value
    if isinstance(error, pytest.fail.Exception) and not error.pytrace:
        return

    def shown(each: pytest.ExceptionInfo[BaseException]) -> Any:
        return each.traceback.filter((lambda _: False) if each.value is error else each)

    longrepr = excinfo.getrepr(style="short", tbfilter=shown)
    # That all is hidden, and how to see it (_pytest/_code/code.py, ReprTraceback).
    longrepr.reprtraceback.extraline = None
    report.longrepr = longrepr
