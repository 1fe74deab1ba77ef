"""A connection that is torn down."""

from __future__ import annotations

from .contract import Link, Toxic, checked_count, checked_number


class ResetPeer(Toxic):
    """Ends the connection with RST, on both sides, whatever is on its way.

    With neither of its parameters, at once; with both, so many seconds after so many bytes.

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
        self._seen = 0

    async def transfer(self, data: bytes, link: Link) -> None:
        if self.after_bytes is None:
            await link.send(data)
            return
        left = self.after_bytes - self._seen
        self._seen += len(data)
        if len(data) <= left:
            await link.send(data)
        else:
            await link.send(data[: max(0, left)])
        if len(data) >= left:
            if await link.pause(self.after):
                await link.reset()
            await link.send(data[max(0, left) :])

    async def watch(self, link: Link) -> None:
        if self.after_bytes is None and await link.pause(self.after):
            await link.reset()
