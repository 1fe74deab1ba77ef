"""When a toxic acts: on which connections, from which byte, in which seconds.

``when=`` takes one of these or several, which then all have to agree.
"""

from __future__ import annotations

from .contract import Trigger, checked_count, checked_number


class OnConnection(Trigger):
    """Only on the connection with this number; they count from 1."""

    def __init__(self, number: int) -> None:
        self.number: int = checked_count(number, "number", of="OnConnection", least=1)

    def covers(self, connection: int) -> bool:
        return connection == self.number


class FirstConnections(Trigger):
    """Only on the first ``count`` connections of the proxy."""

    def __init__(self, count: int) -> None:
        self.count: int = checked_count(count, "count", of="FirstConnections", least=1)

    def covers(self, connection: int) -> bool:
        return connection <= self.count


class AfterBytes(Trigger):
    """From the moment that the first ``count`` bytes of a direction have passed.

    On a connection that is live when the toxic is added, they count from then.
    """

    def __init__(self, count: int) -> None:
        self.count: int = checked_count(count, "count", of="AfterBytes")
        self._seen = 0

    def begins(self, data: bytes) -> int | None:
        before, self._seen = self._seen, self._seen + len(data)
        return self.count - before if self.count <= self._seen else None


class AfterPattern(Trigger):
    """From the moment that the first ``pattern`` has passed, however its bytes come in."""

    def __init__(self, pattern: bytes) -> None:
        if not isinstance(pattern, (bytes, bytearray)) or not pattern:
            raise TypeError(f"AfterPattern: pattern has to be some bytes, not {pattern!r}")
        self.pattern: bytes = bytes(pattern)
        self._tail = b""

    def begins(self, data: bytes) -> int | None:
        joined = self._tail + data
        at = joined.find(self.pattern)
        if at >= 0:
            return at + len(self.pattern) - len(self._tail)
        keep = len(self.pattern) - 1
        self._tail = joined[-keep:] if keep else b""
        return None


class During(Trigger):
    """From ``start`` to ``end`` seconds after the toxic was added."""

    def __init__(self, start: float, end: float = float("inf")) -> None:
        self.start: float = checked_number(start, "start", of="During")
        if isinstance(end, bool) or not isinstance(end, (int, float)) or not end > self.start:
            raise ValueError(f"During: end has to come after start ({start!r}), and not be {end!r}")
        self.end: float = end

    def window(self) -> tuple[float, float]:
        return (self.start, self.end)
