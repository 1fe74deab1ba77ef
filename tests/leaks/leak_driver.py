"""The least that a test runner has to do with a `LeakCheck`: one test, in an event loop of its own.

The body runs in the task that looks afterwards, as under pytest.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from anyio._core._eventloop import get_async_backend

from harness.backends import BUILT_IN
from harness.leaks import Leak, LeakCheck
from harness.settling import has_nothing_to_run

Body = Callable[[], Awaitable[object]]


def leaks_of(
    backend: str,
    body: Body,
    *,
    before: Body | None = None,
    after: Callable[[], object] | None = None,
    check: LeakCheck | None = None,
    **find: Any,
) -> list[Leak]:
    """What ``body`` leaves behind.

    And what is seen from outside of the event loop, where pytest's plugin looks first, is compared:
    if that is nothing, there must be nothing inside.

    :param before: a wider-scoped fixture, set up first
    :param after: cleans up behind ``body`` in the event loop, once it has been looked at
    :param find: arguments of `LeakCheck.find`
    """
    check = check or LeakCheck()
    leaks: list[Leak] = []
    found: list[Leak] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def run_body() -> None:
        check.entered_loop()
        loops.extend(filter(None, [asyncio._get_running_loop()]))
        if before is not None:
            with check.exempt():
                await before()
        check.entered_loop()
        await body()

    async def look() -> None:
        found.extend(await check.find(**find))
        leaks.extend(found)
        if after is not None:
            result = after()
            if inspect.isawaitable(result):
                await result

    of_backend = BUILT_IN[backend]
    check.start()
    try:
        # Not `get_runner`, of whose runners there is one: a check may run inside of a check.
        library = get_async_backend(of_backend.library)
        with library.create_test_runner(dict(of_backend.options)) as runner:
            runner.run_fixture(run_body, {})
            loop = loops[0] if loops else None
            looks_clean = has_nothing_to_run(loop) and check.nothing_left(loop)
            runner.run_fixture(look, {})
    finally:
        leaks.extend(check.stop())
    assert not (looks_clean and found), f"from outside, nothing was seen of {found}"
    return leaks


def line_of(function: Callable[..., Any], text: str) -> str:
    """``test_x.py:12 in``, for the one line of ``function`` that contains ``text``."""
    lines, first = inspect.getsourcelines(function)
    (number,) = (first + index for index, line in enumerate(lines) if text in line)
    return f"{inspect.getsourcefile(function)}:{number} in ".rpartition("/")[2]


def the_one(leaks: list[Leak], kind: str, what: str, where: str | None) -> None:
    """Assert that there is one leak, and that it is this one."""
    assert [leak.kind for leak in leaks] == [kind], "\n".join(map(str, leaks))
    (leak,) = leaks
    assert what in leak.what, leak.what
    if where is None:
        assert leak.where is None
    else:
        assert leak.where is not None
        assert where in leak.where, leak.where
