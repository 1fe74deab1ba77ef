"""Sparing the garbage collector what it need not look at."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: How many young objects there may be meanwhile, at the least, before they are looked through.
YOUNG = 1_000_000

#: The most that a threshold can be; of the last one, it means never.
MOST = 2**31 - 1

_lock = threading.Lock()
#: how many blocks there are at this moment, in whatever thread
_blocks = 0
_before = _meanwhile = (0, 0, 0)


@contextmanager
def fewer_collections() -> Iterator[None]:
    """Let garbage be collected among what is young only, and much less often, in this block.

    What ends ten thousand connections in one turn of the event loop makes so many exceptions and
    frames at once that CPython looks through all there is, more than once (Modules/gcmodule.c,
    ``gc_collect_generations``: whenever a quarter of it is new). Nothing of that is garbage, and to
    look took more than half of the time; among what is young only, still a third.

    Blocks may overlap in any order. What somebody else sets meanwhile stays.
    """
    global _blocks, _before, _meanwhile
    with _lock:
        _blocks += 1
        if _blocks == 1:
            _before = gc.get_threshold()
            if _before[0]:  # else there are no collections
                gc.set_threshold(max(_before[0], YOUNG), _before[1], MOST)
            _meanwhile = gc.get_threshold()
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if not _blocks and gc.get_threshold() == _meanwhile:
                gc.set_threshold(*_before)
