"""AnyIO's test runner, kept for as long as a test goes on, and a way into its event loop.

AnyIO makes a runner for the first async fixture or test that needs one and closes it after the
last. The lease is one more holder: it is taken before the first async step of a test and given back
after the last fixture is torn down, so that something can still look into the loop then.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from anyio import pytest_plugin as anyio_plugin
from anyio.abc import TestRunner

from ..backends import call_soon_from_thread, current_library, current_loop, is_uvloops
from ..diagnostics import LoopView
from ..hooks import Hook
from ..leaks import skip_library_of
from ..settling import has_nothing_to_run
from ..watch import Crash, interrupt, is_final, take_pending

T = TypeVar("T")

#: Runs a function in an event loop soon; callable from any thread and from a signal handler.
CallSoon = Callable[[Callable[[], object]], object]


#: What a callback may raise when it is ended, and nothing has gone wrong.
NO_CRASHES = (asyncio.CancelledError, GeneratorExit)


#: Where a callback's exception comes from, in words.
LOOP = "the event loop"

#: The modules that run an event loop.
MACHINERY = frozenset({"asyncio", "selectors", "signal", "uvloop", "winloop"})

#: The module whose signal handler raises what is not to wait.
signal_handlers: str = f"{__package__}.guard"


@dataclass(eq=False)
class WayIn:
    """How an event loop is reached from outside of it.

    :ivar view: what runs in it
    :ivar held_by: what holds its virtual time, in words
    """

    call_soon: CallSoon
    view: LoopView
    held_by: Callable[[], list[str]] = list

    @classmethod
    def here(cls) -> WayIn:
        """Into the event loop that runs this code."""
        return cls(call_soon_from_thread(), LoopView.here())


class Lease:
    """A hold on AnyIO's runner.

    :param name: the AnyIO backend
    :param options: its options
    :param catch_loop_exceptions: whether what a callback of the event loop raises is a crash
    """

    def __init__(self, name: str, options: dict[str, Any], *, catch_loop_exceptions: bool) -> None:
        self._catch = catch_loop_exceptions
        self._stack = contextlib.ExitStack()
        self._runner: TestRunner = self._stack.enter_context(anyio_plugin.get_runner(name, options))
        get_loop = getattr(self._runner, "get_loop", None)  # AnyIO's runner for asyncio has one
        self._running: Hook[None] | None = None
        if get_loop is not None:
            skip_library_of(get_loop())  # before it runs, and makes what it runs on
            self._running = Hook(get_loop(), "run_until_complete", _run_on)
            self._running.listen(None)
            if is_uvloops(get_loop()):
                _close_then_warn(get_loop())
        #: asyncio's event loop, once it is known
        self.loop: asyncio.AbstractEventLoop | None = None
        self._way_in: WayIn | None = None
        self._key: object = None

    def entered_loop(self) -> WayIn:
        """Get to know the event loop; called in it, at the beginning of each step."""
        if self._way_in is None:
            self._way_in = WayIn.here()
            self._key = current_loop()
            if current_library() == "trio":
                _trios_callbacks().listen(self)
            else:
                self.loop = loop = asyncio.get_running_loop()
                self._before = loop.get_exception_handler()
                loop.set_exception_handler(self._on_exception)
        return self._way_in

    def run(self, func: Callable[[], Awaitable[T]]) -> T:
        """Run ``func`` in the event loop, as a fixture would be run."""

        async def call() -> T:
            return await func()

        return self._runner.run_fixture(call, {})

    def catching(self, token: object, function: Callable[..., object]) -> Callable[..., object]:
        """``function``, a callback of trio's, with what it raises caught in the lease's run."""
        return CaughtCallback(function, self._catch) if token is self._key else function

    def is_quiet(self) -> bool:
        """Whether the event loop, which stands still, has nothing to run; in doubt it has."""
        return self._key is not None and has_nothing_to_run(self.loop)

    def take_pending(self) -> list[Crash]:
        """The crashes of the event loop that no step was there to hear; they are the caller's."""
        return [] if self._key is None else take_pending(self._key)

    def give_back(self) -> None:
        """Let go of the runner, which closes its event loop if nobody else holds it."""
        if self._running is not None:
            self._running.leave(None)
        if self._key is not None and self.loop is None:
            _trios_callbacks().leave(self)
        loop = self.loop
        if loop is not None and loop.get_exception_handler() == self._on_exception:
            loop.set_exception_handler(self._before)
        try:
            self._stack.close()
        except BaseException:
            # AnyIO forgets its runner only if that closes well (anyio/pytest_plugin.py,
            # get_runner); the next test would be given one that is closed.
            if not anyio_plugin._runner_leases:
                anyio_plugin._runner_stack = anyio_plugin._current_runner = None
            raise
        if loop is not None and loop.is_closed():
            _let_go_of_error(self._runner)

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        # pytest's outcomes are no `Exception`, and asyncio hands them over all the same.
        if isinstance(error, BaseException) and not isinstance(error, NO_CRASHES) and self._catch:
            message = str(context.get("message", "a callback of the event loop"))
            interrupt(Crash(error, f"{LOOP}: {message}"))
        elif isinstance(error, Exception):
            loop.default_exception_handler(context)
        elif self._before is not None:
            self._before(loop, context)
        else:
            loop.default_exception_handler(context)


