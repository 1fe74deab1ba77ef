"""The child processes of this process, whoever has started them and however."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

#: What ends a process at once; Windows has one way to end one.
KILL: int = getattr(signal, "SIGKILL", signal.SIGTERM)


def has_children() -> bool:
    """Whether there is any child, running or not waited for. Costs about a microsecond.

    Where the system cannot tell (Windows, and macOS before Python 3.13), there is none.
    """
    waitid: Any = getattr(os, "waitid", None)
    if waitid is None:
        return False
    try:
        waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except OSError:
        return False
    return True


def children() -> frozenset[int]:
    """The process ids of the children of this process, those nobody has waited for included.

    Without ``/proc`` there are none to be found.
    """
    if not has_children():
        return frozenset()
    return frozenset(_of_each_thread() if FILE_OF_CHILDREN else _of_all_processes())


#: Whether children can be listed at all.
CAN_LIST = sys.platform == "linux" and os.path.exists("/proc/self/stat")

#: Whether the kernel lists the children of each thread (CONFIG_PROC_CHILDREN), which is quick.
#: Without that, every process of the machine is looked at: about half a millisecond for a hundred.
FILE_OF_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def _of_each_thread() -> Iterator[int]:
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            yield from map(int, _read(f"/proc/self/task/{thread}/children").split())


def _of_all_processes() -> Iterator[int]:
    here = os.getpid()
    return (pid for pid, parent, _ in _every_process() if parent == here)


def _every_process() -> Iterator[tuple[int, int, int]]:
    """Each process of the machine, its parent, and its session."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return
    for name in names:
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError):  # the process has ended meanwhile
                # "pid (name) state parent group session ...", and the name may have anything in it
                status = _read(f"/proc/{name}/stat").rpartition(b")")[2].split(None, 4)
                yield int(name), int(status[1]), int(status[3])


def ticks() -> int:
    """The time in which the system says when a process has started: hundredths of a second."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def started(pid: int) -> int:
    """When a process has started, in :func:`ticks`; 0 if it is gone."""
    with contextlib.suppress(OSError, IndexError):
        return int(_read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[19])
    return 0


def command_of(pid: int) -> str:
    """What a process runs, in words."""
    with contextlib.suppress(OSError):
        line = _read(f"/proc/{pid}/cmdline")
        if line and line == _read("/proc/self/cmdline"):
            return "a fork of this process"
        if line:
            return line.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    return "nothing is known of what it runs"


def with_descendants(processes: Iterable[int]) -> frozenset[int]:
    """``processes``, their children, and so on. Slow, as is every look at the whole machine."""
    of_parent: dict[int, list[int]] = {}
    for pid, parent, _ in _every_process():
        of_parent.setdefault(parent, []).append(pid)
    found = list(processes)
    for each in found:
        found.extend(of_parent.get(each, ()))
    return frozenset(found)


def kin_of(pid: int) -> frozenset[int]:
    """The processes of the session that ``pid`` leads, and what descends from it; without itself.

    A process that has lost its parent is still in its session, and one that has left that may still
    have its parent. None are found where there is no ``/proc``.
    """
    of_parent: dict[int, list[int]] = {}
    found = []
    for each, parent, session in _every_process():
        of_parent.setdefault(parent, []).append(each)
        if session == pid and each != pid:
            found.append(each)
    found += of_parent.get(pid, ())
    for each in found:
        found.extend(other for other in of_parent.get(each, ()) if other not in found)
    return frozenset(found)


def _read(path: str) -> bytes:
    fd = _open(path, os.O_RDONLY)
    try:
        found = b""
        while part := os.read(fd, 65536):
            found += part
        return found
    finally:
        os.close(fd)


#: As it is before anything is watched: a check for leaks replaces ``os.open``.
_open = os.open


def helpers() -> frozenset[int]:
    """Processes that are started once in a process, and that end by themselves with it.

    The watchdog of the harness, and those of multiprocessing
    (``multiprocessing/resource_tracker.py``, ``ResourceTracker._pid``, and
    ``multiprocessing/forkserver.py``, ``ForkServer._forkserver_pid``).
    """
    tracker: Any = sys.modules.get("multiprocessing.resource_tracker")
    server: Any = sys.modules.get("multiprocessing.forkserver")
    watchdog: Any = sys.modules.get("harness.adapters.watchdog")
    found = (
        getattr(watchdog, "pid", None),
        getattr(getattr(tracker, "_resource_tracker", None), "_pid", None),
        getattr(getattr(server, "_forkserver", None), "_forkserver_pid", None),
    )
    return frozenset(pid for pid in found if pid is not None)


def kill(processes: Iterable[int]) -> None:
    """End them at once; some may have ended before."""
    for pid in processes:
        with contextlib.suppress(OSError):
            os.kill(pid, KILL)
