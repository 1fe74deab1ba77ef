"""A process that cleans up if this one is killed: nothing else runs then.

It is started with the first server in a process, one for each process that has any, and it is told
through a pipe which process groups and which private directories there are. When the pipe is
closed, which the kernel does however this process ends, it kills the ones, removes the others, and
ends.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable

from ..transports import temporary

#: What it runs. Records end with a NUL byte, which is in no path: ``+g1234``, ``-d/tmp/private``.
#: A process that has left its group is found by its session, where there is /proc.
SCRIPT = r"""
import os, signal
for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
known = {b"g": set(), b"d": set()}
begun = b""
while True:
    part = os.read(0, 65536)
    if not part:
        break
    *records, begun = (begun + part).split(b"\0")
    for record in records:
        those = known[record[1:2]]
        (those.add if record[:1] == b"+" else those.discard)(record[2:])
def kill(function, number):
    try:
        function(number, signal.SIGKILL)
    except OSError:
        pass
groups = set(map(int, known[b"g"]))
for group in groups:
    kill(os.killpg, group)
if groups and os.path.exists("/proc/self/stat"):
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/" + name + "/stat", "rb") as file:
                    session = int(file.read().rpartition(b")")[2].split()[3])
            except (OSError, IndexError):
                continue
            if session in groups:
                kill(os.kill, int(name))
if known[b"d"]:
    import shutil
    for directory in known[b"d"]:
        shutil.rmtree(directory, ignore_errors=True)
"""

#: The process, once there is one; ``pid`` and ``descriptor`` are for who looks for leaks.
_process: subprocess.Popen[bytes] | None = None
pid: int | None = None
descriptor: int | None = None

_groups: set[int] = set()


def start() -> None:
    """Have one. Does nothing if there is one, and where Python cannot be started again."""
    if _process is None and sys.executable:
        _start()
        _tell([*map(_of_group, _groups), *map(_of_directory, temporary.made())])


def guard_group(group: int) -> None:
    """Kill the processes of ``group``, and its session, if this process is killed."""
    _groups.add(group)
    _tell([_of_group(group)])


def release_group(group: int) -> None:
    """Forget ``group``. To be called before the number can be given to another one."""
    _groups.discard(group)
    _tell([_of_group(group)], b"-")


def _of_group(group: int) -> bytes:
    return b"g%d" % group


def _of_directory(directory: str) -> bytes:
    return b"d" + os.fsencode(directory)


def _tell(what: Iterable[bytes], sign: bytes = b"+") -> None:
    if descriptor is None:
        return
    try:
        for each in what:
            os.write(descriptor, sign + each + b"\0")
    except OSError:
        # It was killed, or stopped until the pipe was full: the next server gets another one.
        _stop(kill=True)


def _start() -> None:
    global _process, pid, descriptor
    reading, writing = os.pipe()
    try:
        _process = subprocess.Popen(
            [sys.executable, "-S", "-I", "-c", SCRIPT],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    os.set_blocking(writing, False)
    pid, descriptor = _process.pid, writing
    temporary.listeners.append(_on_made)
    temporary.removal_listeners.append(_on_removed)


def _stop(*, kill: bool = False) -> None:
    global _process, pid, descriptor
    process, writing = _process, descriptor
    _process = pid = descriptor = None
    if process is None or writing is None:
        return
    temporary.listeners.remove(_on_made)
    temporary.removal_listeners.remove(_on_removed)
    if kill:  # before it can see the end of the pipe, and kill what it guards
        process.kill()
    os.close(writing)
    process.wait()


def _on_made(directory: str) -> None:
    _tell([_of_directory(directory)])


def _on_removed(directory: str) -> None:
    _tell([_of_directory(directory)], b"-")


def _after_fork() -> None:
    """In a fork of this process: the watchdog is the parent's, and must not outlive that for us."""
    global _process, pid, descriptor
    if _process is None:
        return
    _process.returncode = 0  # or it would be said to run still, when it is collected
    writing, _process, pid, descriptor = descriptor, None, None, None
    _groups.clear()
    temporary.listeners.remove(_on_made)
    temporary.removal_listeners.remove(_on_removed)
    if writing is not None:
        with contextlib.suppress(OSError):
            os.close(writing)


atexit.register(_stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
