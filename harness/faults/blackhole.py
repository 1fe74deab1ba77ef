"""A cable that was cut."""

from __future__ import annotations

from .contract import Link, Toxic, checked_number


class Blackhole(Toxic):
    """Drops: bytes are lost, and their sender does not notice.

    The end of the stream is held back. Taken away, it lets that go on, and what comes later.

    :param after: seconds, from the moment that it acts on a connection, after which that is ended
        with FIN on both sides; ``None`` for never. Traffic does not restart the clock.
    """

    def __init__(self, after: float | None = None) -> None:
        self.after: float | None = (
            None if after is None else checked_number(after, "after", of="Blackhole")
        )

    async def transfer(self, data: bytes, link: Link) -> None:
        """Nothing goes on."""

    async def finish(self, link: Link) -> None:
        await link.hold()
        await link.send_eof()

    async def watch(self, link: Link) -> None:
        if self.after is not None and await link.pause_until(link.began + self.after):
            await link.close()
