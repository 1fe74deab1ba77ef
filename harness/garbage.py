"""Sparing the garbage collector what it need not look at."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

#: How much larger than usual the heaps of young objects may grow meanwhile.
LARGER = 50

#: Collections of the younger ones before all there is is looked through: never.
NEVER = 2**31 - 1


@contextmanager
def fewer_collections() -> Iterator[None]:
    """Let garbage be collected among what is young only, and less often, in this block.

    What ends ten thousand connections in one turn of the event loop makes so many exceptions and
    frames at once that CPython looks through all there is, more than once (Modules/gcmodule.c,
    ``gc_collect_generations``: whenever a quarter of it is new). Nothing of that is garbage, and to
    look took more than half of the time.
    """
    before = gc.get_threshold()
    if before[0]:  # else there are no collections
        gc.set_threshold(before[0] * LARGER, before[1], NEVER)
    try:
        yield
    finally:
        gc.set_threshold(*before)
