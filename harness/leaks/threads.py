"""Threads that still run. The threads of pools count only while they do something of the user's."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from types import FrameType
from typing import Any, ClassVar

from ..diagnostics.stacks import MACHINERY, Place, place_of
from ..diagnostics.threads import POOLS, is_machinery_thread, is_of_pool
from ..hooks import Hook
from .contract import Kind, Leak, Owner, Suspects, owner
from .places import described, here, is_installed, is_users

#: Innermost frames of a pool's thread that runs a function made in C, such as ``time.sleep``, and
#: so has no frame of the user's: module and function.
BUSY_IN_C = frozenset(
    {
        ("anyio._backends._asyncio", "run"),
        ("anyio._backends._trio", "wrapper"),
        ("concurrent.futures.thread", "run"),
        ("trio._threads", "unprotected_fn"),
    }
)


def _start(
    original: Callable[..., Any], hook: Hook[Callable[[threading.Thread], None]]
) -> Callable[..., Any]:
    def start(thread: threading.Thread) -> None:
        for listener in hook.listeners:
            listener(thread)
        original(thread)

    return start


_started: Hook[Callable[[threading.Thread], None]] = Hook(threading.Thread, "start", _start)


def _init(
    original: Callable[..., Any], hook: Hook[Callable[[ThreadPoolExecutor], None]]
) -> Callable[..., Any]:
    def __init__(executor: Any, *args: Any, **options: Any) -> None:  # noqa: N807 (it is one)
        original(executor, *args, **options)
        for listener in hook.listeners:
            listener(executor)

    return __init__


_made_executor: Hook[Callable[[ThreadPoolExecutor], None]] = Hook(
    ThreadPoolExecutor, "__init__", _init
)


class Threads(Kind):
    """Threads that were started during the test and run at its end."""

    names: ClassVar[tuple[str, ...]] = ("thread",)

    def __init__(self, test: Owner) -> None:
        super().__init__(test)
        self._before: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._made: weakref.WeakKeyDictionary[
            threading.Thread, tuple[Place | None, Owner | None]
        ] = weakref.WeakKeyDictionary()
        self._during: list[threading.Thread] = []
        #: executors that the project's own code has made
        self._executors: weakref.WeakKeyDictionary[ThreadPoolExecutor, Place] = (
            weakref.WeakKeyDictionary()
        )
        self._listener = self._on_start
        self._executor_listener = self._on_executor

    def start(self) -> None:
        self._before.update(_at_work(threading.enumerate()))
        _started.listen(self._listener)
        _made_executor.listen(self._executor_listener)

    def _on_start(self, thread: threading.Thread) -> None:
        self._made[thread] = here(2), owner.get()

    def _on_executor(self, executor: ThreadPoolExecutor) -> None:
        place = here(2)
        # A library's may be meant for as long as the process lives; asyncio's is its loop's.
        made_by = str(sys._getframe(2).f_globals.get("__name__")).partition(".")[0]
        if place is None or is_installed(place.file) or made_by in MACHINERY:
            return
        if self.mine(owner.get()):
            self._executors[executor] = place

    def exempt_begin(self) -> None:
        self._during = _at_work(threading.enumerate())

    def exempt_end(self) -> None:
        now = _at_work(threading.enumerate())
        self._before.update(set(now).difference(self._during, self._made))
        self._during = []

    def look(self) -> Suspects:
        suspects: Suspects = {}
        frames: dict[int, FrameType] | None = None
        for thread in threading.enumerate():
            if thread in self._before or thread is threading.current_thread():
                continue
            place, whose = self._made.get(thread, (None, None))
            if not self.mine(whose) or is_machinery_thread(thread):
                continue
            if frames is None:
                frames = _frames_of_others()
            stack = _stack(frames.get(thread.ident or 0))
            if is_of_pool(thread) and (_is_idle(stack) or not self.mine(_works_for(stack))):
                continue
            suspects["thread", id(thread)] = _describe(thread, stack, place)
        return suspects

    def look_outside(self) -> Suspects:
        suspects = self.look()
        # Only here: an event loop shuts down the one that it was given when it is closed.
        for executor, place in list(self._executors.items()):
            # concurrent/futures/thread.py, ThreadPoolExecutor
            threads: Any = () if executor._shutdown else executor._threads
            if any(("thread", id(thread)) in suspects for thread in threads):
                continue  # that says it
            if any(thread.is_alive() for thread in threads):
                suspects["executor", id(executor)] = _describe_executor(len(threads), place)
                executor.shutdown(wait=False)
        return suspects

    def stop(self) -> None:
        _started.leave(self._listener)
        _made_executor.leave(self._executor_listener)
        del self._listener, self._executor_listener  # which refer to this


def _at_work(threads: Iterable[threading.Thread]) -> list[threading.Thread]:
    """``threads`` without those of pools that are idle: the test may put them to work."""
    frames: dict[int, FrameType] | None = None
    found = []
    for thread in threads:
        if is_of_pool(thread):
            if frames is None:
                frames = _frames_of_others()
            if _is_idle(_stack(frames.get(thread.ident or 0))):
                continue
        found.append(thread)
    return found


def _frames_of_others() -> dict[int, FrameType]:
    """The innermost frame of every other thread."""
    frames = sys._current_frames()
    frames.pop(threading.get_ident(), None)  # or whoever holds them holds himself
    return frames


def _works_for(stack: list[FrameType]) -> Owner | None:
    """For whom a thread of a pool does something, if that is known.

    The workers of AnyIO and trio run it in a context (anyio/_backends/_asyncio.py,
    WorkerThread.run; trio/_threads.py, worker_fn).
    """
    for frame in stack:
        context = None if is_users(frame) else frame.f_locals.get("context")
        if isinstance(context, Context):
            return context.get(owner)
    return None


def _stack(frame: FrameType | None) -> list[FrameType]:
    """The frames of a thread, innermost first."""
    stack = []
    while frame is not None:
        stack.append(frame)
        frame = frame.f_back
    return stack


def _is_idle(stack: list[FrameType]) -> bool:
    """Whether a thread of a pool does nothing of the user's."""
    if not stack:
        return True
    innermost = (stack[0].f_globals.get("__name__"), stack[0].f_code.co_name)
    return innermost not in BUSY_IN_C and not any(is_users(frame) for frame in stack)


def _describe_executor(threads: int, place: Place) -> Callable[[], Leak]:
    what = f"{threads} idle of a ThreadPoolExecutor that was not shut down"
    return lambda: Leak("thread", what, described(place))


def _describe(
    thread: threading.Thread, stack: list[FrameType], place: Place | None
) -> Callable[[], Leak]:
    at = next((place_of(frame) for frame in stack if is_users(frame)), None)
    what = thread.name
    target = getattr(thread, "_target", None)
    if target is not None and target.__module__ not in POOLS:
        what += f" ({getattr(target, '__qualname__', target)})"
    if at is not None:
        what += f", which is at {at}"
    return lambda: Leak("thread", what, described(place))
