"""What random choices follow from where nobody says: where such a seed comes from, and who hears.

Alone, the harness draws another one each time. A test runner that can replay a run has a source of
its own in :data:`sources`, and is told by :class:`Seed` which tests that matters to.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

#: The machine's own: whoever seeds Python's generator would draw the same one each time, and would
#: notice that somebody else draws from it.
_random = random.SystemRandom()


class Seed:
    """What all random choices of a harness follow from.

    :param value: the seed
    :param used: called whenever something is made to follow from it
    """

    def __init__(self, value: int | str, used: Callable[[], object] | None = None) -> None:
        self._value = value
        self._used = used

    @property
    def value(self) -> int | str:
        """The seed, for something of which it is not known yet whether it follows from it."""
        return self._value

    def use(self) -> int | str:
        """The seed, for something that follows from it."""
        if self._used is not None:
            self._used()
        return self._value


#: Where the seed of a harness that is given none comes from: the last one counts.
sources: list[Callable[[], Seed]] = []


def draw() -> int:
    """A number that nobody can foresee."""
    return _random.getrandbits(32)


def fresh() -> Seed:
    """A seed that nobody gave."""
    return sources[-1]() if sources else Seed(draw())


def checked_seed(seed: Any) -> int | str:
    """``seed``. Raises :exc:`TypeError` if it cannot be one."""
    if isinstance(seed, bool) or not isinstance(seed, (int, str)):
        raise TypeError(f"seed must be an int or a string, not {seed!r}")
    return seed
