"""The data: keys, values, and when they end. No network in here, and no clock of its own."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable

import anyio


class Store:
    """Maps keys to values, some of which expire.

    Expiry is lazy: a key past its time is removed when somebody looks at it, so no background task
    has to be run, tested or stopped. The price is the memory of keys that nobody looks at.

    :param clock: the time in seconds, from any starting point; tests pass one that they can move
    """

    def __init__(self, clock: Callable[[], float] = anyio.current_time) -> None:
        self._clock = clock
        self._values: dict[bytes, bytes] = {}
        self._deadlines: dict[bytes, float] = {}

    def get(self, key: bytes) -> bytes | None:
        """The value of ``key``, or ``None``."""
        return self._values[key] if key in self else None

    def set(self, key: bytes, value: bytes, *, expires_in: float | None = None) -> None:
        """Set ``key`` for ``expires_in`` seconds, or for good whatever was set before."""
        self.delete(key)
        self._values[key] = value
        if expires_in is not None:
            self._deadlines[key] = self._clock() + expires_in

    def delete(self, key: bytes) -> bool:
        """Remove ``key``; tell whether it was there."""
        existed = key in self
        self._values.pop(key, None)
        self._deadlines.pop(key, None)
        return existed

    def increment(self, key: bytes) -> int:
        """Add one to the integer at ``key`` (none is zero); its time to live stays.

        Raises :exc:`ValueError` if the value is no integer.
        """
        value = int(self.get(key) or b"0") + 1
        self._values[key] = b"%d" % value
        return value

    def expire(self, key: bytes, seconds: float) -> bool:
        """Let ``key`` end in ``seconds``; tell whether it is there."""
        if key not in self:
            return False
        self._deadlines[key] = self._clock() + seconds
        return True

    def time_to_live(self, key: bytes) -> float | None:
        """Seconds until ``key`` ends, ``None`` if never. Raises :exc:`KeyError` for none."""
        if key not in self:
            raise KeyError(key)
        deadline = self._deadlines.get(key)
        return None if deadline is None else deadline - self._clock()

    def keys(self, pattern: bytes = b"*") -> list[bytes]:
        """The keys that match a glob ``pattern``."""
        return [
            key for key in list(self._values) if key in self and fnmatch.fnmatchcase(key, pattern)
        ]

    def __contains__(self, key: bytes) -> bool:
        deadline = self._deadlines.get(key)
        if deadline is not None and deadline <= self._clock():
            del self._values[key], self._deadlines[key]
        return key in self._values