@dataclass(frozen=True)
class CaughtCallback:
    """A callback of trio's that raises nothing; equal to another one of the same function.

    trio has no handler for what a callback raises: it cancels the whole run, AnyIO's runner with it
    (trio/_core/_entry_queue.py, ``EntryQueue.task``), and a guest run then never answers again.

    :param catch: whether it is a crash, or a line in the log, where asyncio has it
    """

    function: Callable[..., object]
    catch: bool

    def __call__(self, *args: object) -> None:
        __tracebackhide__ = True
        try:
            self.function(*args)
        except BaseException as exc:
            what = f"Exception in callback {self.function!r}"
            if self.catch or is_final(exc):
                own = exc.__traceback__ and exc.__traceback__.tb_next
                interrupt(Crash(exc.with_traceback(own), f"{LOOP}: {what}"))
            else:
                logging.getLogger("trio").error(what, exc_info=exc)


@functools.cache
def _trios_callbacks() -> Hook[Lease]:
    """The one function that takes callbacks for trio's runs; its token has no attributes."""
    import trio

    def wrap(original: Callable[..., Any], hook: Hook[Lease]) -> Callable[..., Any]:
        @functools.wraps(original)
        def run_sync_soon(
            self: object, sync_fn: Callable[..., object], *args: Any, **options: Any
        ) -> None:
            for lease in hook.listeners:
                sync_fn = lease.catching(self, sync_fn)
            original(self, sync_fn, *args, **options)

        return run_sync_soon

    return Hook(trio.lowlevel.TrioToken, "run_sync_soon", wrap)


def _let_go_of_error(runner: Any) -> None:
    """Let a runner's loop go with it, and not with the next garbage collection.

    The last exception of AnyIO's task has a traceback whose frames refer to the runner, or to the
    task (anyio/_backends/_asyncio.py, ``TestRunner._run_tests_and_fixtures``; CPython,
    asyncio/runners.py, ``_cancel_all_tasks``). A hundred of uvloop's loops are 30 MB.
    """
    task: Any = getattr(runner, "_runner_task", None)
    runner._runner_task = None
    if task is not None and task.cancelled():
        task._make_cancelled_error()  # the task lets go of what it gives away


def _close_then_warn(loop: asyncio.AbstractEventLoop) -> None:
    """Let uvloop's loop close first, and tell of what nobody closed in it then.

    A ``ResourceWarning`` that is an error ends its walk over what is open, and it waits without end
    for what it has not come to (uvloop/handles/handle.pyx, ``__uv_walk_close_all_handles_cb``).
    """
    if "close" in vars(loop):
        return  # of an earlier lease

    def close() -> None:
        del loop.close
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ResourceWarning)
            loop.close()
        for each in caught:
            warnings.warn_explicit(
                each.message, each.category, each.filename, each.lineno, source=each.source
            )

    vars(loop)["close"] = close


def _run_on(original: Callable[..., Any], hook: Hook[None]) -> Callable[..., Any]:
    """A loop's ``run_until_complete`` that goes on after what would end the loop in the middle.

    A ``KeyboardInterrupt`` or ``SystemExit`` of one task leaves asyncio's loop at once
    (asyncio/events.py, ``Handle._run``; asyncio/tasks.py, ``Task.__step``), and AnyIO's runner then
    cancels what runs all fixtures. It has to end what runs as every crash does.
    """

    def run_until_complete(future: Any) -> Any:
        __tracebackhide__ = True
        loop: asyncio.AbstractEventLoop = getattr(original, "__self__")  # noqa: B009
        task = asyncio.ensure_future(future, loop=loop)
        while True:
            try:
                return original(task)
            except (KeyboardInterrupt, SystemExit) as exc:
                if _is_of_machinery(exc):
                    raise
                _set_retrieved(exc)
                loop.call_soon(interrupt, Crash(exc, ""))
            if task.done():
                # Both in one turn. On uvloop, the end of the task is still to stop the loop.
                loop.call_soon(loop.stop)
                loop.run_forever()
                return task.result()

    return run_until_complete


def _set_retrieved(error: BaseException) -> None:
    """Keep asyncio from telling of ``error`` once more when it collects the task that raised it."""
    for each in gc.get_referrers(error):
        if issubclass(type(each), asyncio.Future) and each.done() and not each.cancelled():
            each.exception()


def _is_of_machinery(error: BaseException) -> bool:
    """Whether ``error`` came between two things that the loop runs, which would miss the second.

    Only signal handlers raise there. Otherwise, the way through the loop is taken out of its
    traceback.
    """
    frames = error.__traceback__
    ours = frames
    module = ""
    while frames is not None:
        module = str(frames.tb_frame.f_globals.get("__name__"))
        if module.partition(".")[0] in MACHINERY:
            ours = frames.tb_next
        frames = frames.tb_next
    if ours is None or module == signal_handlers:
        return True
    error.__traceback__ = ours
    return False
