"""Running a workload in an event loop."""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable

import anyio

from harness.backends import BUILT_IN

from .comparing import Take


def taking(backend: str, workload: Callable[[], Awaitable[float]]) -> Take:
    """``workload``, in an event loop of its own each time. It returns its own figure."""

    def take() -> float:
        chosen = BUILT_IN[backend]
        gc.collect()
        return anyio.run(workload, backend=chosen.library, backend_options=dict(chosen.options))

    return take


async def per_round(times: int, step: Callable[[], Awaitable[object]]) -> float:
    """Microseconds that one of so many steps takes."""
    begin = time.perf_counter()
    for _ in range(times):
        await step()
    return (time.perf_counter() - begin) / times * 1e6
