"""A connection that ends in the middle of what is said."""

from __future__ import annotations

from .contract import Link, Toxic, checked_count


class LimitData(Toxic):
    """Lets so many bytes through, and then ends the connection with FIN, on both sides.

    It ends with the last of these bytes, and waits for no other. Toxics behind it do their work
    before: what they hold back arrives.

    :param limit: bytes of this direction of the connection
    """

    def __init__(self, limit: int) -> None:
        self.limit: int = checked_count(limit, "limit", of="LimitData")
        self._passed = 0

    async def transfer(self, data: bytes, link: Link) -> None:
        while data and link.acts:
            left = max(0, self.limit - self._passed)
            piece, data = data[:left], data[left:]
            self._passed += len(piece)
            await link.send(piece)
            await self._end_in_time(link)
        await link.send(data)

    async def watch(self, link: Link) -> None:
        await self._end_in_time(link)

    async def _end_in_time(self, link: Link) -> None:
        if self._passed >= self.limit:
            await link.disconnect()
