"""A connection that ends in the middle of what is said."""

from __future__ import annotations

from .contract import Link, Toxic, checked_count


class LimitData(Toxic):
    """Lets so many bytes through, and then ends the connection with FIN, on both sides.

    :param limit: bytes of this direction of the connection
    """

    def __init__(self, limit: int) -> None:
        self.limit: int = checked_count(limit, "limit", of="LimitData")
        self._seen = 0

    async def transfer(self, data: bytes, link: Link) -> None:
        left = max(0, self.limit - self._seen)
        self._seen += len(data)
        if len(data) < left:
            await link.send(data)
            return
        await link.send(data if len(data) == left else data[:left])
        await link.disconnect()

    async def watch(self, link: Link) -> None:
        if not self.limit:
            await link.disconnect()
