"""AnyIO's byte stream and listener on the sockets of the simulated network.

Every operation yields to the event loop exactly once when it need not wait, before it touches the
socket: a cancelled ``receive`` has taken nothing, a ``send`` cancelled before it blocks has sent
nothing. That is why no checkpoint stands after the bytes have moved.
"""

from __future__ import annotations

import random
import socket as stdlib_socket
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any

from anyio import (
    BrokenResourceError,
    BusyResourceError,
    ClosedResourceError,
    EndOfStream,
    ResourceGuard,
    create_task_group,
)
from anyio.abc import ByteStream, Listener, SocketAttribute, TaskGroup
from anyio.lowlevel import checkpoint

from .kernel import ListeningSocket, Socket
from .parking import parked, until_readable


class MemoryStream(ByteStream):
    """A byte stream over one simulated :class:`~harness.network.kernel.Socket`.

    ``chunking``, when given, cuts every receive short at a random place (at least one byte), so
    that code which takes one receive for one message fails at once and reproducibly.
    """

    def __init__(self, socket: Socket, *, chunking: random.Random | None = None) -> None:
        self._socket = socket
        self._chunking = chunking
        self._receiving = self._sending = False
        self._raw_sockets: tuple[stdlib_socket.socket, stdlib_socket.socket] | None = None

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be a positive integer, not {max_bytes!r}")
        # Flags, and not AnyIO's ResourceGuard: a round trip would enter and leave four of those.
        if self._receiving:
            raise BusyResourceError("reading from")
        socket = self._socket
        self._receiving = True
        try:
            await until_readable(socket)
            if socket.closed:
                raise ClosedResourceError
            if self._chunking is not None and socket.unread:
                max_bytes = self._chunking.randint(1, min(max_bytes, socket.unread))
            try:
                data = socket.recv(max_bytes)
            except OSError as exc:
                raise BrokenResourceError from exc
        finally:
            self._receiving = False
        if not data:
            raise EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        if self._sending:
            raise BusyResourceError("writing to")
        socket = self._socket
        self._sending = True
        try:
            view = memoryview(item).cast("B")
            if socket.writable or not view:
                await checkpoint()
            if not view:
                if socket.closed:
                    raise ClosedResourceError
                return
            while True:
                while not socket.writable:
                    socket.on_writable, woken = parked()
                    try:
                        await woken
                    finally:
                        socket.on_writable = None
                if socket.closed:
                    raise ClosedResourceError
                try:
                    view = view[socket.send(view) :]
                except OSError as exc:
                    raise BrokenResourceError from exc
                if not view:
                    return
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        if self._sending:
            raise BusyResourceError("writing to")
        self._sending = True
        try:
            await checkpoint()
            if self._socket.closed:
                raise ClosedResourceError
            self._socket.shutdown_write()
        finally:
            self._sending = False

    async def reset(self) -> None:
        """Close with RST: the peer reads what has arrived and then finds the stream broken."""
        self._socket.abort()
        self._close_raw_sockets()
        await checkpoint()

    async def aclose(self) -> None:
        self.close()
        await checkpoint()

    def close(self) -> None:
        """What :meth:`aclose` does, at once."""
        self._socket.close()
        self._close_raw_sockets()

    @property
    def readable(self) -> bool:
        """Whether ``receive`` would return or fail now, rather than wait."""
        return self._socket.readable

    def _close_raw_sockets(self) -> None:
        if self._raw_sockets is not None:
            for raw in self._raw_sockets:
                raw.close()

    def _raw_socket(self) -> stdlib_socket.socket:
        """A real socket for code that insists on having one: connected, and never used for data."""
        if self._socket.closed:
            raise ClosedResourceError
        if self._raw_sockets is None:
            self._raw_sockets = stdlib_socket.socketpair()
            for raw in self._raw_sockets:
                raw.setblocking(False)
        return self._raw_sockets[0]

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        socket = self._socket
        return {
            SocketAttribute.family: lambda: stdlib_socket.AF_INET,
            SocketAttribute.local_address: lambda: socket.local_address,
            SocketAttribute.local_port: lambda: socket.local_address[1],
            SocketAttribute.remote_address: lambda: socket.remote_address,
            SocketAttribute.remote_port: lambda: socket.remote_address[1],
            SocketAttribute.raw_socket: self._raw_socket,
        }


class MemoryListener(Listener[MemoryStream]):
    """Accepts the connections of one simulated listening socket."""

    def __init__(self, socket: ListeningSocket, *, chunking: random.Random | None = None) -> None:
        self._socket = socket
        self._chunking = chunking
        self._accept_guard = ResourceGuard("accepting connections from")

    async def accept(self) -> MemoryStream:
        """Wait for the next connection. Raises ``ClosedResourceError`` once closed."""
        listening = self._socket
        with self._accept_guard:
            await checkpoint()
            while True:
                if listening.closed:
                    raise ClosedResourceError
                try:
                    return MemoryStream(listening.accept(), chunking=self._chunking)
                except BlockingIOError:
                    listening.on_acceptable, woken = parked()
                    try:
                        await woken
                    finally:
                        listening.on_acceptable = None

    async def serve(
        self,
        handler: Callable[[MemoryStream], Coroutine[Any, Any, object]],
        task_group: TaskGroup | None = None,
    ) -> None:
        async with AsyncExitStack() as stack:
            if task_group is None:
                task_group = await stack.enter_async_context(create_task_group())
            while True:
                task_group.start_soon(handler, await self.accept())

    async def aclose(self) -> None:
        self._socket.close()
        await checkpoint()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        address = self._socket.address
        return {
            SocketAttribute.family: lambda: stdlib_socket.AF_INET,
            SocketAttribute.local_address: lambda: address,
            SocketAttribute.local_port: lambda: address[1],
        }
