"""A connection as the harness sees it: its record, and the stream that keeps the record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from anyio import EndOfStream, aclose_forcefully
from anyio.abc import ByteStream, SocketAttribute

from .network import MemoryStream


class Connection:
    """One accepted or opened connection.

    :ivar id: counts the connections of one server, from 1; 0 on a client's side
    :ivar bytes_in: bytes that this side has received
    :ivar bytes_out: bytes that this side has finished sending
    """

    __slots__ = (
        "_busy",
        "_closed",
        "_ends_read",
        "_eof_received",
        "_eof_sent",
        "_stream",
        "bytes_in",
        "bytes_out",
        "id",
    )

    def __init__(self, stream: ByteStream, id: int = 0) -> None:  # noqa: A002
        self.id: int = id
        self.bytes_in: int = 0
        self.bytes_out: int = 0
        self._stream = stream
        self._busy: list[str] = []
        self._ends_read = 0
        self._closed = self._eof_received = self._eof_sent = False

    @property
    def local_address(self) -> Any:
        """This side's address, as the stream's typed attribute has it; ``None`` without one."""
        return self._stream.extra(SocketAttribute.local_address, None)

    @property
    def remote_address(self) -> Any:
        """The other side's address; ``None`` where there is none."""
        return self._stream.extra(SocketAttribute.remote_address, None)

    @property
    def state(self) -> str:
        """Where this side is in the life of a connection, in TCP's words (RFC 9293, 3.3.2).

        ``"established"``; ``"close-wait"`` once the end of the stream was received;
        ``"fin-wait"`` once this side has sent it; ``"closing"`` after both; ``"closed"``.
        """
        if self._closed:
            return "closed"
        if self._eof_received:
            return "closing" if self._eof_sent else "close-wait"
        return "fin-wait" if self._eof_sent else "established"

    @property
    def waiting(self) -> str | None:
        """The operation of this side that is under way: ``"receive"``, ``"send"`` or ``None``."""
        return self._busy[-1] if self._busy else None

    @property
    def operations(self) -> int:
        """How many operations of this side are under way."""
        return len(self._busy)

    @property
    def ends_read(self) -> int:
        """How often this side has read the end of the stream; many times, if its loop goes on."""
        return self._ends_read

    def read_the_end(self) -> None:
        """This side has read the end of the stream, which its reader says by ``b""``."""
        self._ends_read += 1

    @contextmanager
    def during(self, operation: str) -> Iterator[None]:
        """An operation of this side is under way: a task waits for it that is no stream's."""
        self._busy.append(operation)
        try:
            yield
        finally:
            self._busy.remove(operation)

    def __repr__(self) -> str:
        waiting = f", in {self.waiting}()" if self._busy else ""
        return (
            f"<Connection {self.id} {self.local_address} <- {self.remote_address} {self.state}, "
            f"{self.bytes_in} B in, {self.bytes_out} B out{waiting}>"
        )


class RecordedStream(ByteStream):
    """A byte stream that keeps a :class:`Connection` up to date and is otherwise the one it wraps.

    What the wrapped stream has beyond AnyIO's contract (``send_fds``, ``transport_stream``, ...)
    is passed through.
    """

    __slots__ = ("_busy", "_on_close", "_stream", "connection")

    def __init__(
        self,
        stream: ByteStream,
        on_close: Callable[[RecordedStream], object] | None = None,
        id: int = 0,  # noqa: A002 (what it is called on the record)
    ) -> None:
        self._stream = stream
        self._on_close = on_close
        self.connection: Connection = Connection(stream, id)
        self._busy = self.connection._busy

    async def receive(self, max_bytes: int = 65536) -> bytes:
        self._busy.append("receive")
        try:
            data = await self._stream.receive(max_bytes)
        except EndOfStream:
            self.connection._eof_received = True
            self.connection.read_the_end()
            raise
        finally:
            self._busy.remove("receive")
        self.connection.bytes_in += len(data)
        return data

    async def send(self, item: bytes) -> None:
        self._busy.append("send")
        try:
            await self._stream.send(item)
        finally:
            self._busy.remove("send")
        self.connection.bytes_out += len(item)

    async def send_eof(self) -> None:
        await self._stream.send_eof()
        self.connection._eof_sent = True

    async def aclose(self) -> None:
        self._is_closed()
        await self._stream.aclose()

    async def aclose_forcefully(self) -> None:
        """What AnyIO's function does; a stream in memory needs no cancelled scope for that."""
        if isinstance(self._stream, MemoryStream):
            self._is_closed()
            self._stream.close()
        else:
            await aclose_forcefully(self)

    def _is_closed(self) -> None:
        self.connection._closed = True
        if self._on_close is not None:
            self._on_close(self)
            self._on_close = None

    def when_closed(self, function: Callable[[], object]) -> None:
        """Call ``function`` as it is closed, before what was to be called then already."""
        before = self._on_close

        def on_close(stream: RecordedStream) -> None:
            function()
            if before is not None:
                before(stream)

        self._on_close = on_close

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return self._stream.extra_attributes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self._stream!r}>"
