"""A narrow way: so many bytes a second."""

from __future__ import annotations

from anyio import current_time

from .contract import Link, Toxic, checked_number

#: The seconds of which bytes go at once. Shorter is smoother and costs more.
STEP = 0.05


class Bandwidth(Toxic):
    """No more than ``rate`` bytes a second, in one direction of one connection.

    A run of ``n`` bytes has gone ``n / rate`` seconds after it could begin to, in steps of 50 ms.
    A link that was idle, or could not send, has nothing saved up.

    :param rate: bytes a second
    """

    def __init__(self, rate: float) -> None:
        self.rate: float = checked_number(rate, "rate", of="Bandwidth", least=1.0)
        #: since when it has been busy, at which rate, and the bytes that it has sent since
        self._since = 0.0
        self._at_rate = self.rate
        self._sent = 0

    async def transfer(self, data: bytes, link: Link) -> None:
        if link.arrived > self._when_sent(0):
            self._since, self._at_rate, self._sent = link.arrived, self.rate, 0
        while data and link.acts:
            if self.rate != self._at_rate:
                # As much has gone by now as before, in the time that it takes at the new rate.
                now = current_time()
                self._since = now - (now - self._since) * self._at_rate / self.rate
                self._at_rate = self.rate
            piece = data[: max(1, int(self.rate * STEP))]
            if await link.pause_until(self._when_sent(len(piece))):
                begins = current_time()
                await link.send(piece)
                self._since += current_time() - begins
                self._sent += len(piece)
                data = data[len(piece) :]
        await link.send(data)

    def _when_sent(self, more: int) -> float:
        return self._since + (self._sent + more) / self._at_rate
