"""The pieces of a stream that some toxics act on: cut by the seed, the same in every run."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random


class Pieces:
    """Cuts a stream into pieces, and chooses some of them.

    :param average: bytes of a piece; each has from half to one and a half of that
    :param probability: of a piece, to be chosen
    """

    def __init__(self, average: int, probability: float) -> None:
        self._average = average
        self._probability = probability
        self._left = 0
        self._chosen = False

    def cut(self, data: bytes, random: Random) -> Iterator[tuple[bytes, bool, bool]]:
        """The parts of ``data``: each with whether its piece is chosen, and ends with it."""
        at = 0
        while at < len(data):
            if not self._left:
                half = self._average // 2
                self._left = max(1, self._average + random.randint(-half, half))
                self._chosen = random.random() < self._probability
            part = data[at : at + self._left]
            at += len(part)
            self._left -= len(part)
            yield part, self._chosen, not self._left
