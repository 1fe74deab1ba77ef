"""Subprocesses that have not ended.

A process that was asked to end holds the time no longer than it would in real life: the timer that
is to kill it waits in real time.
"""

from __future__ import annotations

import _thread
import asyncio.subprocess
import functools
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..adapters.at_rest import at_rest
from ..adapters.watchdog import SCRIPT
from ..hooks import Hook
from .contract import Hold, Timeline

#: Signals by which a process is asked to end, and which it may ignore or take its time for. They
#: and the one that it cannot ignore are not all there on every platform.
ASKS_TO_END = frozenset(
    getattr(signal, name, None) for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM")
)
ENDS: int | None = getattr(signal, "SIGKILL", None)


class Processes:
    """Holds the time for every ``subprocess.Popen``, which is also what asyncio and trio use.

    trio makes it in a worker thread. The loop of uvloop starts its processes by itself, and holds
    the time for them by itself.
    """

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline

    def begin(self) -> None:
        for hook in _hooks:
            hook.listen(self)

    def end(self) -> None:
        for hook in _hooks:
            hook.leave(self)

    def started(self, process: subprocess.Popen[Any], args: Any) -> None:
        if not hasattr(os, "waitid"):
            return
        timeline, pid = self.timeline, process.pid
        hold = Hold(timeline, f"process {pid}: {in_words(args)}", pid).__enter__()
        hold.suspended = lambda: pid in at_rest

        def wait() -> None:
            # Without reaping it, which is for whoever started it. Nothing else tells of the end of
            # a process that nobody waits for.
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            timeline.soon(hold.release)

        # Not a `threading.Thread`: it is not the test's, and ends with the process.
        _thread.start_new_thread(wait, ())

    def signalled(self, pid: int, number: int, group: bool) -> None:
        """A signal was sent, to the process ``pid`` or to all of that group; in any thread."""
        if number not in ASKS_TO_END and number != ENDS:
            return
        for hold in list(self.timeline.holds):
            if hold.pid is not None and pid == (_group_of(hold.pid) if group else hold.pid):
                hold.unsure_since = None if number == ENDS else time.perf_counter()
        if not self.timeline.is_here():
            self.timeline.soon(self.timeline.resume)


def _init(original: Callable[..., Any], hook: Hook[Processes]) -> Callable[..., Any]:
    def __init__(popen: Any, args: Any, *more: Any, **options: Any) -> None:  # noqa: N807
        original(popen, args, *more, **options)
        if not (is_worker(args) or SCRIPT in args):
            for listener in hook.listeners:
                listener.started(popen, args)

    return __init__


def _kill(original: Callable[..., Any], hook: Hook[Processes]) -> Callable[..., Any]:
    def kill(pid: int, number: int, /) -> None:
        original(pid, number)
        for listener in hook.listeners:
            listener.signalled(abs(pid), number, group=pid < 0)

    return functools.wraps(original)(kill)


def _killpg(original: Callable[..., Any], hook: Hook[Processes]) -> Callable[..., Any]:
    def killpg(pid: int, number: int, /) -> None:
        original(pid, number)
        for listener in hook.listeners:
            listener.signalled(pid, number, group=True)

    return functools.wraps(original)(killpg)


def _send(
    number: int | None = None,
) -> Callable[[Callable[..., Any], Hook[Processes]], Callable[..., Any]]:
    """For a method that sends the signal ``number``, or else the one that it is given."""

    def wrap(original: Callable[..., Any], hook: Hook[Processes]) -> Callable[..., Any]:
        def send_signal(process: Any, signal: int) -> None:
            original(process, signal)
            for listener in hook.listeners:
                listener.signalled(process.pid, signal, group=False)

        def send(process: Any) -> None:
            original(process)
            for listener in hook.listeners:
                listener.signalled(process.pid, number or 0, group=False)

        replacement: Callable[..., None] = send_signal if number is None else send
        return functools.wraps(original)(replacement)

    return wrap


_hooks: tuple[Hook[Processes], ...] = (Hook(subprocess.Popen, "__init__", _init),)
if os.name == "posix":
    # What all of Python's ways to send a signal end in. uvloop has one of its own, in C.
    _hooks += (
        Hook(os, "kill", _kill),
        Hook(os, "killpg", _killpg),
        Hook(asyncio.subprocess.Process, "send_signal", _send()),
        Hook(asyncio.subprocess.Process, "terminate", _send(signal.SIGTERM)),
        Hook(asyncio.subprocess.Process, "kill", _send(signal.SIGKILL)),
    )


def _group_of(pid: int) -> int | None:
    with suppress(ProcessLookupError):
        return os.getpgid(pid)
    return None


def is_worker(args: Any) -> bool:
    """Whether it is one of AnyIO's pool, which outlive what they work at."""
    return not isinstance(args, (str, bytes)) and "anyio.to_process" in tuple(map(str, args))


def in_words(args: Any) -> str:
    if isinstance(args, (str, bytes, os.PathLike)):
        return os.fsdecode(args)
    return " ".join(os.fsdecode(arg) for arg in args)
