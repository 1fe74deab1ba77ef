"""Which function has blocked the event loop."""

from __future__ import annotations

import time

import anyio
import pytest

from harness.diagnostics import Sampler
from harness.pytest_plugin.lease import WayIn


def ladder(n: int) -> int:
    """Calls itself, so that no two looks meet the same stack."""
    if n < 2:
        return n
    one = ladder(n - 1)
    other = ladder(n - 2)
    return one + other


def climb(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ladder(12)


@pytest.mark.harness(timeout=10)
async def test_the_innermost_function_is_named():
    way_in = WayIn.here()
    sampler = Sampler(way_in.view, way_in.call_soon, 0.02)
    climb(0.5)
    found = await anyio.to_thread.run_sync(sampler.stop)  # it would wait for this very step
    longest = max(found, key=lambda each: each.seconds)
    assert longest.function == "ladder"
    assert "test_blocking.py:" in longest.stack[-1]
    assert " in ladder: " in longest.stack[-1]
    assert f"{longest}".startswith("blocked the event loop for ")
    assert f"{longest}".splitlines()[0].endswith(" s in ladder:")
