"""One toxic in one direction of one connection: its queue, its task, and the link that it sees.

A toxic that watches has a second task, with a link of its own: so it is known which of the two does
something, and what the one chooses at random does not depend on when the other does.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any

from anyio import CancelScope, Event, Lock, current_time, get_cancelled_exc_class
from anyio.lowlevel import checkpoint

from .contract import Direction, Link, Toxic, Trigger

if TYPE_CHECKING:
    from .path import Path
    from .proxy import ActiveToxic, Ending, ProxyConnection


class Stage:
    """One toxic in one direction of one connection.

    :ivar changed: is set, and replaced by another one, when the toxic is changed or taken away
    :ivar closes: when its time is over
    :ivar ended: the toxic has passed on the end of the stream
    :ivar disconnecting: the toxic ends the connection with that
    """

    def __init__(self, path: Path, active: ActiveToxic, seed: str) -> None:
        self.path = path
        self.connection: ProxyConnection = path.connection
        self.active = active
        self.changed: Event = Event()
        self.ended: bool = False
        self.disconnecting: bool = False
        self.closes: float
        self._opens, self.closes = active.window
        self._began = math.inf
        self._removed = self._gone = False
        self._toxic: Toxic = copy.copy(active.toxic)
        self._waits_for: list[Trigger] = [copy.copy(trigger) for trigger in active.when]
        self._link = StageLink(self, seed)
        self._beside = Beside(self, seed)
        self._watching = False
        #: what comes before may send, and what a toxic there does beside
        self._door = Lock(fast_acquire=True)
        self._queue: deque[tuple[bytes | None, float]] = deque()
        self._size = 0
        self._no_more = False
        self._filled: Event | None = None
        self._emptied: Event | None = None

    @property
    def acts(self) -> bool:
        return not self._removed and self._began <= current_time() < self.closes

    # What comes before it calls

    async def put(self, data: bytes | None) -> bool:
        """Take bytes, or ``None`` for the end, when there is room; ``False`` if it has gone."""
        async with self._door:
            while self._size >= self._toxic.capacity:
                self._emptied = self._emptied or Event()
                await self._emptied.wait()
            if self._gone:
                return False
            if not self._no_more:
                self._no_more = data is None
                self._size += 0 if data is None else len(data)
                self._queue.append((data, current_time()))
                self._wake()
            return True

    # What it does with them

    async def run(self) -> None:
        await self._supervised(self._look)
        while True:
            while not self._queue:
                if self._removed and not self._watching:
                    self._leave()
                    return
                self._filled = Event()
                await self._filled.wait()
                self._filled = None
            data, self._link.arrived = self._queue.popleft()
            if data is None:
                await self._supervised(self._finish)
                return
            await self._supervised(self._transfer, data)
            self._size -= len(data)
            if self._emptied is not None:
                self._emptied.set()
                self._emptied = None

    async def _supervised(self, func: Callable[..., Awaitable[None]], *args: object) -> None:
        """Await it; what the toxic raises fails the test, and ends the connection."""
        __tracebackhide__ = True
        try:
            await func(*args)
        except (GeneratorExit, get_cancelled_exc_class()):
            raise
        except BaseException as exc:
            self.connection.toxic_failed(exc, self.active)
            await checkpoint()

    def _wake(self) -> None:
        if self._filled is not None:
            self._filled.set()

    def _leave(self) -> None:
        """Be no more: what comes before gives its bytes to what comes after."""
        self.path.stages.remove(self)
        self._gone = True

    async def _look(self) -> None:
        __tracebackhide__ = True
        if self._begins_in(b"") is not None:
            self._begin()

    def _begins_in(self, data: bytes) -> int | None:
        """Where in ``data`` the last of the triggers agrees."""
        __tracebackhide__ = True
        places = [(trigger, trigger.begins(data)) for trigger in self._waits_for]
        self._waits_for = [trigger for trigger, place in places if place is None]
        return None if self._waits_for else max((place or 0 for _, place in places), default=0)

    def _begin(self) -> None:
        self._began = max(self._opens, current_time())
        self._link.began = self._beside.began = self._began
        if type(self._toxic).watch is not Toxic.watch:
            self._watching = True
            self.path.spawn(self._watch, f"{self.active.toxic!r} beside, {self.path.direction}")

    async def _transfer(self, data: bytes) -> None:
        __tracebackhide__ = True
        if self._began == math.inf:
            at = self._begins_in(data)
            before = data if at is None else data[:at]
            if before:
                await self.path.forward(before, self)
                self._count(before)
            if at is not None:
                self._begin()
            data = data[len(before) :]
        if not data:
            return
        if self.acts:
            await self._link.give(self._toxic, data)
        else:
            await self.path.forward(data, self)
        self._count(data)

    def _count(self, data: bytes) -> None:
        self._link.offset += len(data)
        self._beside.offset = self._link.offset
        self._beside.arrived = self._link.arrived

    async def _finish(self) -> None:
        __tracebackhide__ = True
        if self.acts:
            await self._link.give_eof(self._toxic)
        elif not self.ended:
            await self.path.forward(None, self)

    async def _watch(self) -> None:
        try:
            while not self._removed:
                changed = self.changed
                with CancelScope(deadline=self._opens):
                    await changed.wait()
                if self.acts and not changed.is_set():
                    with self._beside.watching():
                        await self._supervised(self._toxic.watch, self._beside)
                await changed.wait()
        finally:
            self._watching = False
            self._wake()

    # What the proxy calls

    def change(self, values: Mapping[str, Any]) -> None:
        """The toxic has other values."""
        vars(self._toxic).update(values)
        self._interrupt()

    def remove(self) -> None:
        """The toxic is taken away."""
        self._removed = True
        self._interrupt()
        self._wake()

    def _interrupt(self) -> None:
        changed, self.changed = self.changed, Event()
        changed.set()
        self._beside.interrupt()


class StageLink(Link):
    """What :meth:`Toxic.transfer` and :meth:`Toxic.finish` see."""

    def __init__(self, stage: Stage, seed: str) -> None:
        self.direction: Direction = stage.path.direction
        self.connection: ProxyConnection = stage.connection
        self._random = Random(seed)
        self.offset: int = 0
        self.arrived: float = current_time()
        self.began: float = self.arrived
        self._stage = stage
        self._seed = seed
        self._given: bytes | None = None
        self._finishing = False
        self._noted = False

    @property
    def random(self) -> Random:
        self.connection.chooses()
        return self._random

    # What the stage calls

    async def give(self, toxic: Toxic, data: bytes) -> None:
        __tracebackhide__ = True
        self._noted = False
        self._given = data
        await toxic.transfer(data, self)
        if self._given is not None:
            self._note()  # it has not been passed on as it was

    async def give_eof(self, toxic: Toxic) -> None:
        __tracebackhide__ = True
        self._noted = self._stage.ended
        self._finishing = True
        await toxic.finish(self)
        if not self._stage.ended:
            self._note()

    def _note(self) -> None:
        if not self._noted:
            self._noted = True
            self.connection.note(self._stage.active.name)

    # What the toxic calls

    @property
    def acts(self) -> bool:
        return self._stage.acts

    async def send(self, data: bytes) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"send() takes bytes, not {data!r}")
        stage = self._stage
        if not data:
            return
        if stage.ended:
            self._note()
            return
        if data == self._given:
            self._given = None
        else:
            self._note()
        await stage.path.forward(bytes(data), stage)

    async def send_eof(self) -> None:
        stage = self._stage
        if not self._finishing:
            self._note()
        if not stage.ended:
            stage.ended = True
            await stage.path.forward(None, stage)

    async def pause(self, seconds: float) -> bool:
        return await self.pause_until(current_time() + seconds)

    async def pause_until(self, time: float) -> bool:
        stage = self._stage
        if not stage.acts:
            await checkpoint()
            return False
        if time <= current_time():
            return True
        self._hold()
        changed = stage.changed
        with CancelScope(deadline=min(time, stage.closes)):
            await changed.wait()
        return time < stage.closes and not changed.is_set()

    async def hold(self) -> None:
        while self.acts:
            await self.pause_until(math.inf)

    def _hold(self) -> None:
        self._note()

    async def reset(self) -> None:
        self._end("reset")
        await checkpoint()

    async def close(self) -> None:
        self._end("disconnected")
        await checkpoint()

    async def disconnect(self) -> None:
        stage = self._stage
        if self.acts:
            if not stage.disconnecting:
                self._note()
            stage.disconnecting = stage.ended = True
            await stage.path.forward(None, stage)
            await stage.path.over.wait()
            self.connection.end_with("disconnected")
        await checkpoint()

    def _end(self, ending: Ending) -> None:
        if self.acts:
            if self.connection.ending is None:
                self._note()
            self.connection.end_with(ending)

    def seed_at(self, offset: int) -> str:
        self.connection.chooses()
        return f"{self._seed}/{offset}"


class Beside(StageLink):
    """What :meth:`Toxic.watch` sees.

    That it waits is nothing that the toxic holds back. It is interrupted by a cancellation, so that
    it may wait for anything; but not in the middle of sending, which would lose bytes.
    """

    def __init__(self, stage: Stage, seed: str) -> None:
        super().__init__(stage, f"{seed}/beside")
        self._scope = CancelScope()
        self._sending = self._interrupted = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._interrupted = False
        with CancelScope(deadline=self._stage.closes) as self._scope:
            yield

    def interrupt(self) -> None:
        self._interrupted = True
        if not self._sending:
            self._scope.cancel()

    def _note(self) -> None:
        self.connection.note(self._stage.active.name)

    def _hold(self) -> None:
        pass

    async def send(self, data: bytes) -> None:
        await self._uninterrupted(super().send(data))

    async def send_eof(self) -> None:
        await self._uninterrupted(super().send_eof())

    async def disconnect(self) -> None:
        await self._uninterrupted(super().disconnect())

    async def pause_until(self, time: float) -> bool:
        await checkpoint()
        return await super().pause_until(time)

    async def _uninterrupted(self, sending: Coroutine[Any, Any, None]) -> None:
        self._sending = True
        self._scope.deadline = math.inf
        try:
            await sending
        finally:
            self._sending = False
            self._scope.deadline = self._stage.closes
            if self._interrupted:
                self._scope.cancel()
