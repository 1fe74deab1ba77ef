"""`LeakCheck`: what one test leaves behind, found while its event loop runs and after.

A thing that is about to go (a transport that closes in the loop's next turn, a worker thread that
has not yet put itself back) is no leak. So what looks like one is looked at again, a bounded number
of times, with the event loop turned in between; a clean test pays for one look. Nothing is ever
collected on the clean path: a full garbage collection takes longer than many a test.
"""

from __future__ import annotations

import asyncio
import gc
import time
import warnings
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from anyio import CancelScope

from ..diagnostics.stacks import Place
from ..settling import settle
from .async_generators import AsyncGenerators
from .cancel_scopes import CancelScopes
from .caught_warnings import WarningsOfTheTest
from .contract import OUTLIVES_THE_TEST, Kind, Leak, Owner, Suspects, owner
from .coroutines import Coroutines, close_never_awaited, remember_left
from .descriptors import Descriptors
from .event_loops import EventLoops
from .loops import LoopWatch
from .memory_streams import MemoryStreams
from .processes import Processes
from .references import kept_by_modules
from .tasks import TaskExceptions, Tasks
from .temporary_files import TemporaryFiles
from .threads import Threads
from .timers import Timers

#: All kinds of leak, in the order of reports.
ALL: tuple[str, ...] = (
    "task",
    "task exception",
    "coroutine",
    "cancel scope",
    "async generator",
    "memory stream",
    "event loop",
    "socket",
    "file",
    "timer",
    "thread",
    "process",
    "temporary file",
)

#: What a failed test may have left open only because it did not come to the line that closes it,
#: or because its traceback refers to it. It is told all the same if a module keeps it.
REFERENCE_DEPENDENT = frozenset({"async generator", "memory stream", "socket", "file"})

#: Turns of the event loop that what is about to go gets, at each look.
TURNS = 64

#: Looks at what seems to be a leak before it is one.
LOOKS = 12


