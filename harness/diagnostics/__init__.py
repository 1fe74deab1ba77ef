"""What the harness can say about running tasks."""

from __future__ import annotations

from .stacks import await_stack, format_stack

__all__ = ["await_stack", "format_stack"]
