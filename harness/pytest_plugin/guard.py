"""What ends a test from outside of its event loop: time-outs and Ctrl-C.

A thread, the watchdog, knows when each phase of a test has to be over. It first asks the event
loop to end what is running, in the way of a crash (:mod:`harness.watch`): finally clauses run,
fixtures are torn down, the test fails with the report. A loop that does not answer is blocked by
code that does not await; then a signal makes the main thread raise where it stands. What does not
end then cannot be ended: the report is printed, and the process stops.

Ctrl-C goes the same way. Python's own handler raises ``KeyboardInterrupt`` wherever the main thread
is, and if that is in the middle of asyncio, a callback that was already taken from the queue is
lost, and what waits for it waits for ever (asyncio/base_events.py, ``_run_once``). Python's own
``asyncio.Runner`` and trio install handlers for the same reason.
"""

from __future__ import annotations

import _thread
import ctypes
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from time import monotonic
from types import FrameType
from typing import Any, NoReturn

import pytest

from .. import leaks
from ..supervisor import LAST_WAIT, break_shields_below
from ..watch import Crash, Watch, listening_watch
from .lease import WayIn
from .report import describe

#: Seconds within which an event loop that is not blocked answers, on a machine that is busy.
ANSWER = 2.0

#: ``signal``'s own, below its enums: an exception, for each handler that is a function.
_signal: Any = sys.modules.get("_signal", signal)
_getsignal: Callable[[int], Any] = _signal.getsignal
_setsignal: Callable[[int, Any], Any] = _signal.signal

#: How often code that does not await is interrupted before it is given up.
ATTEMPTS = 3


class Phase:
    """A part of a test that has to be over in time: its setup, its call or its teardown."""

    def __init__(self, what: str, timeout: float, cancel_timeout: float, began_at: float) -> None:
        self.what = what
        self.timeout = timeout
        self.cancel_timeout = cancel_timeout
        self.deadline: float = began_at + timeout if timeout else float("inf")
        self.over = False
        #: somebody is debugging it
        self.suspended = False
        #: Ctrl-C was pressed in this phase
        self.interrupted = False
        #: what could not be brought to any step, to be raised at the end of the phase
        self.undelivered: BaseException | None = None
        #: what was raised in the middle of its code, which may have caught it
        self.thrown: BaseException | None = None
        #: what says that it did not end in time
        self.time_outs: list[Any] = []


