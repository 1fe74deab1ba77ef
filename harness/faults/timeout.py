"""A peer that hangs."""

from __future__ import annotations

from .contract import Link, Toxic, checked_number


class Timeout(Toxic):
    """Stalls: holds bytes and the end of the stream back, and ends the connection after a while.

    Taken away before its time, it lets all of it go on, in order.

    :param after: seconds, from the moment that it acts on a connection, after which that is ended
        with FIN on both sides, and what is held back is lost; ``None`` for never. Traffic does not
        restart the clock.
    """

    def __init__(self, after: float | None = None) -> None:
        self.after: float | None = (
            None if after is None else checked_number(after, "after", of="Timeout")
        )

    async def transfer(self, data: bytes, link: Link) -> None:
        await link.hold()
        await link.send(data)

    async def finish(self, link: Link) -> None:
        await link.hold()
        await link.send_eof()

    async def watch(self, link: Link) -> None:
        if self.after is not None and await link.pause_until(link.began + self.after):
            await link.close()
