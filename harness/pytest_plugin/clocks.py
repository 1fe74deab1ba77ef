"""The fixtures of virtual time, and which tests run in it."""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

import pytest

from .options import Marked, Settings

if TYPE_CHECKING:
    from ..virtualtime import VirtualClock

#: The fixtures, and whether the clock of a test that uses only that one jumps by itself.
CLOCKS = {"virtual_clock": True, "autojump_clock": True, "mock_clock": False}

ROOM = __name__.rpartition(".")[0]

clock_key: pytest.StashKey[VirtualClock] = pytest.StashKey()


def clock_for(item: pytest.Item, settings: Settings, mark: Marked) -> VirtualClock | None:
    """The clock for a test that runs in virtual time; ``None`` for one that does not."""
    definitions: Any = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    asked = [
        jumps
        for name, jumps in CLOCKS.items()
        if name in definitions and definitions[name][-1].func.__module__.startswith(ROOM)
    ]
    wanted = settings.virtual_time if mark.virtual_time is None else mark.virtual_time
    if not asked and not wanted:
        return None
    if mark.virtual_time is False:
        return None  # a clock that is asked for says so
    function: Any = getattr(item, "obj", None)
    if hasattr(function, "hypothesis"):
        function = function.hypothesis.inner_test
    if not iscoroutinefunction(function):
        return None
    from ..virtualtime import VirtualClock

    clock = item.stash[clock_key] = VirtualClock(autojump=any(asked) if asked else True)
    return clock


def clock_of(request: pytest.FixtureRequest) -> VirtualClock:
    """The clock of the test that ``request`` is for."""
    item = request.node
    clock: VirtualClock | None = item.stash.get(clock_key, None)
    if clock is None:
        for mark in item.iter_markers("harness"):
            if mark.kwargs.get("virtual_time") is False:
                raise pytest.UsageError(
                    f"{item.nodeid}: @pytest.mark.harness(virtual_time=False) on a test that uses "
                    f"{request.fixturename!r}: take away the one or the other"
                )
        raise pytest.UsageError(
            f"{item.nodeid}: this test does not run in virtual time. It has to be async, and to "
            f"name {request.fixturename!r} in its arguments or in those of its fixtures; "
            "request.getfixturevalue() comes too late"
        )
    return clock


@pytest.fixture
def virtual_clock(request: pytest.FixtureRequest, anyio_backend: Any) -> VirtualClock:
    """The clock of this test, which runs in virtual time: instantly, and exactly."""
    return clock_of(request)
