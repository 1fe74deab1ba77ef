"""Nothing gets through for a while."""

from __future__ import annotations

from .contract import Link, Toxic


class Freeze(Toxic):
    """Holds bytes and the end of the stream back; all goes on, in order, when it is taken away.

    The sender has to wait as soon as the buffers on the way are full. Nothing is lost.
    """

    async def transfer(self, data: bytes, link: Link) -> None:
        await link.hold()
        await link.send(data)

    async def finish(self, link: Link) -> None:
        await link.hold()
        await link.send_eof()
