"""Child processes that run, or that have ended and that nobody has waited for.

What Python starts is heard of when it is started. What else there is at the end, of a library in C,
is seen because it is a child of this process that has started after the test. To ask whether there
is any child costs a microsecond. To list them may cost half a millisecond (:mod:`.children`); where
it does, nobody looks as long as a child that is known of can be what there is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Collection, Hashable
from typing import Any, ClassVar

from ..backends import current_library
from ..diagnostics.stacks import Place
from ..hooks import Hook, Hooks
from .children import (
    CAN_LIST,
    FILE_OF_CHILDREN,
    children,
    command_of,
    has_children,
    helpers,
    kill,
    started,
    ticks,
    with_descendants,
)
from .contract import Kind, Leak, Owner, Suspects, owner
from .descriptors import transports_and_servers
from .places import NOBODYS, described, here, on_behalf_of


def _popen(
    original: Callable[..., Any], hook: Hook[Callable[[int, Any, Place | None], None]]
) -> Callable[..., Any]:
    def __init__(popen: Any, *args: Any, **options: Any) -> None:  # noqa: N807 (it is one)
        original(popen, *args, **options)
        if hook.listeners:
            place = here()
            for listener in hook.listeners:
                listener(popen.pid, popen.args, place)

    return __init__


def _posix_spawn(
    original: Callable[..., Any], hook: Hook[Callable[[int, Any, Place | None], None]]
) -> Callable[..., Any]:
    def posix_spawn(path: Any, argv: Any, *args: Any, **options: Any) -> int:
        argv = list(argv)
        pid: int = original(path, argv, *args, **options)
        place = here()
        for listener in hook.listeners:
            listener(pid, argv, place)
        return pid

    return posix_spawn


_made_by_python: Hooks[Callable[[int, Any, Place | None], None]] = Hooks(
    Hook(subprocess.Popen, "__init__", _popen),
    *(
        Hook(os, name, _posix_spawn)
        for name in ("posix_spawn", "posix_spawnp")
        if hasattr(os, name)
    ),
)


class _Forks(threading.local):
    """Tells whoever listens of what this process forks.

    Not by a replacement of ``os.fork``: Python warns of it at the line that calls it.
    """

    listeners: ClassVar[list[Processes]] = []
    _registered: ClassVar[bool] = False
    before: frozenset[int] = frozenset()

    def listen(self, listener: Processes) -> None:
        if not self._registered and hasattr(os, "register_at_fork"):
            # For good: there is no way to take it back.
            type(self)._registered = True
            os.register_at_fork(before=self._before, after_in_parent=self._after)
        self.listeners.append(listener)

    def leave(self, listener: Processes) -> None:
        if listener in self.listeners:
            self.listeners.remove(listener)

    def _before(self) -> None:
        if self.listeners:
            self.before = children()

    def _after(self) -> None:
        if self.listeners:
            place, whose = here(), owner.get()
            for pid in children() - self.before:
                for listener in self.listeners:
                    listener.on_fork(pid, place, whose)


_forks = _Forks()

#: Children that were there before the test that was the last to look; most are still.
_old: set[int] = set()


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
    """Processes started by Python, by the event loop, or by a library."""

    names: ClassVar[tuple[str, ...]] = ("process",)

    def __init__(self, test: Owner) -> None:
        super().__init__(test)
        #: by process id: what it runs, and which line started it
        self._made: dict[int, tuple[str, Place | None]] = {}
        #: process ids of what others have made meanwhile
        self._of_others: set[int] = set()
        self._began = 0
        self._before: set[Any] = set()
        self._during: set[Any] = set()
        self._multi: weakref.WeakKeyDictionary[Any, tuple[Place | None, Owner | None]] = (
            weakref.WeakKeyDictionary()
        )
        self._listener = self._on_popen

    def start(self) -> None:
        self._began = ticks() if CAN_LIST else 0
        self._before = _multiprocesses()
        _made_by_python.listen(self._listener)
        _forks.listen(self)
        multiprocessing = _multiprocessing()
        if multiprocessing is not None:
            multiprocessing.listen(self)

    def entered_new_loop(self) -> None:
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
        self._of_others |= children() - set(self._made)

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
        else:
            self._of_others.add(pid)
            self._made.pop(pid, None)  # of a fork of which was heard first

    def on_fork(self, pid: int, place: Place | None, whose: Owner | None) -> None:
        """Process ``pid`` was forked; more may be heard of it."""
        self.made_process(pid, "", place, whose)

    def look(self) -> Suspects:
        suspects: Suspects = {}
        for pid in helpers():
            self._made.pop(pid, None)
        for pid, (name, place) in list(self._made.items()):
            state = _state(pid)
            if state is not None:
                name = name or command_of(pid)
                suspects["process", pid] = _describe(f"{pid} ({name})", state, place)
        for pid in self._of_libraries():
            suspects["process", pid] = _describe(
                f"{pid} ({command_of(pid)})", _state(pid) or "is running", None
            )
        for process in _multiprocesses() - self._before:
            place, whose = self._multi.get(process, (None, None))
            state = _state(process.pid)
            if state is not None and self.mine(whose):
                name = f"{process.pid} ({process.name})"
                suspects["process", process.pid] = _describe(name, state, place)
        return suspects

    def _of_libraries(self) -> list[int]:
        """Children of which nothing was heard."""
        if not CAN_LIST or not has_children():
            return []
        known = {*self._made, *self._of_others, *_old, *helpers()}
        known.update(process.pid for process in _multiprocesses())
        if not FILE_OF_CHILDREN and any(_state(pid) is not None for pid in known if pid):
            return []
        there = children()
        # Ticks are long: what has started in the one in which the test did may be older.
        found = [pid for pid in there - known if started(pid) > self._began]
        _old.intersection_update(there)
        _old.update(there.difference(found, self._made))
        return found

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
        _made_by_python.leave(self._listener)
        _forks.leave(self)
        _old.update(pid for pid in self._of_others if _state(pid) is not None)
        for hook in (_opened_by_trio, _made_by_multiprocessing):
            if hook is not None:
                hook.leave(self)
        del self._listener  # which refers to this: nothing is to wait for the garbage collector


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
