"""What a test leaves behind: one module for each kind of thing that can leak."""

from __future__ import annotations

from .check import ALL, REFERENCE_DEPENDENT, LeakCheck
from .contract import Leak
from .places import skip_library_of

__all__ = ["ALL", "REFERENCE_DEPENDENT", "Leak", "LeakCheck", "skip_library_of"]
