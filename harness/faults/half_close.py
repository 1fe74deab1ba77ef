"""A connection one direction of which ends."""

from __future__ import annotations

from .contract import Link, Toxic, checked_number


class HalfClose(Toxic):
    """Ends this direction with FIN; the other one goes on.

    What is sent this way afterwards is lost, as it is read and goes nowhere.

    :param after: seconds, from the moment that it acts on the connection
    """

    def __init__(self, after: float = 0.0) -> None:
        self.after: float = checked_number(after, "after", of="HalfClose")
        self._ended = False

    async def transfer(self, data: bytes, link: Link) -> None:
        if not self._ended:
            await link.send(data)

    async def finish(self, link: Link) -> None:
        if not self._ended:
            await link.send_eof()

    async def watch(self, link: Link) -> None:
        if await link.pause(self.after):
            self._ended = True
            await link.send_eof()
