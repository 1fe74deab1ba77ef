"""Processes that only answer: as long as nobody waits for one of them, it holds no virtual time.

A server in a process has no end of its own. If it held the time as other processes do, which are
at work until they end, no timer would ever fall due beside it. Its connections hold the time, as
all do that lead out of the event loop.
"""

from __future__ import annotations

#: Their process ids. Changed in the event loop that they belong to.
at_rest: set[int] = set()
