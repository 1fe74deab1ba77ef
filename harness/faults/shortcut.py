"""A shorter way through AnyIO's TCP streams, for a task that only passes on.

On asyncio and uvloop, after each ``receive`` AnyIO stops the transport from reading and before the
next one it starts it again, which are two system calls, and after each ``send`` it gives the event
loop a turn (``anyio/_backends/_asyncio.py``, ``SocketStream``). For a relay that is more than half
of its work; ``benchmarks/proxy.py`` says how much. Here the transport goes on reading while
somebody waits for more or is about to, and a ``send`` that has not blocked is over.

On trio each ``receive`` and each ``send`` gives the event loop a turn, though it has not blocked
(``trio/_socket.py``, ``_nonblocking_helper``), and a ``receive`` brings 64 KiB at most. Here the
socket is waited for once for each piece, which is the turn that others get, and a piece is larger.

What is received is the same, and a peer has to wait as well where nobody receives. On asyncio and
uvloop what comes while nobody asks for it stops the transport, after one run of bytes; on trio
nothing is read that nobody asks for.
"""

from __future__ import annotations

import asyncio
import socket
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from typing import Any

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, wait_readable
from anyio.abc import ByteStream, SocketAttribute

#: Bytes that one ``receive`` returns at most, as AnyIO's.
MOST = 65536

#: Bytes that are passed on at once at most, on trio: as many as asyncio reads at once.
MOST_PASSED_ON = 256 * 1024

#: What AnyIO's stream and its protocol have to have.
STREAM = ("_transport", "_protocol", "_closed")
PROTOCOL = ("read_queue", "write_event", "exception", "is_at_eof")


def shortcut(stream: ByteStream) -> ByteStream:
    """What stands for ``stream`` where there is a shorter way; otherwise ``stream``.

    From now on nobody else may receive from it. It is closed by closing ``stream``.
    """
    inner: Any = stream
    if (
        type(inner).__module__ == "anyio._backends._asyncio"
        and all(hasattr(inner, name) for name in STREAM)
        and all(hasattr(inner._protocol, name) for name in PROTOCOL)
    ):
        with suppress(AttributeError, NotImplementedError):  # somebody else's event loop
            return AsyncioShortcut(inner)
    if (type(inner).__module__, type(inner).__name__) == ("anyio._backends._trio", "SocketStream"):
        with suppress(AttributeError):  # somebody else's socket
            return TrioShortcut(inner)
    return stream


class Shortcut(ByteStream):
    """Stands for one of AnyIO's TCP streams."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @abstractmethod
    async def pass_on(self, sink: Any, goes_on: Callable[[int], bool]) -> bytes:
        """Send to ``sink`` what comes, until ``goes_on`` says no, or something has ended.

        Raises what ``receive`` and ``send`` raise, or :exc:`OSError`.

        :param sink: another one of the same class
        :param goes_on: asked before each run of bytes is sent, with its length, which is 0 as long
            as that is not known
        :return: the end of the last run, which ``sink`` had no room for and which is to be sent
            before anything else
        """

    async def receive(self, max_bytes: int = MOST) -> bytes:
        data: bytes = await self._stream.receive(max_bytes)
        return data

    async def send(self, item: bytes) -> None:
        await self._stream.send(item)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        attributes: Mapping[Any, Callable[[], Any]] = self._stream.extra_attributes
        return attributes


class TrioShortcut(Shortcut):
    """Stands for one of trio's, which has read nothing that nobody has received."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._socket: socket.socket = stream.extra(SocketAttribute.raw_socket)

    async def pass_on(self, sink: Any, goes_on: Callable[[int], bool]) -> bytes:
        source, receive, send = self._socket, self._socket.recv, sink._socket.send
        while source.fileno() >= 0:  # otherwise the stream knows what to raise
            await wait_readable(source)
            if not goes_on(0):
                break
            # From here on nobody else runs until it is sent.
            try:
                data = receive(MOST_PASSED_ON)
            except BlockingIOError:  # a false alarm, as select(2) says that there may be
                continue
            if not data:
                raise EndOfStream
            goes_on(len(data))
            try:
                sent = send(data)
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                return data[sent:]
        return b""


