"""One direction of a simulated connection: a bounded run of bytes, ended by FIN or by RST.

The kernel of the simulated network (this module and :mod:`harness.network.kernel`) has no clock,
no event loop and no ``await`` in it. It speaks the language of non-blocking sockets, so that the
same kernel can stand behind an AnyIO stream today and behind a socket factory tomorrow.
"""

from __future__ import annotations

from collections import deque

DEFAULT_CAPACITY = 65536


class Pipe:
    """A byte queue between one writing and one reading socket.

    ``capacity`` is in bytes. Bytes keep their order and lose their boundaries: what was written in
    ten pieces may be read in one, and the other way round.
    """

    __slots__ = ("_chunks", "_head", "capacity", "finished", "size")

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1 byte, not {capacity!r}")
        self.capacity: int = capacity
        self.size: int = 0
        #: the writer has sent FIN: after the queued bytes comes the end of the stream
        self.finished: bool = False
        self._chunks: deque[bytes] = deque()
        self._head = 0  # bytes of _chunks[0] that were read already

    @property
    def room(self) -> int:
        return self.capacity - self.size

    def write(self, data: memoryview) -> int:
        """Queue as much of ``data`` as there is room for; return the number of bytes taken."""
        taken = min(len(data), self.capacity - self.size)
        if taken:
            whole = data.obj
            if taken == data.nbytes and type(whole) is bytes and len(whole) == taken:
                self._chunks.append(whole)
            else:
                self._chunks.append(bytes(data[:taken]))
            self.size += taken
        return taken

    def read(self, max_bytes: int) -> bytes:
        """Take up to ``max_bytes`` bytes, across the boundaries of what was written."""
        chunks = self._chunks
        if not chunks:
            return b""
        if not self._head and len(chunks) == 1 and len(chunks[0]) <= max_bytes:
            self.size = 0
            return chunks.popleft()
        parts: list[memoryview] = []
        wanted = max_bytes
        while wanted and chunks:
            part = memoryview(chunks[0])[self._head : self._head + wanted]
            parts.append(part)
            wanted -= len(part)
            self._head += len(part)
            if self._head == len(chunks[0]):
                chunks.popleft()
                self._head = 0
        data = b"".join(parts)
        self.size -= len(data)
        return data

    def clear(self) -> None:
        self._chunks.clear()
        self._head = self.size = 0
