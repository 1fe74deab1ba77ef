"""A connection that is torn down."""

from __future__ import annotations

from anyio import current_time

from .contract import Link, Toxic, checked_count, checked_number


class ResetPeer(Toxic):
    """Ends the connection with RST, on both sides, whatever is on its way.

    With neither of its parameters, at once; with both, so many seconds after so many bytes. What
    comes after these is held back.

    :param after: seconds, from the moment that it acts on the connection
    :param after_bytes: bytes of this direction, which go through before
    """

    def __init__(self, after: float = 0.0, after_bytes: int | None = None) -> None:
        self.after: float = checked_number(after, "after", of="ResetPeer")
        self.after_bytes: int | None = (
            None
            if after_bytes is None
            else checked_count(after_bytes, "after_bytes", of="ResetPeer")
        )
        self._passed = 0
        #: when that many had
        self._enough_at: float | None = None

    async def transfer(self, data: bytes, link: Link) -> None:
        while data and link.acts:
            limit = self.after_bytes
            left = len(data) if limit is None else max(0, limit - self._passed)
            piece, data = data[:left], data[left:]
            self._passed += len(piece)
            await link.send(piece)
            if limit is not None:
                await self._count_down(link)
        await link.send(data)

    async def watch(self, link: Link) -> None:
        await self._count_down(link)

    async def _count_down(self, link: Link) -> None:
        since = link.began
        if self.after_bytes:
            if self._passed < self.after_bytes:
                return
            since = self._enough_at = self._enough_at or current_time()
        if await link.pause_until(since + self.after):
            await link.reset()
