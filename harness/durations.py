"""How long things may take if nobody says, and which numbers are a time."""

from __future__ import annotations

import math

#: Seconds that handlers get to finish their work at the end, if nothing else is said.
DEFAULT_GRACE = 0.5

#: Seconds that a cancelled handler may take to stop, if nothing else is said.
DEFAULT_CANCEL_TIMEOUT = 5.0


def checked_grace(grace: float, what: str = "grace") -> float:
    """``grace`` in seconds. Raises :exc:`ValueError` or :exc:`TypeError` if it cannot be one."""
    if isinstance(grace, bool) or not isinstance(grace, (int, float)):
        raise TypeError(f"{what} must be a number of seconds, not {grace!r}")
    if math.isnan(grace) or grace < 0:
        raise ValueError(f"{what} must be a number of seconds, zero or more, not {grace!r}")
    return float(grace)
