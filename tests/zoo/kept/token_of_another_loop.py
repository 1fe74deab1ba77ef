"""A thread keeps the first event loop it was told of, in a global, and calls into it for ever.

In the wild: https://github.com/pytest-dev/pytest-asyncio/issues/38, loops kept in globals.
"""

from __future__ import annotations

import pytest
from anyio import from_thread, to_thread
from anyio.lowlevel import EventLoopToken, current_token

from harness import Harness

FOUND = [r"^E +.*(RunFinishedError|Event loop is closed|RuntimeError)", r"from_thread\.run_sync\("]
#: The first of the two tests has nothing to complain about yet.
FAILS = "test_second"

metrics: list[str] = []
first_token: EventLoopToken | None = None


def buggy(name: str) -> None:
    from_thread.run_sync(metrics.append, name, token=first_token)


def correct(name: str) -> None:
    from_thread.run_sync(metrics.append, name)


async def use(report) -> None:
    global first_token
    if first_token is None:
        first_token = current_token()
    metrics.clear()
    await to_thread.run_sync(report, "requests")
    assert metrics == ["requests"]


@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize("report", [buggy, correct])
class TestReports:
    async def test_first(self, harness: Harness, report) -> None:
        await use(report)

    async def test_second(self, harness: Harness, report) -> None:
        await use(report)
