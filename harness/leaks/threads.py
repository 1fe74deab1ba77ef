"""Threads that still run. The threads of pools count only while they do something of the user's."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

from ..diagnostics.stacks import MACHINERY
from .contract import Kind, Leak, Owner, Suspects, owner
from .hooks import Hook
from .places import Place, _place, described, here, is_users

#: Modules whose threads belong to a pool: they wait for the next thing to do.
POOLS = frozenset(
    {"concurrent.futures.thread", "anyio._backends._asyncio", "trio._core._thread_cache"}
)

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


class Threads(Kind):
    """Threads that were started during the test and run at its end."""

    names = ("thread",)

    def __init__(self, test: Owner) -> None:
        super().__init__(test)
        self._before: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._made: weakref.WeakKeyDictionary[
            threading.Thread, tuple[Place | None, Owner | None]
        ] = weakref.WeakKeyDictionary()
        self._during: list[threading.Thread] = []
        self._listener = self._on_start

    def start(self) -> None:
        self._before.update(threading.enumerate())
        _started.listen(self._listener)

    def _on_start(self, thread: threading.Thread) -> None:
        self._made[thread] = here(2), owner.get()

    def exempt_begin(self) -> None:
        self._during = threading.enumerate()

    def exempt_end(self) -> None:
        for thread in threading.enumerate():
            if thread not in self._during and thread not in self._made:
                self._before.add(thread)
        self._during = []

    def look(self) -> Suspects:
        suspects: Suspects = {}
        frames: dict[int, FrameType] | None = None
        for thread in threading.enumerate():
            if thread in self._before or thread is threading.current_thread():
                continue
            place, whose = self._made.get(thread, (None, None))
            if not self.mine(whose) or _is_machinery(thread):
                continue
            if frames is None:
                frames = sys._current_frames()
            stack = _stack(frames.get(thread.ident or 0))
            if not _is_idle(stack):
                suspects["thread", id(thread)] = _describe(thread, stack, place)
        return suspects

    def look_outside(self) -> Suspects:
        return self.look()

    def stop(self) -> None:
        _started.leave(self._listener)


def _is_machinery(thread: threading.Thread) -> bool:
    if isinstance(thread, threading._DummyThread):
        return True  # of a library in C, which runs Python now and then
    made_by: Any = type(thread)
    if made_by.__module__ == "threading":
        made_by = getattr(thread, "_target", None)  # what Thread.run calls, in every CPython
        made_by = getattr(made_by, "__func__", made_by)
    module = str(getattr(made_by, "__module__", ""))
    return module.partition(".")[0] in MACHINERY and module not in POOLS


def _stack(frame: FrameType | None) -> list[FrameType]:
    """The frames of a thread, innermost first."""
    stack = []
    while frame is not None:
        stack.append(frame)
        frame = frame.f_back
    return stack


def _is_idle(stack: list[FrameType]) -> bool:
    """Whether a thread belongs to a pool and does nothing of the user's."""
    modules = [str(frame.f_globals.get("__name__")) for frame in stack]
    if POOLS.isdisjoint(modules):
        return False
    if (modules[0], stack[0].f_code.co_name) in BUSY_IN_C:
        return False
    return not any(is_users(frame) for frame in stack)


def _describe(
    thread: threading.Thread, stack: list[FrameType], place: Place | None
) -> Callable[[], Leak]:
    at = next((_place(frame, frame.f_lineno) for frame in stack if is_users(frame)), None)
    what = thread.name
    target = getattr(thread, "_target", None)
    if target is not None and target.__module__ not in POOLS:
        what += f" ({getattr(target, '__qualname__', target)})"
    if at is not None:
        what += f", which is at {at}"
    return lambda: Leak("thread", what, described(place))
