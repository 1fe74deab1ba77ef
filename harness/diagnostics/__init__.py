"""What the harness can say about what is running: tasks, what they wait for, threads."""

from __future__ import annotations

from .blocking import Blocked, Sampler
from .connections import LiveConnection, ProxiedConnection, ProxiedRecord, format_endless
from .loopview import TEST, LoopView
from .stacks import (
    all_in,
    await_stack,
    end_in_user_code,
    innermost_project_line,
    innermost_user_line,
    place_of_function,
    waits_for_children,
    without_machinery,
)
from .stubborn import format_stubborn
from .threads import format_threads, innermost_of_thread
from .tree import format_tasks
from .unwinding import was_on_its_way_out

__all__ = [
    "TEST",
    "Blocked",
    "LiveConnection",
    "LoopView",
    "ProxiedConnection",
    "ProxiedRecord",
    "Sampler",
    "all_in",
    "await_stack",
    "end_in_user_code",
    "format_endless",
    "format_stubborn",
    "format_tasks",
    "format_threads",
    "innermost_of_thread",
    "innermost_project_line",
    "innermost_user_line",
    "place_of_function",
    "waits_for_children",
    "was_on_its_way_out",
    "without_machinery",
]
