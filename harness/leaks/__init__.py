"""What a test leaves behind: one module for each kind of thing that can leak."""

from __future__ import annotations

from .check import ALL, REFERENCE_DEPENDENT, LeakCheck
from .contract import Leak

__all__ = ["ALL", "REFERENCE_DEPENDENT", "Leak", "LeakCheck"]
