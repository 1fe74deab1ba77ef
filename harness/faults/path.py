"""One direction of one connection: from the stream it is received from to the one it is sent to.

Without a toxic, what is received is sent, by one task and with nothing in between. Each toxic adds
a :class:`Stage`: a bounded queue, and a task that gives what is in it to the toxic, one run of
bytes after the other. Stages come and go while bytes flow::

    receive -> [stage -> stage ->] send

A stage that is taken away stays in its place until its queue is empty, and passes on what is in
it without its toxic; then it goes, in one step. One that is added comes last, where it sees what
the others let through. So every byte goes through the stages in their order, and none passes
another.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any

from anyio import (
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    Event,
    current_time,
    move_on_after,
    sleep_until,
)
from anyio.abc import ByteStream, TaskGroup
from anyio.lowlevel import checkpoint

from .contract import Direction, Link, Toxic, Trigger

if TYPE_CHECKING:
    from .proxy import ActiveToxic, ProxyConnection

#: What a stream raises that has lost its other side, or was closed meanwhile.
BROKEN = (BrokenResourceError, ClosedResourceError, EndOfStream, OSError)


class Path:
    """One direction of one connection.

    :ivar passed: how many bytes have been sent to the other side
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
        self._ended = False

    async def pump(self) -> None:
        """Move bytes until the end of the stream, and then that."""
        source, stages = self._source, self.stages
        try:
            async for data in source:
                if stages:
                    await stages[0].put(data)
                else:
                    await self.deliver(data)
            if stages:
                await stages[0].put(None)
            else:
                await self.deliver_eof()
        except BROKEN:
            self.connection.end_with("reset")

    async def deliver(self, data: bytes) -> None:
        if not self._ended:
            await self._sink.send(data)
            self.passed += len(data)

    async def deliver_eof(self) -> None:
        if not self._ended:
            self._ended = True
            try:
                await self._sink.send_eof()
            except NotImplementedError:  # TLS: it has no other end than that of the connection
                self.connection.end_with("finished")
            self.over.set()

    def add(self, active: ActiveToxic, seed: str) -> Stage:
        stage = Stage(self, active, seed)
        self.stages.append(stage)
        self._group.start_soon(stage.run, name=f"{active.toxic!r}, {self.direction}")
        return stage

    def spawn(self, func: Callable[..., Any], name: str) -> None:
        self._group.start_soon(func, name=name)