class Guard:
    """The watchdog and the signal handler of one pytest session.

    :param end_the_run: prints a report about the test that is running and ends the process
    """

    def __init__(self, end_the_run: Callable[[str], NoReturn]) -> None:
        self._end_the_run = end_the_run
        self._way_in: WayIn | None = None
        self._phase: Phase | None = None
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._asleep_until = 0.0
        self._thread: threading.Thread | None = None
        self._guarded = 0
        #: whether a phase has not ended in time
        self.timed_out: bool = False
        self._raise_in_handler: BaseException | None = None
        #: the signal came where what is raised would be lost
        self._missed = False
        #: the watchdog is ending something, and has to be told of every change
        self._attentive = False

    @contextmanager
    def phase(
        self, what: str, *, timeout: float, cancel_timeout: float, began_at: float
    ) -> Iterator[None]:
        """Bound what happens in here, and take Ctrl-C.

        :param began_at: when it began, by :func:`time.monotonic`
        """
        __tracebackhide__ = True
        phase = Phase(what, timeout, cancel_timeout, began_at)
        before = self._install()
        self._guarded = threading.get_ident()
        self._phase = phase
        if phase.deadline < self._asleep_until or self._thread is None:
            self._wake_up()
        passed = False
        try:
            yield
            passed = True
        finally:
            phase.over = True
            self._phase = None
            self._changed()
            self._uninstall(before)
            if passed and phase.thrown is not None:
                phase.undelivered = phase.thrown
            self._raise_undelivered(phase)

    def between_steps(self) -> None:
        """Raise what could not be brought to any step of the phase that is running."""
        __tracebackhide__ = True
        if self._phase is not None:
            self._raise_undelivered(self._phase)

    def time_out_in(self, error: BaseException) -> Any:
        """``error``, if it says that the phase that is running did not end in time."""
        found = [] if self._phase is None else self._phase.time_outs
        return next((each for each in found if each is error), None)

    def between_examples(self) -> None:
        """Raise also what was raised in the middle of code that has caught it.

        Hypothesis catches a time-out that comes where it makes an example, and tries again.
        """
        __tracebackhide__ = True
        self.between_steps()
        if self._phase is not None and self._phase.thrown is not None:
            error, self._phase.thrown = self._phase.thrown, None
            raise error

    def _raise_undelivered(self, phase: Phase) -> None:
        __tracebackhide__ = True
        error, phase.undelivered = phase.undelivered, None
        if error is not None:
            self._changed()
            raise error

    def enter(self, way_in: WayIn | None) -> None:
        """Know the event loop of the test from here on; ``None`` once it has no more."""
        self._way_in = way_in
        self._changed()

    def suspend(self) -> None:
        """Let the phase that is running take as long as it likes: somebody is debugging it."""
        if self._phase is not None:
            self._phase.deadline = float("inf")
            self._phase.suspended = True

    def stop(self) -> None:
        """End the watchdog."""
        if self._thread is not None:
            self._stopping = True
            self._wake.put(None)
            self._thread.join()
            self._thread = None

    # Ctrl-C

    def _install(self) -> Any:
        if threading.current_thread() is not threading.main_thread():
            return None
        before = _getsignal(signal.SIGINT)
        # Another handler, of the test or of another plugin, is left alone. trio's would be taken
        # away by trio itself when its run ends; it is put back for that.
        if before is signal.default_int_handler or _is_trios(before):
            _setsignal(signal.SIGINT, self._on_sigint)
            return before
        return None

    def _uninstall(self, before: Any) -> None:
        if before is not None and _getsignal(signal.SIGINT) == self._on_sigint:
            _setsignal(signal.SIGINT, before)

    def _on_sigint(self, signum: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True  # pytest names the last line that is not hidden: where it was
        if self._raise_in_handler is not None:
            if _is_lost_in(frame):
                self._missed = True
                self._wake.put(None)
                return
            error, self._raise_in_handler = self._raise_in_handler, None
            raise error
        phase = self._phase
        if phase is None or phase.interrupted:
            raise KeyboardInterrupt
        phase.interrupted = True
        phase.undelivered = KeyboardInterrupt()
        self._wake.put(None)

    # The watchdog

    _stopping = False

    def _wake_up(self) -> None:
        if self._thread is None:
            self._stopping = False
            self._thread = threading.Thread(
                target=self._watch, name="harness watchdog", daemon=True
            )
            self._thread.start()
        else:
            self._wake.put(None)

    def _watch(self) -> None:
        while not self._stopping:
            phase = self._phase
            deadline = float("inf") if phase is None else phase.deadline
            self._asleep_until = deadline
            if phase is not self._phase:
                continue  # it changed before it could know when this thread would wake
            wait = None if deadline == float("inf") else max(0.0, deadline - monotonic())
            with suppress(queue.Empty):
                self._wake.get(timeout=wait)
            phase = self._phase
            if phase is None or phase.over:
                continue
            self._attentive = True
            if phase.interrupted and phase.undelivered is not None:
                self._end(phase, partial(_as_it_is, phase.undelivered), bounded=False)
            elif monotonic() >= phase.deadline:
                self.timed_out = True
                self._end(phase, partial(self._timed_out, phase))
                phase.deadline = monotonic() + phase.timeout  # what is torn down gets its own
            self._attentive = False

    def _changed(self) -> None:
        if self._attentive:
            self._wake.put(None)

    def _timed_out(self, phase: Phase, blocked: bool) -> BaseException:
        way_in = self._way_in
        held_by = [] if way_in is None else way_in.held_by()
        error = pytest.fail.Exception(
            f"{phase.what} did not end within {phase.timeout:g} s (harness_timeout)\n"
            + describe(None if way_in is None else way_in.view, blocked=blocked)
            + "".join(f"\nvirtual time is held by {each}" for each in held_by),
            pytrace=False,
        )
        phase.time_outs.append(error)
        return error

    def _end(
        self, phase: Phase, error: Callable[[bool], BaseException], *, bounded: bool = True
    ) -> None:
        """End what is running in ``phase``; ``error`` makes what it shall raise.

        :param bounded: whether there is a time by which it has to be over, whatever runs
        """
        insists = not phase.suspended  # a debugger takes Ctrl-C for itself
        told: list[tuple[Watch | None, BaseException]] = []

        def tell() -> None:
            if told or phase.over:
                return
            exception = error(False)
            watch = listening_watch()
            if watch is None:
                phase.undelivered = exception
            else:
                phase.undelivered = None
                watch.on_over = self._changed
                watch.notice(Crash(exception, ""))
            told.append((watch, exception))
            self._changed()

        def gone() -> bool:
            return phase.over or bool(told and told[0][0] is not None and told[0][0].over)

        asked: list[WayIn] = []

        def heard() -> bool:
            way_in = self._way_in
            if way_in is not None and way_in not in asked:
                asked.append(way_in)  # the loop may have been on its way only
                with suppress(RuntimeError):  # or is closed
                    way_in.call_soon(tell)
            raised = not bounded and phase.undelivered is None  # between two steps
            return bool(told) or phase.over or raised

        if self._until(heard, ANSWER) and not told:
            return
        if not told and not phase.over:
            exception = error(True)
            told.append((None, exception))
            phase.undelivered = None
            phase.thrown = exception
            self._raise_in_guarded_thread(exception, phase)
        if gone() or self._until(gone, phase.cancel_timeout):
            return
        watch, exception = told[0]
        if not insists:
            return
        way_in = self._way_in
        if watch is None or way_in is None:
            self._raise_in_guarded_thread(exception, phase)
        else:
            with suppress(RuntimeError):  # the loop is closed
                way_in.call_soon(partial(break_shields_below, watch.task_id))
        if self._until(gone, max(phase.cancel_timeout, LAST_WAIT)):
            return
        if bounded:
            report = str(exception)
        else:
            # Not raised in the middle of an event loop that turns: nothing could be torn down in
            # one that was left in that way, and what waits for it would wait for ever.
            report = f"{type(exception).__name__} in {phase.what}\n" + describe(
                None if way_in is None else way_in.view, blocked=watch is None
            )
        self._end_the_run(f"{report}\n\nIt did not end when it was cancelled, and cannot be ended.")

    def _raise_in_guarded_thread(self, error: BaseException, phase: Phase) -> None:
        """Make the code that blocks raise ``error``, more than once if need be."""
        answers: list[None] = []

        def answer() -> None:
            answers.append(None)
            self._changed()

        def heard() -> bool:
            return phase.over or bool(answers)

        for _ in range(ATTEMPTS):
            self._raise_in_handler = error
            end = monotonic() + ANSWER
            self._missed = True
            while self._missed and monotonic() < end:
                self._missed = False
                self._signal(error)
                if self._way_in is not None:
                    with suppress(RuntimeError):  # the loop is closed
                        self._way_in.call_soon(answer)
                if self._until(lambda: heard() or self._missed, ANSWER) and not self._missed:
                    return

    def _signal(self, error: BaseException) -> None:
        """Interrupt the thread that is guarded."""
        if _getsignal(signal.SIGINT) != self._on_sigint:
            # Only code in Python can be interrupted in this way, not a call that blocks.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._guarded), ctypes.py_object(type(error))
            )
        elif sys.platform == "win32":
            _thread.interrupt_main()
        else:
            signal.pthread_kill(self._guarded, signal.SIGINT)

    def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait, in the watchdog; whoever makes ``condition`` true calls :meth:`_changed`."""
        end = monotonic() + seconds
        while not condition():
            left = end - monotonic()
            if left <= 0:
                return False
            with suppress(queue.Empty):
                self._wake.get(timeout=left)
        return True


def _is_lost_in(frame: FrameType | None) -> bool:
    """Whether Python ignores what is raised here: in what it calls when it collects something.

    A loop that forgets an ``await`` spends most of its time there.
    """
    return frame is not None and str(frame.f_globals.get("__name__")).startswith(
        leaks.__name__ + "."
    )


def _as_it_is(error: BaseException, blocked: bool) -> BaseException:
    return error


def _is_trios(handler: Any) -> bool:
    return str(getattr(handler, "__module__", "")).startswith("trio.")
