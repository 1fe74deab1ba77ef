"""A server of datagrams: UDP, unix datagrams, or datagrams in memory."""

from __future__ import annotations

import itertools
import os
import socket
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

from anyio.abc import (
    ByteStream,
    ConnectedUDPSocket,
    ConnectedUNIXDatagramSocket,
    TaskStatus,
    UDPSocket,
    UNIXDatagramSocket,
    UnreliableObjectStream,
)

from ..network import ConnectedMemoryDatagramSocket, MemoryDatagramSocket, Network
from ..transports.base import Endpoint, Transport
from ..transports.cancelled_futures import tolerate_cancelled_futures
from ..transports.memory import MemoryTransport
from ..transports.tcp import TCPTransport
from ..transports.temporary import remove_directory
from ..transports.unix import UnixTransport, short_directory
from .base import Shape, Site
from .functions import checked_function, name_of, why_not_called

#: Receives and sends ``(data, address)``.
DatagramHandler = Callable[[Any], Awaitable[object]]

#: Receives and sends ``data``.
DatagramClient = UnreliableObjectStream[bytes]


class Datagram(Shape):
    """``handler(socket)`` serves all datagrams that come to one address.

    ::

        async def echo(socket):
            async for data, peer in socket:
                await socket.send((data, peer))

        server = await harness.serve(Datagram(echo))
        client = await server.datagram_client()
        await client.send(b"hello")

    The socket is AnyIO's ``UDPSocket`` over tcp and tcp6, its ``UNIXDatagramSocket`` over unix, and
    the like of a ``UDPSocket`` over memory. There are no connections: the server is stopped by
    cancelling the handler. A datagram that finds no room in a queue is lost, over unix the sender
    waits. Over tls the test is skipped.

    :raises TypeError: if the handler cannot be called, or not so
    """

    def __init__(self, handler: DatagramHandler) -> None:
        __tracebackhide__ = True
        self.handler: DatagramHandler = checked_function(handler, "Datagram")
        why = why_not_called(handler, object())
        if why is not None:
            raise TypeError(f"Datagram calls the handler with a socket, once, and {why}")
        self._returned = False

    @property
    def name(self) -> str:
        return name_of(self.handler)

    def missing(self, site: Site) -> str | None:
        if isinstance(site.transport, (TCPTransport, UnixTransport, MemoryTransport)):
            return None
        return f"{self.name} serves datagrams, and transport {site.transport.name!r} has none"

    async def run(self, site: Site, *, task_status: TaskStatus[Any]) -> None:
        __tracebackhide__ = True
        endpoint = site.endpoint or datagram_endpoint(site.transport)
        assert isinstance(endpoint, DatagramEndpoint)
        async with await endpoint.open() as opened:
            self._returned = False
            task_status.started(endpoint)
            await self.handler(opened)
            self._returned = True

    @property
    def end(self) -> str:
        return "has ended because its handler has returned" if self._returned else super().end


class DatagramEndpoint(Endpoint):
    """An address that datagrams are sent to."""

    @abstractmethod
    async def open(self) -> Any:
        """The server's socket, at the same address each time."""

    @abstractmethod
    async def client(self) -> DatagramClient:
        """A socket that is connected to the server's. Raises :exc:`OSError` if that fails."""

    async def connect(self) -> ByteStream:
        raise OSError("it serves datagrams; use datagram_client()")

    async def listen_again(self) -> None:
        raise RuntimeError("datagrams are not listened for")


def datagram_endpoint(transport: Transport) -> DatagramEndpoint:
    """A fresh address for datagrams, of the transport's kind."""
    if isinstance(transport, TCPTransport):
        return UDPEndpoint(transport.family, transport.host, transport.port)
    if isinstance(transport, MemoryTransport):
        return MemoryDatagramEndpoint(transport.network)
    return UnixDatagramEndpoint()


class UDPEndpoint(DatagramEndpoint):
    """An IP literal and a port, which the kernel chooses at first."""

    def __init__(self, family: socket.AddressFamily, host: str, port: int) -> None:
        self._family = family
        self._host = host
        self._port = port

    @property
    def address(self) -> tuple[str, int]:
        return (self._host, self._port)

    async def open(self) -> UDPSocket:
        raw = socket.socket(self._family, socket.SOCK_DGRAM)
        try:
            raw.bind(self.address)
            self._port = raw.getsockname()[1]
            return await UDPSocket.from_socket(raw)
        except BaseException:
            raw.close()
            raise

    async def client(self) -> ConnectedUDPSocket:
        raw = socket.socket(self._family, socket.SOCK_DGRAM)
        try:
            raw.connect(self.address)
            return await ConnectedUDPSocket.from_socket(raw)
        except BaseException:
            raw.close()
            raise


class UnixDatagramEndpoint(DatagramEndpoint):
    """Sockets in a directory of their own: the server's, and those that it can answer to."""

    def __init__(self) -> None:
        self._directory = short_directory()
        self._numbers = itertools.count()
        self._path = self._fresh_path()

    @property
    def address(self) -> str:
        return self._path

    async def open(self) -> UNIXDatagramSocket:
        if os.path.exists(self._path):  # noqa: ASYNC240 (a look at one name)
            os.unlink(self._path)
        raw = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            raw.bind(self._path)
            return tolerate_cancelled_futures(await UNIXDatagramSocket.from_socket(raw))
        except BaseException:
            raw.close()
            raise

    async def client(self) -> ConnectedUNIXDatagramSocket:
        raw = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            raw.bind(self._fresh_path())
            raw.connect(self._path)
            return tolerate_cancelled_futures(await ConnectedUNIXDatagramSocket.from_socket(raw))
        except BaseException:
            raw.close()
            raise

    def release(self) -> None:
        remove_directory(self._directory)

    def _fresh_path(self) -> str:
        return os.path.join(self._directory, str(next(self._numbers)))


class MemoryDatagramEndpoint(DatagramEndpoint):
    """An address of the simulated network."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._address: tuple[str, int] | None = None

    @property
    def address(self) -> tuple[str, int]:
        assert self._address is not None
        return self._address

    async def open(self) -> MemoryDatagramSocket:
        opened = self._network.datagram_socket(self._address)
        self._address = opened.address
        return MemoryDatagramSocket(opened)

    async def client(self) -> ConnectedMemoryDatagramSocket:
        return ConnectedMemoryDatagramSocket(self._network.datagram_socket(peer=self.address))
