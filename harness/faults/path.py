"""One direction of one connection: from the stream it is received from to the one it is sent to.

Without a toxic, what is received is sent, by one task and with nothing in between. Each toxic adds
a :class:`~harness.faults.stage.Stage`: a bounded queue, and a task that gives what is in it to the
toxic, one run of bytes after the other. Stages come and go while bytes flow::

    receive -> [stage -> stage ->] send

A stage that is taken away stays in its place until its queue is empty, and passes on what is in
it without its toxic; then it goes, in one step. One that is added comes last, where it sees what
the others let through. So every byte goes through the stages in their order, and none passes
another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, Event, Lock
from anyio.abc import ByteStream, TaskGroup
from anyio.lowlevel import checkpoint

from .closing import is_tls
from .contract import Direction
from .shortcut import Shortcut
from .stage import Stage

if TYPE_CHECKING:
    from .proxy import ActiveToxic, ProxyConnection

#: What a stream raises that has lost its other side, or was closed meanwhile.
BROKEN = (BrokenResourceError, ClosedResourceError, EndOfStream, OSError)


class Path:
    """One direction of one connection.

    :ivar passed: how many bytes have been given to the stream of the other side. Counted before
        they are sent: whoever has received them finds them counted.
    """

    def __init__(
        self,
        connection: ProxyConnection,
        direction: Direction,
        source: ByteStream,
        sink: ByteStream,
        group: TaskGroup,
    ) -> None:
        self.connection = connection
        self.direction: Direction = direction
        self.stages: list[Stage] = []
        self.over: Event = Event()
        self.passed: int = 0
        self._source = source
        self._sink = sink
        self._group = group
        #: a toxic may send beside what comes from the source
        self._door = Lock(fast_acquire=True)
        self._ended = False

    async def pump(self) -> None:
        """Move bytes until the end of the stream, and then that."""
        source, sink, stages = self._source, self._sink, self.stages
        receive = source.receive
        try:
            while True:
                if isinstance(source, Shortcut) and isinstance(sink, Shortcut) and not stages:
                    rest = await source.pass_on(sink, self._is_open)
                    if rest:
                        self.passed -= len(rest)  # which is counted there, before anybody looks
                        await self.deliver(rest)
                        continue
                data = await receive()
                if stages:
                    await self.forward(data)
                else:
                    await self.deliver(data)
        except EndOfStream:
            await self.forward(None)
        except BROKEN:
            self.connection.end_with("reset")
        except Exception as exc:
            self.connection.failed(exc)

    def _is_open(self, count: int) -> bool:
        if self.stages or self._ended or self._door.locked():
            return False
        self.passed += count
        return True

    async def forward(self, data: bytes | None, after: Stage | None = None) -> None:
        """Give bytes, or ``None`` for the end, to the stage after ``after``, or to the sink."""
        while True:
            at = 0 if after is None else self.stages.index(after) + 1
            if at == len(self.stages):
                await (self.deliver_eof() if data is None else self.deliver(data))
                return
            if await self.stages[at].put(data):
                return
            # It has gone while this waited for room in it.

    async def deliver(self, data: bytes) -> None:
        async with self._door:
            if self._ended:
                return
            self.passed += len(data)
            try:
                await self._sink.send(data)
            except BROKEN:
                self.connection.end_with("reset")
                await checkpoint()
            except Exception as exc:
                self.connection.failed(exc)
                await checkpoint()

    async def deliver_eof(self) -> None:
        async with self._door:
            if self._ended:
                return
            self._ended = True
            try:
                if is_tls(self._sink):
                    raise NotImplementedError
                await self._sink.send_eof()
            except NotImplementedError:  # it has no other end than that of the connection
                self.connection.end_with("finished")
            except (RuntimeError, *BROKEN):  # RuntimeError: uvloop's, for one that has gone
                self.connection.end_with("reset")
            except Exception as exc:
                self.connection.failed(exc)
            self.over.set()

    def add(self, active: ActiveToxic, seed: str) -> Stage:
        stage = Stage(self, active, seed)
        self.stages.append(stage)
        self.spawn(stage.run, f"{active.toxic!r}, {self.direction} of {self.connection.in_words}")
        return stage

    def spawn(self, func: Callable[..., Any], name: str) -> None:
        self._group.start_soon(func, name=name)
