"""What AnyIO's task would not survive leaves the event loop by hand; something stands for it.

On the way out, an :exc:`Interrupted` is raised in its place; outside of the loop, wherever that has
got to, the real one takes its place again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import SkipTest

import pytest
from anyio import NoEventLoopError, get_cancelled_exc_class

from ..watch import FINAL, add_note, is_final

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

if pytest.exit.Exception not in FINAL:
    FINAL.append(pytest.exit.Exception)

#: What may leave a step: AnyIO's task survives it, and pytest and Hypothesis have to see it.
PASSES = (Exception, pytest.skip.Exception, pytest.fail.Exception)


class Interrupted(Exception):
    """Stands, inside of the event loop, for what is raised outside of it."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"interrupted by {error!r}")
        self.error = error


def passes(error: BaseException) -> bool:
    """Whether AnyIO's task survives that ``error`` leaves a step, or is to end by it."""
    if isinstance(error, PASSES):
        return not is_final(error)
    if type(error).__module__.partition(".")[0] == "hypothesis":
        return True  # `StopTest`, by which it ends an example
    try:
        return isinstance(error, get_cancelled_exc_class())
    except NoEventLoopError:  # an example that is not async
        return False


def brought_back(raised: BaseException | None, aside: list[BaseException]) -> BaseException:
    """``raised`` with what was put aside in the places of what stood for it.

    What ends the whole run is raised alone: pytest does not look for it in groups.
    """
    final = next(filter(is_final, aside), None)
    back = None if raised is None else _brought_back(raised)
    result = final or back or aside[0]
    for each in (*([] if back is None else [back]), *aside):
        if not _is_in(each, result) and not _is_in(result, each):
            add_note(result, f"(besides: {each!r})")
    return result


def _brought_back(raised: BaseException) -> BaseException:
    if isinstance(raised, Interrupted):
        return raised.error
    if isinstance(raised, BaseExceptionGroup) and raised.split(Interrupted)[0] is not None:
        exceptions = [_brought_back(each) for each in raised.exceptions]
        return BaseExceptionGroup(raised.message, exceptions).with_traceback(raised.__traceback__)
    return raised


@contextmanager
def context_kept(error: BaseException) -> Iterator[None]:
    __tracebackhide__ = True
    context = error.__context__
    try:
        yield
    finally:
        error.__context__ = context


def _is_in(error: BaseException, whole: BaseException) -> bool:
    if isinstance(whole, BaseExceptionGroup) and error is not whole:
        return any(_is_in(error, each) for each in whole.exceptions)
    return error is whole


class NoMoreExamples(Interrupted, SkipTest):
    """The same for one example of a test of Hypothesis.

    Hypothesis takes a time-out, as any failure, for something to be found again with a smaller
    example; only what skips the whole test ends it (hypothesis/core.py,
    ``skip_exceptions_to_reraise``).
    """
