"""Pieces of a stream that are lost."""

from __future__ import annotations

from .contract import Link
from .pieces import PieceToxic


class Drop(PieceToxic):
    """Loses pieces of the stream. Which ones follows from the seed, and is the same in every run.

    No network does this to TCP; a broken middlebox or a careless relay does.

    :param probability: of each piece, from 0 to 1
    :param average_size: bytes of a piece; each has from half to one and a half of that
    """

    async def transfer(self, data: bytes, link: Link) -> None:
        pieces = self._pieces(data, link.random)
        await link.send(b"".join(part for part, _, chosen, _ in pieces if not chosen))
