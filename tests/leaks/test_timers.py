"""Timers of asyncio event loops that the code under test has set."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from leak_driver import leaks_of, line_of, the_one


@pytest.fixture(autouse=True)
def only_asyncio(backend):
    if backend == "trio":
        pytest.skip("trio has no timers beside tasks and cancel scopes")


def ring():
    """What a timer calls."""


@pytest.mark.parametrize("how", ["call_later", "call_at"])
def test_a_timer_that_is_set(backend, how):
    async def leak():
        loop = asyncio.get_running_loop()
        if how == "call_at":
            loop.call_at(loop.time() + 60, ring)  # call_at
        else:
            loop.call_later(60, ring)  # call_later

    leaks = leaks_of(backend, leak)
    the_one(leaks, "timer", "ring", line_of(leak, f"# {how}"))
    assert "due in " in leaks[0].what


def test_timers_that_have_run_or_were_cancelled(backend):
    async def twin():
        loop = asyncio.get_running_loop()
        rung = asyncio.Event()
        loop.call_later(0.001, rung.set)
        await rung.wait()
        for _ in range(1000):
            loop.call_later(60, ring).cancel()

    assert leaks_of(backend, twin) == []


def test_timers_of_the_machinery(backend):
    """A task that is cancelled while it sleeps leaves none; one that is left behind has its own."""

    async def twin():
        with anyio.move_on_after(0.001):
            await anyio.sleep(60)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anyio.Event().wait(), 0.001)

    assert leaks_of(backend, twin) == []
