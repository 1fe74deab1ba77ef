"""The pieces of a stream that some toxics act on: cut by the seed, the same in every run."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from .contract import Toxic, checked_count, checked_number


class PieceToxic(Toxic):
    """Cuts a stream into pieces, and chooses some of them.

    :param probability: of each piece, from 0 to 1
    :param average_size: bytes of a piece; each has from half to one and a half of that
    """

    def __init__(self, probability: float, average_size: int = 1024) -> None:
        of = type(self).__name__
        self.probability: float = checked_number(probability, "probability", of=of, most=1.0)
        self.average_size: int = checked_count(average_size, "average_size", of=of, least=1)
        #: of the piece that has begun: the bytes that are still to come, what was chosen for it,
        #: and by which parameters
        self._left = 0
        self._chosen = False
        self._cut_by: tuple[float, int] | None = None

    def _pieces(self, data: bytes, random: Random) -> Iterator[tuple[bytes, bool, bool, bool]]:
        """The parts of ``data``: whether each begins a piece, is of a chosen one, and ends it."""
        at = 0
        if self._cut_by != (self.probability, self.average_size):
            self._cut_by = self.probability, self.average_size
            self._left = 0
        while at < len(data):
            begins = not self._left
            if begins:
                half = self.average_size // 2
                self._left = max(1, self.average_size + random.randint(-half, half))
                self._chosen = random.random() < self.probability
            part = data[at : at + self._left]
            at += len(part)
            self._left -= len(part)
            yield part, begins, self._chosen, not self._left
