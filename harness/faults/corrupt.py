"""Bytes that arrive as others."""

from __future__ import annotations

import math

from .contract import Link, Toxic, checked_number


class Corrupt(Toxic):
    """Changes bytes at places that follow from the seed, and are the same in every run.

    :param probability: of each byte, from 0 to 1
    :param replacement: what stands for a byte that is hit; by default one of its bits is flipped
    """

    def __init__(self, probability: float, replacement: bytes | None = None) -> None:
        self.probability: float = checked_number(probability, "probability", of="Corrupt", most=1.0)
        if replacement is not None and (
            not isinstance(replacement, bytes) or len(replacement) != 1
        ):
            raise TypeError(f"Corrupt: replacement has to be one byte, not {replacement!r}")
        self.replacement: bytes | None = replacement
        #: bytes until the next one that is hit, and by which probability
        self._gap = 0.0
        self._gap_by: float | None = None

    async def transfer(self, data: bytes, link: Link) -> None:
        if self._gap_by != self.probability:
            self._gap_by = self.probability
            self._gap = self._next_gap(link)
        if self._gap >= len(data):
            self._gap -= len(data)
            await link.send(data)
            return
        changed = bytearray(data)
        at = self._gap
        while at < len(changed):
            place = int(at)
            if self.replacement is None:
                changed[place] ^= 1 << link.random.randrange(8)
            else:
                changed[place] = self.replacement[0]
            at += 1 + self._next_gap(link)
        self._gap = at - len(changed)
        await link.send(bytes(changed))

    def _next_gap(self, link: Link) -> float:
        """How many bytes are spared before the next: geometrically distributed."""
        if not self.probability:
            return math.inf
        if self.probability == 1:
            return 0
        return math.floor(math.log(1.0 - link.random.random()) / math.log1p(-self.probability))
