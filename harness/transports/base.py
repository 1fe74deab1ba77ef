"""The contract of a transport: how a test's clients and servers reach one another.

A transport is one class in one module. It makes *endpoints*; an endpoint owns everything that one
listening address needs (a socket, a directory, a certificate) and gives all of it back.
"""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NoReturn
from urllib.parse import quote

from anyio.abc import AsyncResource, ByteStream, Listener


class Endpoint(AsyncResource):
    """One listening address: what accepts there, and how to connect to it."""

    #: accepts connections from the moment the endpoint exists
    listener: Listener[Any]

    @property
    @abstractmethod
    def address(self) -> Any:
        """``(host, port)`` or a path, as AnyIO's typed attribute ``local_address`` has it."""

    @abstractmethod
    async def connect(self) -> ByteStream:
        """Connect to the listener. Raises :exc:`OSError` if it is closed."""

    @abstractmethod
    async def listen_again(self) -> None:
        """After :attr:`listener` was closed: put a new one in its place, at the same address."""

    async def aclose(self) -> None:
        """Close the listener and give back the address and whatever was made for it."""
        try:
            await self.listener.aclose()
        finally:
            self.release()

    def release(self) -> None:
        """Give back what would outlive the process or hold its address: files, spare sockets.

        Called last, more than once, and even if the event loop was interrupted: it cannot await.
        """

    @property
    def carrier(self) -> Endpoint:
        """What carries its bytes, for whoever passes them on: itself, or what lies below TLS."""
        return self

    async def dress(self, stream: ByteStream) -> ByteStream:
        """What a client puts on top of a stream to :attr:`carrier`: nothing, or TLS.

        Called by a proxy's clients. Does not close ``stream`` if it fails.
        """
        return stream

    @property
    def client_ssl_context(self) -> ssl.SSLContext | None:
        """What a client of its own needs to trust this endpoint; ``None`` without TLS."""
        return None


class Transport(ABC):
    """Makes endpoints of one kind. Subclasses say in :attr:`name` which."""

    #: the id in a test's name, and what options and markers select it by
    name: ClassVar[str]

    def missing(self) -> str | None:
        """Why this transport cannot be used on this machine, or ``None`` if it can."""
        return None

    @abstractmethod
    async def listen(self) -> Endpoint:
        """Listen at a fresh address that no other process can have."""

    @property
    def carrier(self) -> Transport:
        """The transport of :attr:`Endpoint.carrier`."""
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


def host_of(address: Any) -> str:
    """The host part of ``address``. Raises :exc:`AttributeError` where there is none."""
    if isinstance(address, tuple):
        return str(address[0])
    _does_not_apply("host", address, "a path")


def port_of(address: Any) -> int:
    """The port part of ``address``. Raises :exc:`AttributeError` where there is none."""
    if isinstance(address, tuple):
        return int(address[1])
    _does_not_apply("port", address, "a path")


def path_of(address: Any) -> str:
    """The socket path that ``address`` is. Raises :exc:`AttributeError` where there is none."""
    if isinstance(address, str):
        return address
    _does_not_apply("path", address, "host and port")


def url_of(scheme: str, address: Any) -> str:
    """A URL for ``address``.

    ``scheme://host:port`` with a bracketed IPv6 host (RFC 3986, 3.2.2). For a socket path it is
    ``scheme:///path``, the form Redis clients take, or, for a scheme that ends in ``+unix``, the
    percent-encoded path in the place of the host, the form HTTP clients take.
    """
    if "/" in scheme or ":" in scheme:
        raise ValueError(f"url() takes a scheme such as 'http', not {scheme!r}")
    if isinstance(address, tuple):
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        return f"{scheme}://{host}:{address[1]}"
    if scheme.endswith("+unix"):
        return f"{scheme}://{quote(address, safe='')}"
    return f"{scheme}://{quote(address)}"


def _does_not_apply(wanted: str, address: Any, instead: str) -> NoReturn:
    raise AttributeError(f"a server at {address!r} has no {wanted}, only {instead}")
