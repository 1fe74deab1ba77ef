"""An end that comes late."""

from __future__ import annotations

from anyio import current_time

from .contract import Link, Toxic, checked_number


class SlowClose(Toxic):
    """The end of the stream (FIN) is late; bytes are not.

    :param delay: seconds
    """

    def __init__(self, delay: float) -> None:
        self.delay: float = checked_number(delay, "delay", of="SlowClose")

    async def finish(self, link: Link) -> None:
        came = current_time()
        while link.acts and not await link.pause_until(came + self.delay):
            pass  # it was changed
        await link.send_eof()
