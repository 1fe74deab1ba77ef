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

    async def watch(self, link: Link) -> None:
        if await link.pause_until(link.began + self.after):
            await link.send_eof()
