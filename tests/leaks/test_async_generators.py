"""Async generators that were begun and not finished."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager

import anyio
import anyio.lowlevel
from leak_driver import leaks_of, line_of, the_one

kept = []


async def numbers():
    try:
        for number in range(3):
            yield number
    finally:
        await anyio.lowlevel.checkpoint()


@asynccontextmanager
async def manager():
    yield 1


def test_a_generator_that_is_suspended(backend):
    async def leak():
        kept.append(numbers())
        await kept[0].__anext__()  # begun here

    leaks = leaks_of(backend, leak, after=lambda: kept.pop().aclose())
    the_one(leaks, "async generator", "numbers, suspended at", line_of(leak, "# begun here"))
    assert line_of(numbers, "yield number") in leaks[0].what


def test_a_generator_that_is_dropped(backend):
    async def leak():
        async for number in numbers():  # begun here
            if number == 1:
                break

    the_one(
        leaks_of(backend, leak), "async generator", "numbers, dropped", line_of(leak, "# begun")
    )


def test_a_context_manager_that_is_never_left(backend):
    async def leak():
        kept.append(manager())
        await kept[0].__aenter__()  # begun here

    leaks = leaks_of(backend, leak, after=lambda: kept.pop().__aexit__(None, None, None))
    the_one(leaks, "async generator", "manager, suspended", line_of(leak, "# begun here"))


def test_generators_that_are_finished(backend):
    async def twin():
        assert [number async for number in numbers()] == [0, 1, 2]
        async with aclosing(numbers()) as generator:
            async for _ in generator:
                break
        async with manager():
            pass
        numbers()  # never begun

    assert leaks_of(backend, twin) == []