class Stage(Link):
    """One toxic in one direction of one connection."""

    def __init__(self, path: Path, active: ActiveToxic, seed: str) -> None:
        self.active = active
        self.direction = path.direction
        self.connection = path.connection
        self.random = Random(seed)
        self.offset = 0
        self.arrived = current_time()
        self._seed = seed
        self._path = path
        self._toxic: Toxic = copy.copy(active.toxic)
        self._triggers: list[Trigger] = [copy.copy(trigger) for trigger in active.when]
        self._begun = False
        self._given: bytes | None = None
        self._queue: deque[tuple[bytes | None, float]] = deque()
        self._size = 0
        self._filled: Event | None = None
        self._emptied: Event | None = None
        self._changed = Event()
        self._removed = False
        self._next: Stage | None = None
        self._gone = False
        self._watching: CancelScope | None = None
        windows = [trigger.window() for trigger in self._triggers]
        self._from = active.added_at + max([start for start, _ in windows], default=0.0)
        self._until = active.added_at + min([end for _, end in windows], default=math.inf)

    # What the stage before it calls

    async def put(self, data: bytes | None) -> None:
        """Take bytes, or ``None`` for the end, when there is room."""
        while self._size >= self._toxic.capacity and not self._gone:
            self._emptied = self._emptied or Event()
            await self._emptied.wait()
        if self._gone:
            await self._pass_on(data)
            return
        self._queue.append((data, current_time()))
        self._size += 0 if data is None else len(data)
        if self._filled is not None:
            self._filled.set()

    # What it does with them

    async def run(self) -> None:
        if not any(waits_for_bytes(trigger) for trigger in self._triggers):
            self._begin()
        while True:
            while not self._queue:
                if self._removed:
                    self._leave()
                    return
                self._filled = Event()
                await self._filled.wait()
                self._filled = None
            data, self.arrived = self._queue.popleft()
            if data is None:
                await self._supervised(self._finish)
                return
            await self._supervised(self._transfer, data)
            self._size -= len(data)
            if self._emptied is not None:
                self._emptied.set()
                self._emptied = None

    async def _supervised(self, func: Callable[..., Awaitable[None]], *args: object) -> None:
        """Await it; that a stream breaks meanwhile, or the toxic itself, ends the connection."""
        __tracebackhide__ = True
        try:
            await func(*args)
        except BROKEN:
            self.connection.end_with("reset")
        except Exception as exc:
            self.connection.toxic_failed(exc, self.active)

    def _leave(self) -> None:
        """Be no more: what comes before passes its bytes to what comes after."""
        stages = self._path.stages
        at = stages.index(self)
        self._next = stages[at + 1] if at + 1 < len(stages) else None
        self._gone = True
        del stages[at]
        if self._emptied is not None:
            self._emptied.set()

    async def _transfer(self, data: bytes) -> None:
        if not self._begun:
            places = [trigger.begins(data) for trigger in self._triggers]
            at = max((len(data) if place is None else place for place in places), default=0)
            if at:
                await self._pass_on(data[:at])
                self.offset += at
                data = data[at:]
            if not data:
                return
            self._begin()
        if self._acts():
            self._given = data
            await self._toxic.transfer(data, self)
            if self._given is not None:
                self.fired()  # it has not been passed on as it was
        else:
            await self._pass_on(data)
        self.offset += len(data)

    def _begin(self) -> None:
        self._begun = True
        if type(self._toxic).watch is not Toxic.watch:
            self._path.spawn(self._watch, f"{self.active.toxic!r} beside, {self.direction}")

    async def _watch(self) -> None:
        await sleep_until(self._from)
        while not self._removed:
            changed = self._changed
            with CancelScope(deadline=self._until) as self._watching:
                await self._supervised(self._toxic.watch, self)
            if changed is self._changed:
                return  # it has come to its own end

    async def _finish(self) -> None:
        if self._begun and self._acts():
            await self._toxic.finish(self)
        else:
            await self._pass_on(None)

    def _acts(self) -> bool:
        return not self._removed and self._from <= current_time() < self._until

    async def _pass_on(self, data: bytes | None) -> None:
        after = self._next
        if not self._gone:
            stages = self._path.stages
            at = stages.index(self) + 1
            after = stages[at] if at < len(stages) else None
        if after is not None:
            await after.put(data)
        elif data is None:
            await self._path.deliver_eof()
        else:
            await self._path.deliver(data)

    # What the toxic calls

    async def send(self, data: bytes) -> None:
        if data is self._given:
            self._given = None  # as it was
        elif data:
            self.fired()
        if data:
            await self._pass_on(data)

    async def send_eof(self) -> None:
        await self._pass_on(None)

    async def pause(self, seconds: float) -> bool:
        if self._removed:
            return False
        if seconds <= 0:
            return True
        self.fired()
        changed = self._changed
        left = self._until - current_time()
        with move_on_after(min(seconds, left)):
            await changed.wait()
        return not changed.is_set() and seconds <= left

    async def hold(self) -> None:
        await self.pause(math.inf)

    async def reset(self) -> None:
        self.fired()
        self.connection.end_with("reset")
        await checkpoint()

    async def close(self) -> None:
        self.fired()
        self.connection.end_with("disconnected")
        await checkpoint()

    async def disconnect(self) -> None:
        self.fired()
        await self._pass_on(None)
        await self._path.over.wait()
        self.connection.end_with("disconnected")
        await checkpoint()

    def seed_at(self, offset: int) -> str:
        return f"{self._seed}/{offset}"

    def fired(self) -> None:
        self.connection.note(self.active.name)

    # What the proxy calls

    def interrupt(self, *, removed: bool) -> None:
        """The toxic is taken away, or has other values: what waits goes on."""
        self._removed = removed
        changed, self._changed = self._changed, Event()
        for name, value in vars(self.active.toxic).items():
            if not name.startswith("_"):
                setattr(self._toxic, name, value)
        if removed:
            self._changed.set()
        changed.set()
        if self._watching is not None:
            self._watching.cancel()
        if removed and self._filled is not None:
            self._filled.set()


def waits_for_bytes(trigger: Trigger) -> bool:
    return type(trigger).begins is not Trigger.begins
