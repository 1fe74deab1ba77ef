"""How several failures of one test are shown: what went wrong, and not who put it together.

pytest shows a group of exceptions as Python does, with every frame that it went through on its way
up; of the group itself these are an event loop's, AnyIO's and the harness's.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from types import TracebackType

import pytest

from ..diagnostics import leave_user_frames
from .run import current_run

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    run = current_run(item.config)
    if run is not None and run.by_harness and not item.config.getoption("fulltrace", False):
        error = None if call.excinfo is None else call.excinfo.value
        if isinstance(error, BaseExceptionGroup):
            leave_user_frames(error)
            # pytest takes the place of the failure from here, and says so if there is none; a
            # debugger goes there.
            traceback = next(_tracebacks(error), None)
            if traceback is not None:
                call.excinfo = pytest.ExceptionInfo.from_exc_info((type(error), error, traceback))
    return (yield)


def _tracebacks(error: BaseException) -> Iterator[TracebackType]:
    """The traceback of ``error``, if it has one, and of what is in it."""
    if error.__traceback__ is not None:
        yield error.__traceback__
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _tracebacks(each)
