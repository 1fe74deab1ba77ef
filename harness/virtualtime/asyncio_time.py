"""AnyIO's options for an asyncio event loop with virtual time."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from ..backends import UVLOOP
from .contract import Timeline
from .loop import LoopTime, virtual_loop


def loop_options(options: Mapping[str, Any]) -> tuple[Timeline, dict[str, Any]]:
    """The time of the loop that AnyIO will make, and what to make it by."""
    changed = dict(options)
    factory: Callable[[], asyncio.AbstractEventLoop] | None = changed.pop("loop_factory", None)
    if changed.pop("use_uvloop", False) and factory is None:
        factory = importlib.import_module(UVLOOP).new_event_loop
    make = factory or asyncio.new_event_loop
    time = LoopTime()
    changed["loop_factory"] = lambda: virtual_loop(make(), time)
    return time, changed
