"""A child process with a session of its own, which ends with all that it has started."""

from __future__ import annotations

import _thread
import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anyio import CapacityLimiter, to_thread, wait_readable

from ..leaks.children import kill, kin_of
from . import watchdog
from .at_rest import at_rest
from .output import Output

#: Bytes that are read at once.
CHUNK = 65536

#: How often to read what is left after the end: more than a pipe has is somebody else's, who goes
#: on to write.
LAST_READS = 32

#: Signals by which a process is asked to end.
ENDING = frozenset(
    getattr(signal, name, None) for name in ("SIGINT", "SIGKILL", "SIGQUIT", "SIGTERM")
)


class Child:
    """A process that runs, or has ended and was not waited for yet.

    It is made of :class:`subprocess.Popen`, and not of AnyIO's processes, because nobody else may
    wait for it: only as long as it has not been waited for, its number is still that of its group.

    :param output: what it writes
    :raises OSError: if it cannot be started
    """

    def __init__(
        self,
        command: Sequence[str | bytes],
        *,
        env: Mapping[str, str],
        cwd: str | bytes | None,
        pass_fds: Sequence[int],
        output: Output,
    ) -> None:
        watchdog.start()
        self._output = output
        self._reading, writing = os.pipe()
        try:
            self._popen: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                pass_fds=pass_fds,
                start_new_session=True,
            )
        except BaseException:
            os.close(self._reading)
            raise
        finally:
            os.close(writing)
        self.pid: int = self._popen.pid
        watchdog.guard_group(self.pid)
        os.set_blocking(self._reading, False)
        output.open()
        self._killed = False
        self._ends_of_kin: list[int] = []
        self._exit: Exit | None = None
        try:
            self._exit = Exit(self.pid)
        except BaseException:
            self.put_away()
            raise

    @property
    def returncode(self) -> int | None:
        """Its exit code, or the negative number of a signal; ``None`` until :meth:`reap`."""
        return self._popen.returncode

    def has_ended(self) -> bool:
        """Whether it has ended, waited for or not."""
        if self._popen.returncode is not None:
            return True
        assert self._exit is not None
        return self._exit.is_over()

    async def ends_within(self, seconds: float) -> bool:
        """Whether it ends in so many seconds of real time, or has ended."""
        if self.has_ended():
            return True
        assert self._exit is not None
        # A thread, since the time of the event loop may be virtual; whose descriptor stays open.
        descriptor = os.dup(self._exit.fileno())
        try:
            limiter = CapacityLimiter(1)  # the test may have taken all others
            return await to_thread.run_sync(is_readable, descriptor, seconds, limiter=limiter)
        finally:
            os.close(descriptor)

    async def until_ended(self) -> None:
        """Wait for the end of the process, and not of what it has started."""
        assert self._exit is not None
        await wait_readable(self._exit.fileno())

    async def copy_output(self) -> None:
        """Read what it writes, until everybody who could write has ended."""
        while True:
            await wait_readable(self._reading)
            if not self._read():
                return

    def _read(self) -> bool:
        try:
            data = os.read(self._reading, CHUNK)
        except BlockingIOError:
            return True
        self._output.write(data)
        return bool(data)

    def send_signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def signal_all(self, number: int) -> None:
        """Send a signal to the process and its group."""
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: only zombies
                os.killpg(self.pid, number)

    async def until_stopped(self) -> None:
        """Wait until it has stopped after SIGSTOP, or has ended. Where nobody tells, not at all."""
        waitid: Any = getattr(os, "waitid", None)
        if waitid is None:  # macOS before Python 3.13
            return
        options = os.WSTOPPED | os.WEXITED | os.WNOWAIT
        if waitid(os.P_PID, self.pid, options | os.WNOHANG) is None:
            await to_thread.run_sync(waitid, os.P_PID, self.pid, options)

    def kill(self) -> None:
        """Kill the process and all that it has started, as far as that can be found."""
        at_rest.discard(self.pid)
        if self._killed:
            return
        self._killed = True
        known = kin_of(self.pid)  # before: who loses his parent is known by his session only
        self._hear_of(known)
        self.signal_all(signal.SIGKILL)
        kill(known)
        while found := kin_of(self.pid) - known:  # forked meanwhile
            self._hear_of(found)
            kill(found)
            known |= found

    def _hear_of(self, kin: Iterable[int]) -> None:
        """Keep a descriptor that tells the end of each, on Linux."""
        pidfd_open: Any = getattr(os, "pidfd_open", None)
        if pidfd_open is not None:
            for pid in kin:
                with contextlib.suppress(OSError):  # it has ended, or cannot be told
                    self._ends_of_kin.append(pidfd_open(pid))

    async def until_kin_ended(self) -> None:
        """After :meth:`kill`: wait until nobody of them has its sockets and files any more."""
        for descriptor in self._ends_of_kin:
            await wait_readable(descriptor)

    def reap(self) -> None:
        """Kill it, and wait for the end. After :meth:`until_ended`, this takes no time."""
        if self._popen.returncode is None:
            self.kill()
            watchdog.release_group(self.pid)
            self._popen.wait()

    def put_away(self) -> None:
        """The same, and close all that belongs to it. Nobody may be waiting for it any more."""
        self.reap()
        if self._exit is not None:
            self._exit.close()
        while self._ends_of_kin:
            os.close(self._ends_of_kin.pop())
        for _ in range(LAST_READS):
            data = b""
            with contextlib.suppress(BlockingIOError):
                data = os.read(self._reading, CHUNK)
            if not data:
                break
            self._output.write(data)
        os.close(self._reading)
        self._output.close()


def is_readable(descriptor: int, seconds: float) -> bool:
    """Whether a descriptor becomes readable in so many seconds."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


class Exit:
    """A descriptor that becomes readable when a child process ends, which it does not wait for."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._queue: Any = None
        self._descriptor = -1
        pidfd_open: Any = getattr(os, "pidfd_open", None)
        if pidfd_open is not None:
            with contextlib.suppress(OSError):  # not in every sandbox
                self._descriptor = pidfd_open(pid)
        if self._descriptor < 0:
            self._listen() if hasattr(select, "kqueue") else self._wait_in_thread()

    def fileno(self) -> int:
        return self._descriptor

    def is_over(self) -> bool:
        return is_readable(self._descriptor, 0)

    def _listen(self) -> None:
        """macOS and the BSDs: a queue with one event in it."""
        kernel: Any = select
        self._queue = kernel.kqueue()
        self._descriptor = self._queue.fileno()
        event = kernel.kevent(
            self._pid, kernel.KQ_FILTER_PROC, kernel.KQ_EV_ADD, kernel.KQ_NOTE_EXIT
        )
        try:
            self._queue.control([event], 0)
        except ProcessLookupError:  # it has ended already
            self._queue.close()
            self._queue = None
            self._descriptor, writing = os.pipe()
            os.close(writing)

    def _wait_in_thread(self) -> None:
        self._descriptor, writing = os.pipe()

        def wait() -> None:
            try:
                os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
            except ChildProcessError:  # somebody else has waited for it
                pass
            finally:
                os.close(writing)

        # Not a `threading.Thread`: it is not the test's, and ends with the process.
        _thread.start_new_thread(wait, ())

    def close(self) -> None:
        if self._queue is not None:
            self._queue.close()
        else:
            os.close(self._descriptor)
