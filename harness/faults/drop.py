"""Pieces of a stream that are lost."""

from __future__ import annotations

from .contract import Link, Toxic, checked_count, checked_number
from .pieces import Pieces


class Drop(Toxic):
    """Loses pieces of the stream. Which ones follows from the seed, and is the same in every run.

    No network does this to TCP; a broken middlebox or a careless relay does.

    :param probability: of each piece, from 0 to 1
    :param average_size: bytes of a piece; each has from half to one and a half of that
    """

    def __init__(self, probability: float, average_size: int = 1024) -> None:
        self.probability: float = checked_number(probability, "probability", of="Drop", most=1.0)
        self.average_size: int = checked_count(average_size, "average_size", of="Drop", least=1)
        self._pieces = Pieces(self.average_size, self.probability)

    async def transfer(self, data: bytes, link: Link) -> None:
        kept = [part for part, chosen, _ in self._pieces.cut(data, link.random) if not chosen]
        joined = b"".join(kept)
        await link.send(data if len(joined) == len(data) else joined)
