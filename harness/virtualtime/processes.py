"""Subprocesses that have not ended."""

from __future__ import annotations

import _thread
import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..hooks import Hook
from .contract import Hold, Timeline


class Processes:
    """Holds the time for every ``subprocess.Popen``, which is also what asyncio and trio use.

    trio makes it in a worker thread. The loop of uvloop starts its processes by itself, and holds
    the time for them by itself.
    """

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline

    def begin(self) -> None:
        _popen.listen(self)

    def end(self) -> None:
        _popen.leave(self)

    def started(self, process: subprocess.Popen[Any], args: Any) -> None:
        if not hasattr(os, "waitid"):
            return
        hold = Hold(self.timeline, f"process {process.pid}: {in_words(args)}").__enter__()
        timeline, pid = self.timeline, process.pid

        def wait() -> None:
            # Without reaping it, which is for whoever started it. Nothing else tells of the end of
            # a process that nobody waits for.
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            timeline.soon(hold.release)

        # Not a `threading.Thread`: it is not the test's, and ends with the process.
        _thread.start_new_thread(wait, ())


def _init(original: Callable[..., Any], hook: Hook[Processes]) -> Callable[..., Any]:
    def __init__(popen: Any, args: Any, *more: Any, **options: Any) -> None:  # noqa: N807
        original(popen, args, *more, **options)
        if not is_worker(args):
            for listener in hook.listeners:
                listener.started(popen, args)

    return __init__


_popen: Hook[Processes] = Hook(subprocess.Popen, "__init__", _init)


def is_worker(args: Any) -> bool:
    """Whether it is one of AnyIO's pool, which outlive what they work at."""
    return not isinstance(args, (str, bytes)) and "anyio.to_process" in tuple(map(str, args))


def in_words(args: Any) -> str:
    if isinstance(args, (str, bytes, os.PathLike)):
        return os.fsdecode(args)
    return " ".join(os.fsdecode(arg) for arg in args)