class AsyncioShortcut(Shortcut):
    """Stands for one of asyncio's and uvloop's."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._transport: asyncio.Transport = stream._transport
        self._protocol: Any = stream._protocol
        self._reader = Reader(self._transport, self._protocol)
        self._transport.set_protocol(self._reader)

    async def receive(self, max_bytes: int = MOST) -> bytes:
        reader = self._reader
        while not reader.queue:
            if reader.over or self._transport.is_closing():
                last: bytes = await self._stream.receive(max_bytes)  # it knows what to raise
                return last
            await reader
        data = reader.queue.popleft()
        if len(data) > max_bytes:
            reader.queue.appendleft(data[max_bytes:])
            data = data[:max_bytes]
        return data

    async def send(self, item: bytes) -> None:
        if self._reader.full or self._reader.lost or self._transport.is_closing():
            await self._stream.send(item)
            return
        try:
            self._transport.write(item)
        except RuntimeError as exc:
            raise BrokenResourceError from exc  # uvloop's word for one that has gone
        if not self._protocol.write_event.is_set():
            await self._drain()

    async def pass_on(self, sink: Any, goes_on: Callable[[int], bool]) -> bytes:
        reader, queue = self._reader, self._reader.queue
        write, other = sink._transport.write, sink._reader
        while True:
            while queue:
                if other.lost or not goes_on(len(queue[0])):
                    return b""
                # It has its name until the next has come: a block of memory that is given back
                # before that is given back to the system, which takes as long as to send it.
                data = queue.popleft()
                try:
                    write(data)
                except RuntimeError as exc:
                    raise BrokenResourceError from exc
                if other.full:
                    reader.stop()
                    await sink._drain()
            if reader.over:
                return b""
            await reader

    async def _drain(self) -> None:
        """Wait until what was written has gone. Raises as ``send`` does."""
        await self._protocol.write_event.wait()
        if self._stream._closed:
            raise ClosedResourceError
        if self._protocol.exception is not None:
            raise BrokenResourceError from self._protocol.exception


class Reader(asyncio.Protocol):
    """Stands before AnyIO's protocol, which hears everything but the bytes.

    Awaited, it returns when there are more, or none will come.

    :ivar queue: what has come, and nobody has received
    :ivar over: nothing comes any more
    :ivar lost: nothing can be sent any more
    :ivar full: what was written has not gone
    """

    def __init__(self, transport: asyncio.Transport, protocol: Any) -> None:
        self.queue: deque[bytes] = deque(protocol.read_queue)
        self.lost: bool = protocol.exception is not None or transport.is_closing()
        self.over: bool = protocol.is_at_eof or self.lost
        self.full: bool = not protocol.write_event.is_set()
        self._transport = transport
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._reads = False
        protocol.read_queue.clear()
        self.stop()

    def __await__(self) -> Generator[Any, None, None]:
        if not self._reads:
            self._reads = True
            with suppress(RuntimeError):  # uvloop: it is closed, and will soon say so
                self._transport.resume_reading()
        self._waiter = self._loop.create_future()
        try:
            yield from self._waiter
        finally:
            self._waiter = None

    def stop(self) -> None:
        """Let the peer wait."""
        self._reads = False
        with suppress(RuntimeError):  # uvloop: it is closed
            self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self.queue.append(data)
        waiter = self._waiter
        if waiter is None:
            self.stop()
        elif not waiter.done():
            waiter.set_result(None)

    def eof_received(self) -> Any:
        self._end()
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._end()
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self.full = True
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self.full = False
        self._protocol.resume_writing()

    def _end(self) -> None:
        self.over = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
