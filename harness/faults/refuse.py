"""A server that takes no connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import ConnectionFailed

from .contract import Toxic

if TYPE_CHECKING:
    from .proxy import ProxyConnection


class Refuse(Toxic):
    """Refuses connections: ``proxy.connect()`` raises :exc:`~anyio.ConnectionFailed`.

    A client of another kind has its connection accepted by the kernel before anybody is asked, and
    sees it reset at once. (``await proxy.disable()`` is refusal by the kernel itself.) Live
    connections go on. The direction does not matter.
    """

    async def accept(self, connection: ProxyConnection) -> None:
        raise ConnectionFailed("Refuse is at work")
