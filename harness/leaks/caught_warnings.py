"""Whether the code under test catches warnings itself.

A leak that Python or AnyIO would warn of is reported as a leak and not warned of as well, except
to a test that waits for the warning (``pytest.warns``, ``warnings.catch_warnings(record=True)``).
"""

from __future__ import annotations

import warnings
from typing import Any


class WarningsOfTheTest:
    """Knows where warnings went when a part of the test began."""

    def __init__(self) -> None:
        self._sink: Any = None

    def begin(self) -> None:
        """A part of the test begins."""
        self._sink = _sink()

    def end(self) -> None:
        """No code of the test runs any more."""
        self._sink = None

    def are_caught(self) -> bool:
        """Whether they go elsewhere now, because the test itself said so."""
        return self._sink is not None and _sink() != self._sink


def _sink() -> Any:
    # What catch_warnings(record=True) replaces: `showwarning`, or this one since Python 3.6.
    implementation = getattr(warnings, "_showwarnmsg_impl", None)
    return warnings.showwarning, implementation
