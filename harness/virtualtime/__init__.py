"""Virtual time: exact, and instant, on every backend."""

from .clock import VirtualClock

__all__ = ["VirtualClock"]
