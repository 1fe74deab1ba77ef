"""A server that is an asyncio protocol."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from anyio.abc import ByteStream, TaskStatus

from ..backends import current_library
from .asyncio_transport import StreamTransport
from .base import Shape, Site
from .functions import checked_function, name_of


class OnAsyncio(Shape):
    """A server for asyncio, to which the harness gives its connections."""

    def missing(self, site: Site) -> str | None:
        if current_library() == "asyncio":
            return None
        return f"{self.name} is a server for asyncio, and the test runs on {site.backend}"

    async def run(self, site: Site, *, task_status: TaskStatus[Any]) -> None:
        await site.accept(self._handle, task_status=task_status)

    @abstractmethod
    async def _handle(self, stream: ByteStream) -> None:
        """Serve one connection."""


class AsyncioProtocol(OnAsyncio):
    """``factory()`` makes an asyncio protocol for each connection, as for ``loop.create_server``.

    ::

        server = await harness.serve(AsyncioProtocol(EchoProtocol))

    It runs on asyncio and uvloop, over every transport; on trio the test is skipped. Its transport
    stands on AnyIO's stream: ``loop.start_tls()`` and ``loop.sendfile()`` do not take it. What a
    callback of the protocol raises is a crash of the connection. A server that is stopped aborts
    its connections: ``connection_lost(None)``.

    :raises TypeError: if ``factory`` cannot be called
    """

    def __init__(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        __tracebackhide__ = True
        self.factory: Callable[[], asyncio.BaseProtocol] = checked_function(
            factory, "AsyncioProtocol", "a function or class that makes a protocol"
        )

    @property
    def name(self) -> str:
        return name_of(self.factory)

    async def _handle(self, stream: ByteStream) -> None:
        __tracebackhide__ = True
        protocol = self.factory()
        if not hasattr(protocol, "connection_made"):
            raise TypeError(f"AsyncioProtocol: {self.name}() has made {protocol!r}, no protocol")
        await StreamTransport(stream, protocol).run()
