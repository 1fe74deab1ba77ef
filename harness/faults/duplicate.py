"""Pieces of a stream that arrive twice."""

from __future__ import annotations

from .contract import Link, Toxic, checked_count, checked_number
from .pieces import Pieces


class Duplicate(Toxic):
    """Sends pieces of the stream twice. Which ones follows from the seed, the same in every run.

    :param probability: of each piece, from 0 to 1
    :param average_size: bytes of a piece; each has from half to one and a half of that
    """

    def __init__(self, probability: float, average_size: int = 1024) -> None:
        self.probability: float = checked_number(
            probability, "probability", of="Duplicate", most=1.0
        )
        self.average_size: int = checked_count(
            average_size, "average_size", of="Duplicate", least=1
        )
        self._pieces = Pieces(self.average_size, self.probability)
        self._piece = b""

    async def transfer(self, data: bytes, link: Link) -> None:
        out = []
        for part, chosen, ends in self._pieces.cut(data, link.random):
            out.append(part)
            if chosen:
                self._piece += part
                if ends:
                    out.append(self._piece)
                    self._piece = b""
        await link.send(data if sum(map(len, out)) == len(data) else b"".join(out))
