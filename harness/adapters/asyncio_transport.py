"""asyncio's transport, on top of AnyIO's byte stream.

So a server that was written as an asyncio protocol is a handler like any other: it runs over every
transport, in memory too, and the harness knows its connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from anyio import (
    TASK_STATUS_IGNORED,
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    Event,
    aclose_forcefully,
    create_task_group,
)
from anyio.abc import ByteStream, SocketAttribute, TaskGroup, TaskStatus
from anyio.streams.tls import TLSAttribute

#: Bytes that one ``data_received`` has at the most, as asyncio's selector transports have it.
PIECE = 256 * 1024

#: Bytes above which ``pause_writing`` is called (asyncio/transports.py, ``_FlowControlMixin``).
HIGH_WATER = 64 * 1024

#: What ``get_extra_info`` has, by asyncio's names ("Transports and Protocols", BaseTransport).
EXTRA: dict[str, Callable[[ByteStream], Any]] = {
    "peername": lambda stream: stream.extra(SocketAttribute.remote_address, None),
    "sockname": lambda stream: stream.extra(SocketAttribute.local_address, None),
    "socket": lambda stream: stream.extra(SocketAttribute.raw_socket, None),
    "ssl_object": lambda stream: stream.extra(TLSAttribute.ssl_object, None),
    "sslcontext": lambda stream: getattr(_ssl_object(stream), "context", None),
    "peercert": lambda stream: stream.extra(TLSAttribute.peer_certificate, None),
    "cipher": lambda stream: stream.extra(TLSAttribute.cipher, None),
}


class StreamTransport(asyncio.Transport):
    """What a protocol writes to; :meth:`run` feeds the protocol with what is received."""

    def __init__(self, stream: ByteStream, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self._stream = stream
        self._protocol = protocol
        self._unsent: list[bytes] = []
        self._size = 0
        self._flushing = False
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._paused_protocol = False
        self._eof_received = self._eof_to_send = False
        self._ends_with_the_peer = False
        self._closing = False
        self._may_read = Event()
        self._may_read.set()
        self._has_ended = Event()
        self._group: TaskGroup | None = None
        self._reading = CancelScope()

    # Its life

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        """Be the connection, from ``connection_made`` to ``connection_lost``.

        Raises what the protocol raises.
        """
        __tracebackhide__ = True
        error: Exception | None = None
        try:
            async with create_task_group() as self._group:
                self._protocol.connection_made(self)
                task_status.started()
                with self._reading:
                    try:
                        await self._read()
                    except BrokenResourceError as exc:
                        error = _as_asyncio_has_it(exc)
                        self.abort()
                    except ClosedResourceError:
                        pass  # by abort()
                await self._has_ended.wait()
        finally:
            self._closing = True
            self._protocol.connection_lost(error)
            await aclose_forcefully(self._stream)

    async def _read(self) -> None:
        protocol: Any = self._protocol
        buffered = isinstance(protocol, asyncio.BufferedProtocol)
        while True:
            await self._may_read.wait()
            try:
                data = await self._stream.receive(PIECE)
            except EndOfStream:
                break
            if self._protocol is not protocol:  # set_protocol()
                protocol = self._protocol
                buffered = isinstance(protocol, asyncio.BufferedProtocol)
            if buffered:
                _feed(protocol, data)
            else:
                protocol.data_received(data)
        self._eof_received = True
        if not protocol.eof_received() or self._ends_with_the_peer:
            self.close()

    def end_with_the_peer(self) -> None:
        """Nobody reads any more: close it when the peer has sent its last byte."""
        self._ends_with_the_peer = True
        if self._eof_received:
            self.close()

    async def _flush(self) -> None:
        try:
            while self._unsent:
                pieces, self._unsent = self._unsent, []
                await self._stream.send(b"".join(pieces))
                self._size = sum(map(len, self._unsent))
                self._check_low()
            if self._eof_to_send and not self._closing:
                await self._stream.send_eof()
        except (BrokenResourceError, ClosedResourceError):
            self._unsent.clear()  # the reader hears of it, too
            self._size = 0
            self._check_low()
            if self._eof_received:
                self.abort()
        finally:
            self._flushing = False
        if self._closing:
            self._end()

    def _end(self) -> None:
        self._has_ended.set()

    # What asyncio's transports have

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        value = EXTRA[name](self._stream) if name in EXTRA else None
        return default if value is None else value

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._closing and self._may_read.is_set()

    def pause_reading(self) -> None:
        if self.is_reading():
            self._may_read = Event()

    def resume_reading(self) -> None:
        self._may_read.set()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"write() takes bytes, a bytearray or a memoryview, not {data!r}")
        if self._eof_to_send:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._closing or not data:
            return
        self._unsent.append(bytes(data))
        self._size += len(data)
        self._begin_to_flush()
        if self._size > self._high and not self._paused_protocol:
            self._paused_protocol = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        if not (self._eof_to_send or self._closing):
            self._eof_to_send = True
            self._begin_to_flush()

    def can_write_eof(self) -> bool:
        return self.get_extra_info("ssl_object") is None

    def get_write_buffer_size(self) -> int:
        return self._size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return (self._low, self._high)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low

    def close(self) -> None:
        """Close after all has been sent that was written."""
        if self._closing:
            return
        self._closing = True
        self._reading.cancel()
        if not self._flushing:
            self._end()

    def abort(self) -> None:
        """Close at once, and forget what was not sent."""
        self._closing = True
        self._unsent.clear()
        self._size = 0
        self._reading.cancel()
        if self._group is not None:
            self._group.cancel_scope.cancel()
        self._end()

    def _begin_to_flush(self) -> None:
        if not self._flushing and self._group is not None:
            self._flushing = True
            self._group.start_soon(self._flush, name="what a protocol has written")

    def _check_low(self) -> None:
        if self._paused_protocol and self._size <= self._low:
            self._paused_protocol = False
            self._protocol.resume_writing()


def _feed(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        buffer = memoryview(protocol.get_buffer(len(rest))).cast("B")
        if not len(buffer):
            raise RuntimeError("get_buffer() returned an empty buffer")
        size = min(len(buffer), len(rest))
        buffer[:size] = rest[:size]
        protocol.buffer_updated(size)
        rest = rest[size:]


def _as_asyncio_has_it(error: BrokenResourceError) -> Exception:
    """The reason of a broken stream, which ``connection_lost`` is called with."""
    cause = error.__cause__
    return cause if isinstance(cause, OSError) else ConnectionResetError("the connection was reset")


def _ssl_object(stream: ByteStream) -> Any:
    return stream.extra(TLSAttribute.ssl_object, None)
