"""Bytes that come in small pieces."""

from __future__ import annotations

from anyio import current_time

from .contract import Link, Toxic, checked_count, checked_number


class Slicer(Toxic):
    """Cuts the stream at places that follow from the seed, and waits after each piece.

    The places are the same in every run. Bytes that come in shorter pieces than these stay so.

    :param average_size: bytes
    :param size_variation: bytes; a piece is this much shorter or longer than the average, at most
    :param delay: seconds after each piece
    """

    def __init__(self, average_size: int, size_variation: int = 0, delay: float = 0.0) -> None:
        self.average_size: int = checked_count(average_size, "average_size", of="Slicer", least=1)
        self.size_variation: int = checked_count(size_variation, "size_variation", of="Slicer")
        if self.size_variation >= self.average_size:
            raise ValueError(
                f"Slicer: size_variation has to be below average_size ({average_size}), "
                f"not {size_variation}"
            )
        self.delay: float = checked_number(delay, "delay", of="Slicer")
        #: of the piece that has begun: the bytes that are still to come, and by which parameters
        self._left = 0
        self._cut_by: tuple[int, int] | None = None

    async def transfer(self, data: bytes, link: Link) -> None:
        while data and link.acts:
            sizes = self.average_size, self.size_variation
            if not self._left or self._cut_by != sizes:
                self._cut_by = sizes
                self._left = self.average_size + link.random.randint(
                    -self.size_variation, self.size_variation
                )
            piece, data = data[: self._left], data[self._left :]
            self._left -= len(piece)
            await link.send(piece)
            sent = current_time()
            while not self._left and link.acts:
                if await link.pause_until(sent + self.delay):
                    break
        await link.send(data)
