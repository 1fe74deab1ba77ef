"""TCP: an IP literal, a port the kernel chose unless somebody insists on one, no resolver."""

from __future__ import annotations

import contextlib
import copy
import errno
import ipaddress
import socket
from typing import Any, ClassVar

from anyio import connect_tcp
from anyio.abc import ByteStream, Listener, SocketListener, SocketStream

from .base import Endpoint, Transport
from .cancelled_futures import tolerate_cancelled_futures

#: Longer than any queue of connections a test will want; the kernel cuts it to its own limit.
BACKLOG = 65535

#: Where to connect to what listens at every address of the machine.
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


class TCPEndpoint(Endpoint):
    """A listening TCP socket, and a second one that keeps its port.

    The second socket is bound to the same address and never listens, so that between ``stop()`` and
    ``restart()`` no other process can be given the port. Linux allows the two binds because both
    sockets have ``SO_REUSEADDR`` and the first does not listen (socket(7)); where a system
    refuses, the port is simply not kept.
    """

    def __init__(self, family: socket.AddressFamily, host: str, port: int = 0) -> None:
        self._family = family
        self._host = host
        self._port = port
        self._keeper: socket.socket | None = None
        self._reserved = False

    @property
    def address(self) -> tuple[str, int]:
        return (self._host, self._port)

    def reserve(self) -> TCPEndpoint:
        """Keep a port. Raises :exc:`OSError` if it cannot be had."""
        self._keeper = self._bind(self._port)
        self._port = self._keeper.getsockname()[1]
        self._reserved = True
        return self

    async def open(self) -> TCPEndpoint:
        await self.reserve().listen_again()
        return self

    async def listen_again(self) -> None:
        listening = self.bind()
        try:
            self.listener: Listener[Any] = tolerate_cancelled_futures(
                await SocketListener.from_socket(listening)
            )
        except BaseException:
            listening.close()
            self.release()
            raise

    def bind(self) -> socket.socket:
        first, self._reserved = self._reserved, False
        try:
            try:
                bound = self._bind(self._port)
            except OSError as exc:
                if not first or exc.errno != errno.EADDRINUSE or self._keeper is None:
                    raise
                bound, self._keeper = self._keeper, None
            try:
                bound.listen(BACKLOG)
            except BaseException:
                bound.close()
                raise
        except BaseException:
            if first:
                self.release()
            raise
        return bound

    async def connect(self) -> ByteStream:
        stream: SocketStream = await connect_tcp(self._host, self._port)
        return stream

    def make_way(self) -> None:
        self.release()
        self._keeper = None

    def keep(self) -> None:
        if self._keeper is None:
            with contextlib.suppress(OSError):
                self._keeper = self._bind(self._port)

    def release(self) -> None:
        if self._keeper is not None:
            self._keeper.close()

    def _bind(self, port: int) -> socket.socket:
        bound = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((self._host, port))
        except BaseException:
            bound.close()
            raise
        return bound


class TCPTransport(Transport):
    """``127.0.0.1`` and a free port; or an address for somebody who cannot be told another.

    :param host: an IP literal, of either version
    :param port: 0 for a free one. Any other is an :exc:`OSError` at the second listener.
    """

    name: ClassVar[str] = "tcp"

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        try:
            version = ipaddress.ip_address(host).version
        except ValueError:
            raise ValueError(f"host has to be an IP address, not {host!r}") from None
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 65536:
            raise ValueError(f"port has to be a number from 0 to 65535, not {port!r}")
        self.family: socket.AddressFamily = socket.AF_INET if version == 4 else socket.AF_INET6
        self.host: str = host
        self.port: int = port

    @property
    def anywhere(self) -> TCPTransport:
        transport = copy.copy(self)
        transport.port = 0
        return transport

    async def listen(self) -> TCPEndpoint:
        return await TCPEndpoint(self.family, self.host, self.port).open()

    has_sockets: ClassVar[bool] = True

    def reserve(self) -> TCPEndpoint:
        return TCPEndpoint(self.family, self.host, self.port).reserve()

    def at(self, address: Any) -> TCPEndpoint:
        if isinstance(address, int):
            address = (self.host, address)
        if not isinstance(address, tuple) or len(address) not in (2, 4):
            raise ValueError(f"it is at {address!r}, which is no (host, port)")
        host, port = address[:2]
        if host in ANY_ADDRESS:
            host = ANY_ADDRESS[host]
        return TCPEndpoint(socket.AF_INET6 if ":" in host else socket.AF_INET, host, port)


class TCP6Transport(TCPTransport):
    """``::1`` and a free port. Not in the default set: many containers have no IPv6."""

    name: ClassVar[str] = "tcp6"

    def __init__(self, host: str = "::1", port: int = 0) -> None:
        super().__init__(host, port)

    def missing(self) -> str | None:
        try:
            with socket.socket(self.family, socket.SOCK_STREAM) as probe:
                probe.bind((self.host, 0))
        except OSError as exc:
            return f"this machine cannot bind ::1: {exc}"
        return None
