"""Pieces of a stream that arrive twice."""

from __future__ import annotations

from .contract import Link
from .pieces import PieceToxic


class Duplicate(PieceToxic):
    """Sends pieces of the stream twice. Which ones follows from the seed, the same in every run.

    A piece comes again as soon as it is whole; what is at the end of the stream may be none.

    :param probability: of each piece, from 0 to 1
    :param average_size: bytes of a piece; each has from half to one and a half of that
    """

    def __init__(self, probability: float, average_size: int = 1024) -> None:
        super().__init__(probability, average_size)
        self._piece = b""

    async def transfer(self, data: bytes, link: Link) -> None:
        out = []
        for part, begins, chosen, ends in self._pieces(data, link.random):
            out.append(part)
            if chosen:
                self._piece = part if begins else self._piece + part
                if ends:
                    out.append(self._piece)
        await link.send(b"".join(out))
