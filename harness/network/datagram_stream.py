"""AnyIO's datagram sockets on those of the simulated network.

``MemoryDatagramSocket`` is what ``anyio.abc.UDPSocket`` is, and ``ConnectedMemoryDatagramSocket``
what ``ConnectedUDPSocket`` is; neither has a raw socket.
"""

from __future__ import annotations

import socket as stdlib_socket
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from anyio import BrokenResourceError, ClosedResourceError, ResourceGuard
from anyio.abc import SocketAttribute, UnreliableObjectStream
from anyio.lowlevel import checkpoint

from .datagrams import Address, DatagramSocket
from .parking import until_readable

T = TypeVar("T")


class _Datagrams(UnreliableObjectStream[T], Generic[T]):
    def __init__(self, socket: DatagramSocket) -> None:
        self._socket = socket
        self._receive_guard = ResourceGuard("reading from")
        self._send_guard = ResourceGuard("writing to")

    async def _recvfrom(self) -> tuple[bytes, Address]:
        socket = self._socket
        with self._receive_guard:
            await until_readable(socket)
            if socket.closed:
                raise ClosedResourceError
            return socket.recvfrom()

    async def _sendto(self, data: bytes, address: Address) -> None:
        with self._send_guard:
            await checkpoint()
            if self._socket.closed:
                raise ClosedResourceError
            try:
                self._socket.sendto(bytes(data), address)
            except OSError as exc:
                raise BrokenResourceError from exc

    async def aclose(self) -> None:
        self._socket.close()
        await checkpoint()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        socket = self._socket
        attributes: dict[Any, Callable[[], Any]] = {
            SocketAttribute.family: lambda: stdlib_socket.AF_INET,
            SocketAttribute.local_address: lambda: socket.address,
            SocketAttribute.local_port: lambda: socket.address[1],
        }
        peer = socket.peer
        if peer is not None:
            attributes[SocketAttribute.remote_address] = lambda: peer
            attributes[SocketAttribute.remote_port] = lambda: peer[1]
        return attributes


class MemoryDatagramSocket(_Datagrams["tuple[bytes, Address]"]):
    """Sends to, and receives from, whoever there is: ``(data, (host, port))``."""

    async def receive(self) -> tuple[bytes, Address]:
        return await self._recvfrom()

    async def send(self, item: tuple[bytes, Address]) -> None:
        await self._sendto(*item)

    async def sendto(self, data: bytes, host: str, port: int) -> None:
        """Alias for ``send((data, (host, port)))``."""
        await self.send((data, (host, port)))


class ConnectedMemoryDatagramSocket(_Datagrams[bytes]):
    """Sends to, and receives from, one other socket: ``data``."""

    async def receive(self) -> bytes:
        return (await self._recvfrom())[0]

    async def send(self, item: bytes) -> None:
        peer = self._socket.peer
        assert peer is not None
        await self._sendto(item, peer)
