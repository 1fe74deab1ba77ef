"""Coroutines that nobody awaits."""

from __future__ import annotations

import sys
import warnings

import pytest
from leak_driver import leaks_of, line_of, the_one


async def work():
    """What is forgotten."""


async def nothing():
    """A test with nothing in it."""


def test_a_coroutine_that_is_forgotten(backend):
    async def leak():
        work()  # made here

    the_one(
        leaks_of(backend, leak), "coroutine", "work() was never awaited", line_of(leak, "# made")
    )


def test_a_coroutine_that_goes_with_the_event_loop(backend):
    async def leak():
        kept.append(work())  # made here

    kept = []
    leaks = leaks_of(backend, leak, after=kept.clear)
    the_one(leaks, "coroutine", "work() was never awaited", line_of(leak, "# made"))


def test_many_of_one_line_are_one_leak(backend):
    async def leak():
        for _ in range(100_000):
            work()  # made here

    leaks = leaks_of(backend, leak)
    what = "work() was never awaited, 100,000 times"
    the_one(leaks, "coroutine", what, line_of(leak, "# made"))


def test_coroutines_that_are_awaited_or_closed(backend):
    async def twin():
        await work()
        work().close()

    assert leaks_of(backend, twin) == []


def test_a_test_that_waits_for_the_warning(backend):
    async def twin():
        with pytest.warns(RuntimeWarning, match="never awaited"):
            work()

    assert leaks_of(backend, twin) == []


def test_afterwards_python_warns_again(backend):
    depth = sys.get_coroutine_origin_tracking_depth()
    leaks_of(backend, nothing)
    assert sys.get_coroutine_origin_tracking_depth() == depth
    with pytest.warns(RuntimeWarning, match="never awaited"):
        work()


def test_python_still_calls_what_is_replaced():
    assert callable(warnings._warn_unawaited_coroutine)
