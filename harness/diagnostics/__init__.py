"""What the harness can say about running tasks."""

from __future__ import annotations

from .stacks import (
    await_stack,
    format_stack,
    innermost_user_line,
    waits_for_children,
    without_machinery,
)

__all__ = [
    "await_stack",
    "format_stack",
    "innermost_user_line",
    "waits_for_children",
    "without_machinery",
]
