"""A server that is slow to answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import sleep_until

from .contract import Toxic, checked_number

if TYPE_CHECKING:
    from .proxy import ProxyConnection


class SlowAccept(Toxic):
    """Connects to the server only after a while, and lets nothing through before.

    :param delay: seconds
    """

    def __init__(self, delay: float) -> None:
        self.delay: float = checked_number(delay, "delay", of="SlowAccept")

    async def accept(self, connection: ProxyConnection) -> None:
        if connection.times_asked == 1:
            connection.note(type(self).__name__)
        await sleep_until(connection.asked_at + self.delay)