class LeakCheck:
    """Looks for what one test leaves behind.

    In order: :meth:`start`, :meth:`entered_loop` at each part of the test that the event loop runs,
    :meth:`find` in the event loop after the last one, unless :meth:`nothing_left`, :meth:`stop`
    after the event loop was closed, or left for the next test. Every part but :meth:`start` and
    :meth:`stop` may be missing.

    :param kinds: the kinds of leak to look for
    :param name: whose leaks, for a debugger
    :param elsewhere: whether a line is another test's
    :raises ValueError: for a kind that does not exist
    """

    def __init__(
        self,
        *,
        kinds: Collection[str] = ALL,
        name: str = "a test",
        elsewhere: Callable[[Place], bool] = lambda place: False,
    ) -> None:
        unknown = sorted(set(kinds) - set(ALL))
        if unknown:
            raise ValueError(f"unknown kinds of leak: {unknown}; there are {list(ALL)}")
        self._test = Owner(name)
        self._warnings = WarningsOfTheTest()
        self._tasks = Tasks(self._test)
        self._exceptions = TaskExceptions(self._test, self._tasks)
        self._timers = Timers(self._test)
        self._descriptors = Descriptors(self._test)
        self._processes = Processes(self._test)
        self._coroutines = Coroutines(self._test, self._warnings, elsewhere)
        event_loops = EventLoops(self._test)
        every: list[Kind] = [
            self._tasks,
            self._exceptions,
            self._coroutines,
            CancelScopes(self._test),
            AsyncGenerators(self._test, self._warnings),
            MemoryStreams(self._test, self._warnings),
            event_loops,
            self._descriptors,
            self._timers,
            Threads(self._test),
            self._processes,
            TemporaryFiles(self._test),
        ]
        self._kinds_of_leak = set(kinds)
        self._kinds = [kind for kind in every if not self._kinds_of_leak.isdisjoint(kind.names)]
        self._listening = dict.fromkeys(self._kinds)
        # Tasks tell where other things were made; an event loop's descriptors are its own.
        self._silent = [kind for kind in (self._tasks, event_loops) if kind not in self._listening]
        self._loops = LoopWatch(self)
        self._started = False
        self._reported: set[Any] = set()

    def start(self) -> None:
        """Begin: before the fixtures of the test are set up, outside of the event loop or inside.

        From here to :meth:`stop`, functions of the standard library, AnyIO and trio are replaced.
        """
        if self._started:
            raise RuntimeError("this check was started before")
        self._started = True
        for kind in (*self._silent, *self._kinds):
            kind.start()

    def entered_loop(self) -> None:
        """The event loop begins to run a part of the test, in the task that calls this."""
        if owner.get() is not OUTLIVES_THE_TEST:
            owner.set(self._test)
        self._warnings.begin()
        self._loops.entered_loop()
        if self._loops.is_new:
            for kind in self._kinds:
                kind.entered_new_loop()
        for kind in self._kinds:
            kind.entered_loop()

    @contextmanager
    def exempt(self) -> Iterator[None]:
        """What is made in this block, and by what is made in it, outlives the test.

        For the setup of wider-scoped fixtures, sync and async, during the test.
        """
        before = owner.get()
        owner.set(OUTLIVES_THE_TEST)
        for kind in self._kinds:
            kind.exempt_begin()
        try:
            yield
        finally:
            for kind in self._kinds:
                kind.exempt_end()
            owner.set(before)

    def nothing_left(self, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Whether :meth:`find` would find nothing, and so need not be called.

        Called after the last fixture, while the event loop stands still and has nothing to run. To
        look from outside spares a clean test a good part of what a look inside costs.

        :param loop: asyncio's event loop; ``None`` on trio
        """
        self._warnings.begin()
        return all(kind.nothing_left(loop) for kind in self._kinds)

    async def find(
        self,
        *,
        own_tasks: Callable[[int], bool] = lambda task_id: False,
        failed: bool = False,
    ) -> list[Leak]:
        """What is left, after the last fixture of the test was torn down.

        :param own_tasks: tells, by AnyIO's ``TaskInfo.id``, the tasks that somebody else sees to
        :param failed: the test has failed: of the kinds that its traceback may keep alive
            (:data:`REFERENCE_DEPENDENT`), say only what a module keeps, and nothing in :meth:`stop`
        """
        self._tasks.own_tasks = own_tasks
        self.entered_loop()
        leaks: list[Leak] = []
        with CancelScope(shield=True):
            await settle(turns=TURNS)
            suspects = self._look()
            for _ in range(LOOKS):
                if not suspects:
                    break
                time.sleep(0)  # noqa: ASYNC251 (no pause: threads that only have to end may run)
                await settle(turns=TURNS)
                suspects = self._look()
            told = self._kept(suspects) if failed else suspects
            leaks = self._report(told)
            self._reported.update(suspects)  # what is not told was looked for to be put away
            if failed:
                self._kinds_of_leak -= REFERENCE_DEPENDENT
            if suspects:
                for kind in self._kinds:
                    kind.put_away(suspects)
                await self._collect()
                self._reported.update(self._look())  # the same things, now that they have gone
        return leaks

    def failed(self, error: BaseException) -> list[Leak]:
        """A part of the test has failed with ``error``: what its traceback alone keeps.

        That are coroutines which were never awaited; they are closed, so that no later test meets
        them.
        """
        return close_never_awaited(error) if self._coroutines in self._listening else []

    def late(self) -> list[Leak]:
        """What has shown during this test and is of another one."""
        return self._coroutines.late()

    def stop(self, *, failed: bool = False) -> list[Leak]:
        """End; return what :meth:`find` could not see: what shows only without the event loop.

        :param failed: as for :meth:`find`
        """
        self._warnings.end()
        if failed and self._coroutines in self._listening:
            remember_left()
        try:
            suspects: Suspects = {}
            for kind in self._kinds:
                suspects.update(kind.look_outside())
            return self._report(suspects)
        finally:
            self._loops.stop()
            for kind in (*self._silent, *self._listening):
                kind.stop()
            del self._loops  # which refers to this

    def _look(self) -> Suspects:
        suspects: Suspects = {}
        for kind in self._kinds:
            suspects.update(kind.look())
        return suspects

    def _kept(self, suspects: Suspects) -> Suspects:
        """``suspects`` without what only the traceback of the failed test may refer to."""
        things: dict[Hashable, object] = {}
        doubtful: set[Hashable] = set()
        for kind in self._kinds:
            if not REFERENCE_DEPENDENT.isdisjoint(kind.names):
                found = kind.look().keys() & suspects.keys()
                doubtful |= found
                things.update(kind.things(found) if found else {})
        kept = kept_by_modules(things) if things else set()
        return {key: each for key, each in suspects.items() if key in kept or key not in doubtful}

    def _report(self, suspects: Suspects) -> list[Leak]:
        leaks = [describe() for key, describe in suspects.items() if key not in self._reported]
        self._reported.update(suspects)
        leaks = [leak for leak in leaks if leak.kind in self._kinds_of_leak]
        # The pipes of a process go with it.
        of_processes = {leak.where for leak in leaks if leak.kind == "process" and leak.where}
        leaks = [
            leak
            for leak in leaks
            if leak.where not in of_processes or leak.kind not in ("file", "socket")
        ]
        return sorted(leaks, key=lambda leak: ALL.index(leak.kind))

    async def _collect(self) -> None:
        """Let go here what the collector would otherwise find in some later test."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # these were reported
            gc.collect()
        await settle(turns=TURNS)

    # What the event loops tell (loops.Listener), passed on to the kind that it is for.

    def made_timer(self, handle: Any, place: Place | None, whose: Owner | None) -> None:
        if self._timers in self._listening:
            self._timers.made_timer(handle, place, whose)

    def made_descriptor(self, fd: int, place: Place | None, whose: Owner | None) -> None:
        if self._descriptors in self._listening:
            self._descriptors.made_descriptor(fd, place, whose)

    def made_transport(self, transport: Any) -> None:
        if self._descriptors in self._listening:
            self._descriptors.made_transport(transport)

    def made_process(self, pid: int, name: str, place: Place | None, whose: Owner | None) -> None:
        if self._processes in self._listening:
            self._processes.made_process(pid, name, place, whose)

    def called_exception_handler(self, context: dict[str, Any]) -> bool:
        return self._exceptions in self._listening and (
            self._exceptions.called_exception_handler(context)
        )
