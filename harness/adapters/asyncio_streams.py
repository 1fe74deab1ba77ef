"""A server that is a callback with a reader and a writer."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from anyio import create_task_group
from anyio.abc import ByteStream

from ..connection import Connection
from .asyncio_protocol import OnAsyncio
from .asyncio_transport import StreamTransport
from .functions import checked_function, name_of

#: Called for each connection: a coroutine function, or a function that starts something.
ClientConnected = Callable[
    [asyncio.StreamReader, asyncio.StreamWriter], "Awaitable[object] | object"
]

#: Bytes that a reader buffers (asyncio/streams.py, ``_DEFAULT_LIMIT``).
LIMIT = 64 * 1024


class AsyncioStreams(OnAsyncio):
    """``client_connected_cb(reader, writer)``, as for ``asyncio.start_server``.

    ::

        server = await harness.serve(AsyncioStreams(chat.handle_client))

    It runs on asyncio and uvloop, over every transport; on trio the test is skipped. A callback
    that serves its client for ever is cancelled when the server stops. What it raises is a crash
    of the connection. As with asyncio, a connection stays open after its callback has returned,
    until the writer is closed or the client has gone.

    :param limit: bytes that a reader buffers, at the most twice as many
    :raises TypeError: if the callback cannot be called
    """

    def __init__(self, client_connected_cb: ClientConnected, *, limit: int = LIMIT) -> None:
        __tracebackhide__ = True
        self.client_connected_cb: ClientConnected = checked_function(
            client_connected_cb, "AsyncioStreams", "a function of a reader and a writer"
        )
        self.limit: int = limit

    @property
    def name(self) -> str:
        return name_of(self.client_connected_cb)

    async def _handle(self, stream: ByteStream) -> None:
        __tracebackhide__ = True
        loop = asyncio.get_running_loop()
        reader = _Reader(stream, limit=self.limit, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport = StreamTransport(stream, protocol)
        async with create_task_group() as group:
            await group.start(transport.run)
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            try:
                done = self.client_connected_cb(reader, writer)
                if inspect.isawaitable(done):
                    await done
            except BaseException:
                transport.abort()
                raise
            transport.end_with_the_peer()


class _Reader(asyncio.StreamReader):
    """Lets it be known who waits for the client: such a handler is idle, and has no grace."""

    def __init__(self, stream: ByteStream, *, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=limit, loop=loop)
        self._connection: Connection | None = getattr(stream, "connection", None)
        self._noted = False

    async def read(self, n: int = -1) -> bytes:
        with self._receiving():
            data = await super().read(n)
        return self._noting_the_end(data)

    async def readline(self) -> bytes:
        with self._receiving():
            line = await super().readline()
        return self._noting_the_end(line)

    async def readexactly(self, n: int) -> bytes:
        with self._receiving():
            return await super().readexactly(n)

    async def readuntil(self, separator: Any = b"\n") -> bytes:
        with self._receiving():
            return await super().readuntil(separator)

    def _noting_the_end(self, data: bytes) -> bytes:
        # With no turn of the event loop, a loop that goes on after the end blocks it.
        if not data and self._connection is not None and self.at_eof():
            self._connection.read_the_end()
        return data

    @contextmanager
    def _receiving(self) -> Iterator[None]:
        if self._connection is None or self._noted:  # one of these calls another
            yield
            return
        self._noted = True
        try:
            with self._connection.during("receive"):
                yield
        finally:
            self._noted = False
