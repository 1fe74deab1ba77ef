"""Cancel scopes that were entered and never left."""

from __future__ import annotations

import asyncio
import sys

import anyio
import anyio.lowlevel
import pytest
from leak_driver import leaks_of, line_of, the_one

from harness import open_harness

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

kept = []


def test_a_scope_that_is_never_left(backend):
    async def leak():
        kept.append(anyio.CancelScope())
        kept[0].__enter__()  # entered here

    leaks = leaks_of(backend, leak, after=lambda: kept.pop().__exit__(None, None, None) and None)
    the_one(leaks, "cancel scope", "never left", line_of(leak, "# entered here"))


def test_a_task_group_that_is_never_left(backend):
    async def leak():
        kept.append(anyio.create_task_group())
        await kept[0].__aenter__()  # entered here

    leaks = leaks_of(backend, leak, after=lambda: kept.pop().__aexit__(None, None, None))
    the_one(leaks, "cancel scope", "never left", line_of(leak, "# entered here"))


def test_scopes_that_are_left(backend):
    async def twin():
        with anyio.CancelScope(), anyio.move_on_after(1):
            await anyio.lowlevel.checkpoint()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep(1)
        with pytest.raises(TimeoutError), anyio.fail_after(0):
            await anyio.sleep(1)
        with pytest.raises(BaseExceptionGroup):
            async with anyio.create_task_group():
                raise ValueError

    assert leaks_of(backend, twin) == []


def test_a_scope_of_the_harness_that_ends_in_another_task(backend):
    """Opened in one task and closed in another, a harness leaves its scope with the first."""
    if backend == "trio":
        pytest.skip("trio does not let a task end with an open scope")

    async def twin():
        block = open_harness(transport="memory")
        await asyncio.create_task(block.__aenter__())
        await block.__aexit__(None, None, None)

    assert leaks_of(backend, twin) == []
