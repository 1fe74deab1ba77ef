"""Waiting until every other task is blocked: an event, not a pause.

On trio the scheduler itself tells when its run queue is empty and no I/O is ready
(``trio.testing.wait_all_tasks_blocked``). asyncio has no such event, so there the loop is turned,
one ``sleep(0)`` at a time, until :data:`QUIET_TURNS` turns in a row have found every task blocked,
or :data:`EMPTY_TURNS` nothing to run.
Each turn polls the selector without blocking, so bytes on their way between two sockets of this
process count as work: the turn that finds them makes some task runnable, and the count starts
again.

AnyIO's ``wait_all_tasks_blocked`` pauses for 0.1 s between looks on asyncio, which is what this
module exists to avoid.
"""

from __future__ import annotations

import asyncio
import functools
import weakref
from asyncio.selector_events import BaseSelectorEventLoop
from typing import Any

from anyio import CancelScope

from .backends import current_library, is_uvloops

#: Turns without a runnable task that count as settled. One finds bytes that were sent before it,
#: one the protocol callbacks that those cause, one the tasks that the callbacks wake.
QUIET_TURNS = 3

#: Turns that count as settled where a loop shows what it has to run, and had nothing. In the first
#: a task may have run before this one, and begun to wait for a socket: the second one polls that.
EMPTY_TURNS = 2


async def settle(*, turns: int | None = None) -> bool:
    """Return when every other task of this event loop is blocked.

    Blocked means waiting for something that has not happened: a task that waits for a timer, a
    thread or a peer outside this loop is blocked.

    :param turns: give up after so many turns of the event loop; a task that never blocks would
        otherwise keep this waiting for ever
    :return: whether everything settled
    """
    if current_library() == "trio":
        return await _settle_trio(turns)
    virtual = getattr(asyncio.get_running_loop(), "_virtual", None)
    if virtual is not None:  # a loop with a ready queue of ours knows when that is empty
        return bool(await virtual.settle(turns))
    return await _settle_asyncio(turns)


#: The tasks that are settling. They turn the loop, but they wait like any blocked task: two that
#: settle at once must not take one another for work.
_settling: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()


async def _settle_asyncio(turns: int | None) -> bool:
    this_task = asyncio.current_task()
    assert this_task is not None
    nested = this_task in _settling
    _settling.add(this_task)
    try:
        # asyncio's own loop says what is to run, all blocked tasks aside (asyncio/base_events.py,
        # `_run_once`); uvloop's does not.
        ready = getattr(asyncio.get_running_loop(), "_ready", True)
        quiet = empty = turned = 0
        while quiet < QUIET_TURNS:
            if turned == turns:
                return False
            await asyncio.sleep(0)
            turned += 1
            quiet += 1
            empty = 0 if ready else empty + 1
            if empty == EMPTY_TURNS:
                return True
            if empty:
                continue
            for task in asyncio.all_tasks():
                if not is_blocked(task) and task not in _settling:
                    quiet = 0
                    break
        return True
    finally:
        if not nested:
            _settling.discard(this_task)


async def _settle_trio(turns: int | None) -> bool:
    import trio.testing

    if turns is None:
        await trio.testing.wait_all_tasks_blocked()
        return True

    settled = False
    with CancelScope() as scope:
        counter = _instrument()(turns, scope)
        trio.lowlevel.add_instrument(counter)
        try:
            await trio.testing.wait_all_tasks_blocked()
            settled = True
        finally:
            trio.lowlevel.remove_instrument(counter)
    return settled


@functools.cache
def _instrument() -> Any:
    """The class of trio's instrument; made once, when trio runs."""
    import trio

    class CountTurns(trio.abc.Instrument):
        """Cancels the wait when the scheduler has made so many passes."""

        def __init__(self, turns: int, scope: CancelScope) -> None:
            self.left = turns
            self.scope = scope
            self.token = trio.lowlevel.current_trio_token()

        def after_io_wait(self, timeout: float) -> None:
            self.left -= 1
            if self.left <= 0:
                # Not cancelled here: an instrument must not touch the scheduler it is called from.
                self.token.run_sync_soon(self.scope.cancel, idempotent=False)

    return CountTurns


def is_blocked(task: asyncio.Task[Any]) -> bool:
    """Whether a task of asyncio's waits for something that has not happened yet."""
    # What a task waits for. `Task` has no public word for it; AnyIO reads it too.
    waiter = getattr(task, "_fut_waiter", None)
    if waiter is None:
        return False
    # asyncio takes anything that can be waited for. The `taskgroup` backport has such a thing,
    # which does not tell whether it is done.
    done = getattr(waiter, "done", None)
    return done is None or not done()


def has_nothing_to_run(loop: asyncio.AbstractEventLoop | None) -> bool:
    """Whether that is so of an event loop that AnyIO's runner has, and that stands still.

    uvloop does not tell what it has, so its loop is turned, as :func:`settle` does.

    :param loop: asyncio's; ``None`` for trio's
    """
    if loop is None:
        return _trio_has_nothing_to_run()
    if hasattr(loop, "_virtual"):
        return False
    if isinstance(loop, BaseSelectorEventLoop):
        return _asyncio_has_nothing_to_run(loop)
    if not is_uvloops(loop):
        return False
    over = loop.create_future()
    _turn(loop, QUIET_TURNS, over)
    loop.run_until_complete(over)
    return all(map(is_blocked, asyncio.all_tasks(loop)))


def _asyncio_has_nothing_to_run(loop: Any) -> bool:
    """What its next turn would look at (asyncio/base_events.py, ``_run_once``)."""
    timers = loop._scheduled
    due = bool(timers) and timers[0]._when <= loop.time()
    return not (loop._ready or due or loop._selector.select(0))


def _trio_has_nothing_to_run() -> bool:
    import trio

    try:
        statistics = trio.lowlevel.current_statistics()
    except RuntimeError:
        return False
    # AnyIO's own task, which runs all fixtures, is about to wait for the next one, but has still to
    # pass a checkpoint (anyio/streams/memory.py, `MemoryObjectReceiveStream.receive`).
    return statistics.tasks_runnable <= 1 and not statistics.run_sync_soon_queue_size


def _turn(loop: asyncio.AbstractEventLoop, turns: int, over: asyncio.Future[None]) -> None:
    if turns:
        loop.call_soon(_turn, loop, turns - 1, over)
    else:
        over.set_result(None)
