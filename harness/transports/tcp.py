"""TCP on loopback: an IP literal, a port the kernel chose, no resolver."""

from __future__ import annotations

import errno
import socket
from typing import Any, ClassVar

from anyio import connect_tcp
from anyio.abc import ByteStream, Listener, SocketListener, SocketStream

from .base import Endpoint, Transport
from .cancelled_futures import tolerate_cancelled_futures

#: Longer than any queue of connections a test will want; the kernel cuts it to its own limit.
BACKLOG = 65535


class TCPEndpoint(Endpoint):
    """A listening TCP socket, and a second one that keeps its port.

    The second socket is bound to the same address and never listens, so that between ``stop()`` and
    ``restart()`` no other process can be given the port. Linux allows the two binds because both
    sockets have ``SO_REUSEADDR`` and the first does not listen (socket(7)); where a system
    refuses, the port is simply not kept.
    """

    def __init__(self, family: socket.AddressFamily, host: str) -> None:
        self._family = family
        self._host = host
        self._keeper: socket.socket | None = None

    @property
    def address(self) -> tuple[str, int]:
        return (self._host, self._port)

    async def open(self) -> TCPEndpoint:
        keeper = self._bind(0)
        self._port: int = keeper.getsockname()[1]
        try:
            listening = self._bind(self._port)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                keeper.close()
                raise
            listening = keeper
        else:
            self._keeper = keeper
        await self._listen_on(listening)
        return self

    async def listen_again(self) -> None:
        await self._listen_on(self._bind(self._port))

    async def connect(self) -> ByteStream:
        stream: SocketStream = await connect_tcp(self._host, self._port)
        return stream

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

    async def _listen_on(self, bound: socket.socket) -> None:
        try:
            bound.listen(BACKLOG)
            self.listener: Listener[Any] = tolerate_cancelled_futures(
                await SocketListener.from_socket(bound)
            )
        except BaseException:
            bound.close()
            if self._keeper is not None:
                self._keeper.close()
            raise


class TCPTransport(Transport):
    """``127.0.0.1``, port 0."""

    name: ClassVar[str] = "tcp"
    family: ClassVar[socket.AddressFamily] = socket.AF_INET
    host: ClassVar[str] = "127.0.0.1"

    async def listen(self) -> TCPEndpoint:
        return await TCPEndpoint(self.family, self.host).open()


class TCP6Transport(TCPTransport):
    """``::1``, port 0. Not in the default set: many containers have no IPv6."""

    name: ClassVar[str] = "tcp6"
    family: ClassVar[socket.AddressFamily] = socket.AF_INET6
    host: ClassVar[str] = "::1"

    def missing(self) -> str | None:
        try:
            with socket.socket(self.family, socket.SOCK_STREAM) as probe:
                probe.bind((self.host, 0))
        except OSError as exc:
            return f"this machine cannot bind ::1: {exc}"
        return None
