"""The way to what a proxy stands in front of."""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any

from anyio import as_connectable
from anyio.abc import ByteStream, ByteStreamConnectable

from ..reachable import Reachable
from ..server import Server
from ..transports.base import Endpoint
from ..transports.cancelled_futures import tolerate_cancelled_futures
from .closing import lowest

if TYPE_CHECKING:
    from ..core import Harness
    from .proxy import Proxy


class Upstream:
    """How to listen in front of something, and how to connect to it, below TLS.

    :ivar name: what messages call it
    :ivar dress: what a client puts on top of the stream
    :ivar proxy: what it is, if that is a proxy
    """

    def __init__(
        self,
        name: str,
        *,
        listen: Callable[[], Awaitable[Endpoint]],
        connect: Callable[[], Awaitable[ByteStream]],
        dress: Callable[[ByteStream], Awaitable[ByteStream]] | None = None,
        ssl_context: Callable[[], ssl.SSLContext | None] = lambda: None,
        proxy: Proxy | None = None,
    ) -> None:
        self.name: str = name
        self.listen: Callable[[], Awaitable[Endpoint]] = listen
        self.dress: Callable[[ByteStream], Awaitable[ByteStream]] = dress or as_it_is
        self.proxy: Proxy | None = proxy
        self._connect = connect
        self._ssl_context = ssl_context

    @property
    def client_ssl_context(self) -> ssl.SSLContext | None:
        """What a client needs to trust it; ``None`` without TLS."""
        return self._ssl_context()

    async def connect(self) -> ByteStream:
        """A stream to it. Raises :exc:`OSError` if it cannot be had."""
        stream = await self._connect()
        tolerate_cancelled_futures(lowest(stream))
        return stream

    @classmethod
    def to(cls, what: Any, harness: Harness) -> Upstream:
        """The way to ``what``.

        Raises :exc:`TypeError` if it cannot be connected to, :exc:`ValueError` for a port that
        there is not, and for a string that is no path.
        """
        from .proxy import Proxy

        if isinstance(what, Proxy):
            return cls(
                f"proxy {what.name!r}",
                listen=what._listen,
                connect=what._connect_below_tls,
                dress=what._dress,
                ssl_context=lambda: what._upstream.client_ssl_context,
                proxy=what,
            )
        if isinstance(what, Server):
            if hasattr(what._endpoint, "client"):
                raise TypeError(f"a proxy passes streams on, and {what} serves datagrams")
            return cls(  # asked each time, as a restart may have brought it to another address
                f"server {what.name!r}",
                listen=what.transport.carrier.anywhere.listen,
                connect=lambda: what._endpoint.carrier.connect(),
                dress=lambda stream: what._endpoint.dress(stream),
                ssl_context=lambda: what._endpoint.client_ssl_context,
            )
        if isinstance(what, ByteStreamConnectable) and not isinstance(what, Reachable):
            listen = harness.transport.carrier.anywhere.listen
            return cls(repr(what), listen=listen, connect=what.connect)
        if isinstance(what, (str, bytes, os.PathLike)) and what:
            path = os.fsdecode(what)
            if isinstance(what, (str, bytes)) and (os.sep not in path or "://" in path):
                raise ValueError(
                    "a proxy in front of an address takes (host, port), or a path with a slash in "
                    f"it, not {what!r}"
                )
            unix = harness._resolve("unix")
            return cls(f"{path!r}", listen=unix.listen, connect=as_connectable(path).connect)
        if isinstance(what, tuple) and len(what) == 2:
            host, port = checked_address(*what)
            tcp = harness._resolve("tcp6" if ":" in host else "tcp")
            return cls(
                f"{host}:{port}", listen=tcp.listen, connect=as_connectable((host, port)).connect
            )
        raise TypeError(
            "a proxy stands in front of a server, a proxy, (host, port), the path of a unix socket "
            f"or a ByteStreamConnectable, not {what!r}"
        )


def checked_address(host: Any, port: Any) -> tuple[str, int]:
    """A host and a port. Raises :exc:`TypeError` or :exc:`ValueError` if they cannot be."""
    if not isinstance(host, (str, IPv4Address, IPv6Address)):
        raise TypeError(f"(host, port): host has to be a name or an IP address, not {host!r}")
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"(host, port): port has to be a whole number, not {port!r}")
    if not str(host) or not 1 <= port <= 65535:
        raise ValueError(f"there is no address {(str(host), port)!r} to connect to")
    return str(host), port


async def as_it_is(stream: ByteStream) -> ByteStream:
    return stream
