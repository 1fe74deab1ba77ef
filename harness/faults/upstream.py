"""The way to what a proxy stands in front of."""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from anyio import as_connectable
from anyio.abc import ByteStream, ByteStreamConnectable

from ..reachable import Reachable
from ..server import Server
from ..transports.base import Endpoint

if TYPE_CHECKING:
    from ..core import Harness


class Upstream:
    """How to listen in front of something, and how to connect to it, below TLS.

    :ivar name: what messages call it
    :ivar dress: what a client puts on top of the stream
    """

    def __init__(
        self,
        name: str,
        *,
        listen: Callable[[], Awaitable[Endpoint]],
        connect: Callable[[], Awaitable[ByteStream]],
        dress: Callable[[ByteStream], Awaitable[ByteStream]] | None = None,
        client_ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.name: str = name
        self.listen: Callable[[], Awaitable[Endpoint]] = listen
        self.connect: Callable[[], Awaitable[ByteStream]] = connect
        self.dress: Callable[[ByteStream], Awaitable[ByteStream]] = dress or as_it_is
        self.client_ssl_context: ssl.SSLContext | None = client_ssl_context

    @classmethod
    def to(cls, what: Any, harness: Harness) -> Upstream:
        """The way to ``what``. Raises :exc:`TypeError` if it cannot be connected to."""
        from .proxy import Proxy

        if isinstance(what, Proxy):
            return cls(
                repr(what.name),
                listen=what._upstream.listen,
                connect=what._endpoint.connect,
                dress=what._upstream.dress,
                client_ssl_context=what._upstream.client_ssl_context,
            )
        if isinstance(what, Server):
            endpoint = what._endpoint
            return cls(
                f"server {what.name!r}",
                listen=what.transport.carrier.listen,
                connect=endpoint.carrier.connect,
                dress=endpoint.dress,
                client_ssl_context=endpoint.client_ssl_context,
            )
        if isinstance(what, ByteStreamConnectable) and not isinstance(what, Reachable):
            return cls(repr(what), listen=harness.transport.carrier.listen, connect=what.connect)
        if isinstance(what, (str, os.PathLike)):
            path = os.fspath(what)
            unix = harness._resolve("unix")
            return cls(path, listen=unix.listen, connect=as_connectable(path).connect)
        if isinstance(what, tuple) and len(what) == 2 and isinstance(what[1], int):
            host, port = what
            tcp = harness._resolve("tcp6" if ":" in str(host) else "tcp")
            return cls(
                f"{host}:{port}", listen=tcp.listen, connect=as_connectable((host, port)).connect
            )
        raise TypeError(
            "a proxy stands in front of a server, a proxy, (host, port), the path of a unix socket "
            f"or a ByteStreamConnectable, not {what!r}"
        )


async def as_it_is(stream: ByteStream) -> ByteStream:
    return stream
