"""Child processes that run, or that have ended and that nobody has waited for."""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Collection, Hashable
from typing import Any, ClassVar

from ..backends import current_library
from ..diagnostics.stacks import Place
from ..hooks import Hook
from .children import kill, with_descendants
from .contract import Kind, Leak, Owner, Suspects, owner
from .descriptors import transports_and_servers
from .places import NOBODYS, described, here, on_behalf_of


def _popen(
    original: Callable[..., Any], hook: Hook[Callable[[int, Any, Place | None], None]]
) -> Callable[..., Any]:
    def __init__(popen: Any, *args: Any, **options: Any) -> None:  # noqa: N807 (it is one)
        original(popen, *args, **options)
        place = here()
        for listener in hook.listeners:
            listener(popen.pid, popen.args, place)

    return __init__


_made_by_popen: Hook[Callable[[int, Any, Place | None], None]] = Hook(
    subprocess.Popen, "__init__", _popen
)


def _open_process(original: Callable[..., Any], hook: Hook[Any]) -> Callable[..., Any]:
    async def open_process(*args: Any, **options: Any) -> Any:
        # trio calls Popen in a worker thread, which has no frame of the user's.
        before = on_behalf_of.get()
        on_behalf_of.set(here())
        try:
            return await original(*args, **options)
        finally:
            on_behalf_of.set(before)

    return open_process


_opened_by_trio: Hook[Any] | None = None


def _multi_start(original: Callable[..., Any], hook: Hook[Any]) -> Callable[..., Any]:
    def start(process: Any) -> None:
        place = here()
        for listener in hook.listeners:
            listener.on_multiprocess(process, place)
        original(process)

    return start


_made_by_multiprocessing: Hook[Any] | None = None


def _multiprocessing() -> Hook[Any] | None:
    """The hook of ``multiprocessing``, if anybody has imported that."""
    global _made_by_multiprocessing
    module = sys.modules.get("multiprocessing.process")
    if _made_by_multiprocessing is None and module is not None:
        _made_by_multiprocessing = Hook(module.BaseProcess, "start", _multi_start)
    return _made_by_multiprocessing


class Processes(Kind):
    """Processes started by ``subprocess``, by the event loop, or by ``multiprocessing``."""

    names: ClassVar[tuple[str, ...]] = ("process",)

    def __init__(self, test: Owner) -> None:
        super().__init__(test)
        #: by process id: what it runs, and which line started it
        self._made: dict[int, tuple[str, Place | None]] = {}
        self._before: set[Any] = set()
        self._during: set[Any] = set()
        self._multi: weakref.WeakKeyDictionary[Any, tuple[Place | None, Owner | None]] = (
            weakref.WeakKeyDictionary()
        )
        self._listener = self._on_popen

    def start(self) -> None:
        self._before = _multiprocesses()
        _made_by_popen.listen(self._listener)
        multiprocessing = _multiprocessing()
        if multiprocessing is not None:
            multiprocessing.listen(self)

    def entered_loop(self) -> None:
        global _opened_by_trio
        if current_library() == "trio":
            if _opened_by_trio is None:
                import trio

                _opened_by_trio = Hook(trio.lowlevel, "open_process", _open_process)
            _opened_by_trio.listen(self)

    def exempt_begin(self) -> None:
        self._during = _multiprocesses()

    def exempt_end(self) -> None:
        self._before |= _multiprocesses() - self._during

    def _on_popen(self, pid: int, args: Any, place: Place | None) -> None:
        whole = [args] if isinstance(args, (str, bytes, os.PathLike)) else args
        name = " ".join(os.fsdecode(part) for part in whole)
        self.made_process(pid, name, place, owner.get())

    def on_multiprocess(self, process: Any, place: Place | None) -> None:
        """A process of ``multiprocessing`` is being started."""
        self._multi[process] = place, owner.get()

    def made_process(self, pid: int, name: str, place: Place | None, whose: Owner | None) -> None:
        """Process ``pid`` was started."""
        if self.mine(whose) and place is not NOBODYS:
            self._made[pid] = name, place

    def look(self) -> Suspects:
        suspects: Suspects = {}
        for pid, (name, place) in list(self._made.items()):
            state = _state(pid)
            if state is not None:
                suspects["process", pid] = _describe(f"{pid} ({name})", state, place)
        for process in _multiprocesses() - self._before:
            place, whose = self._multi.get(process, (None, None))
            state = _state(process.pid)
            if state is not None and self.mine(whose):
                name = f"{process.pid} ({process.name})"
                suspects["process", process.pid] = _describe(name, state, place)
        return suspects

    def put_away(self, keys: Collection[Hashable]) -> None:
        """Kill them, with what they have started; the event loop gets to know as of any end."""
        found = {key[1] for key in keys if isinstance(key, tuple) and key[0] == "process"}
        if not found:
            return
        kill(with_descendants(found - {None}))
        for each in transports_and_servers():
            if hasattr(each, "get_pid") and each.get_pid() in found:
                each.close()

    def look_outside(self) -> Suspects:
        return self.look()

    def stop(self) -> None:
        _made_by_popen.leave(self._listener)
        for hook in (_opened_by_trio, _made_by_multiprocessing):
            if hook is not None:
                hook.leave(self)


def _multiprocesses() -> set[Any]:
    process: Any = sys.modules.get("multiprocessing.process")
    # Not active_children(), which waits for those that have ended: that is the test's to do.
    return set(process._children) if process is not None else set()


def _state(pid: int) -> str | None:
    """What a child process does; ``None`` if it has ended and was waited for."""
    waitid: Any = getattr(os, "waitid", None)
    if waitid is None:  # Windows, and macOS before Python 3.13
        return "is running" if _exists(pid) else None
    try:
        ended = waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return "is running" if ended is None else "has ended, but nobody has waited for it"


def _exists(pid: int) -> bool:
    if sys.platform == "win32":
        return False  # os.kill would end it
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _describe(name: str, state: str, place: Place | None) -> Callable[[], Leak]:
    return lambda: Leak("process", f"{name} {state}", described(place))
