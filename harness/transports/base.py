"""The contract of a transport: how a test's clients and servers reach one another.

A transport is one class in one module. It makes *endpoints*; an endpoint owns everything that one
listening address needs (a socket, a directory, a certificate) and gives all of it back.
"""

from __future__ import annotations

import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn
from urllib.parse import quote

from anyio.abc import AsyncResource, ByteStream, Listener, TaskGroup


class NoListener(Listener[Any]):
    """Where somebody else accepts, or nobody yet."""

    async def serve(
        self, handler: Callable[[Any], Any], task_group: TaskGroup | None = None
    ) -> None:
        raise RuntimeError("somebody else accepts here")

    async def aclose(self) -> None:
        pass


class Endpoint(AsyncResource):
    """One listening address: what accepts there, and how to connect to it."""

    #: accepts connections from the moment that ``Transport.listen`` has returned
    listener: Listener[Any] = NoListener()

    @property
    @abstractmethod
    def address(self) -> Any:
        """``(host, port)`` or a path, as AnyIO's typed attribute ``local_address`` has it."""

    @abstractmethod
    async def connect(self) -> ByteStream:
        """Connect to the listener. Raises :exc:`OSError` if that fails, whatever the reason."""

    @abstractmethod
    async def listen_again(self) -> None:
        """After :attr:`listener` was closed: put a new one in its place, at the same address."""

    def bind(self) -> socket.socket:
        """A listening socket at this address, for a server that accepts by itself.

        It is the caller's. Raises :exc:`OSError` if it cannot be bound, and
        :exc:`NotImplementedError` where there are no sockets.
        """
        raise NotImplementedError(f"{type(self).__name__} has no socket to bind")

    def make_way(self) -> None:
        """Let a server bind here by itself: remove what has been left here, and keep nothing.

        Raises :exc:`OSError` if somebody else is here.
        """

    def keep(self) -> None:
        """Keep the address, as far as that can be done, while the server that was here is down."""

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

        Called by a proxy's clients. Raises :exc:`OSError` if it fails, and does not close
        ``stream`` then.
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

    #: whether :meth:`reserve` and :meth:`at` are there: a server of another kind can use it
    has_sockets: ClassVar[bool] = False

    def reserve(self) -> Endpoint:
        """A fresh address for a server that accepts by itself, with ``Endpoint.bind``."""
        raise NotImplementedError(f"transport {self.name!r} has no sockets")

    def at(self, address: Any) -> Endpoint:
        """An endpoint at which somebody else listens.

        Raises :exc:`ValueError` if it is not of this transport's kind.
        """
        raise NotImplementedError(f"transport {self.name!r} reaches its own listeners only")

    @property
    def server_ssl_context(self) -> ssl.SSLContext | None:
        """What a server that accepts by itself needs for TLS; ``None`` without."""
        return None

    @property
    def anywhere(self) -> Transport:
        """The same at an address that nobody insists on, for who stands in front of it."""
        return self

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
