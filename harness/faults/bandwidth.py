"""A narrow way: so many bytes a second."""

from __future__ import annotations

from anyio import current_time

from .contract import Link, Toxic, checked_number

#: The seconds of which bytes go at once. Shorter is smoother and costs more.
STEP = 0.05


class Bandwidth(Toxic):
    """No more than ``rate`` bytes a second, in one direction of one connection.

    A run of ``n`` bytes has gone ``n / rate`` seconds after it could begin to, in steps of 50 ms.
    A link that was idle has nothing saved up.

    :param rate: bytes a second
    """

    def __init__(self, rate: float) -> None:
        self.rate: float = checked_number(rate, "rate", of="Bandwidth", least=1.0)
        self._free_at = 0.0

    async def transfer(self, data: bytes, link: Link) -> None:
        step = max(1, int(self.rate * STEP))
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            self._free_at = max(self._free_at, link.arrived) + len(piece) / self.rate
            if not await link.pause(self._free_at - current_time()):
                await link.send(data[start:])
                return
            await link.send(piece)
