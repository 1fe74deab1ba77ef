"""Worker threads that a task waits for.

A thread holds the time as long as a task waits for it, and not while the thread itself waits for
the event loop (``anyio.from_thread.run``): then it is the loop's turn.
"""

from __future__ import annotations

import asyncio
import functools
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from itertools import pairwise
from typing import Any

import anyio.to_process
from anyio import CapacityLimiter

from ..backends import current_library
from ..diagnostics import await_stack
from ..hooks import Hook
from .contract import Hold, Timeline


class Workers:
    """Holds the time for worker threads, and for ``anyio.to_process``."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self._hooks: tuple[Hook[Workers], ...] = ()

    def begin(self) -> None:
        self._hooks = (_to_process, *(_of_trio() if current_library() == "trio" else _of_anyio()))
        for hook in self._hooks:
            hook.listen(self)

    def end(self) -> None:
        for hook in self._hooks:
            hook.leave(self)


def _listener(hook: Hook[Workers]) -> Workers | None:
    """The one in whose event loop this is."""
    for listener in hook.listeners:
        if listener.timeline.is_here():
            return listener
    return None


def _run_in_process(original: Callable[..., Any], hook: Hook[Workers]) -> Callable[..., Any]:
    async def run_sync(func: Callable[..., Any], *args: Any, **options: Any) -> Any:
        listener = _listener(hook)
        if listener is None:
            return await original(func, *args, **options)
        with Hold(listener.timeline, f"{_name(func)} in a worker process"):
            return await original(func, *args, **options)

    return functools.wraps(original)(run_sync)


_to_process: Hook[Workers] = Hook(anyio.to_process, "run_sync", _run_in_process)

# --- asyncio and uvloop

_anyio_hooks: tuple[Hook[Workers], ...] = ()


def _of_anyio() -> tuple[Hook[Workers], ...]:
    global _anyio_hooks
    if not _anyio_hooks:
        from anyio._backends._asyncio import AsyncIOBackend

        _anyio_hooks = (
            Hook(AsyncIOBackend, "run_sync_in_worker_thread", _run_in_thread),
            Hook(AsyncIOBackend, "wait_all_tasks_blocked", _wait_all_tasks_blocked),
        )
    return _anyio_hooks


def _run_in_thread(original: Callable[..., Any], hook: Hook[Workers]) -> Callable[..., Any]:
    async def run_sync_in_worker_thread(
        func: Callable[..., Any],
        args: tuple[Any, ...],
        abandon_on_cancel: bool = False,
        limiter: Any = None,
    ) -> Any:
        __tracebackhide__ = True
        listener = _listener(hook)
        if listener is None:
            return await original(func, args, abandon_on_cancel, limiter)
        if limiter is None:
            from anyio.to_thread import current_default_thread_limiter

            limiter = current_default_thread_limiter()
        # Waiting for a free thread is no work in flight: what holds the last one may sleep.
        async with limiter:
            with Hold(listener.timeline, f"{_name(func)} in a worker thread") as hold:
                return await original(
                    functools.partial(run_held, hold, func),
                    args,
                    abandon_on_cancel,
                    CapacityLimiter(1),
                )

    return run_sync_in_worker_thread


def _wait_all_tasks_blocked(
    original: Callable[..., Any], hook: Hook[Workers]
) -> Callable[..., Any]:
    """AnyIO's sleeps between its looks, which would let virtual time pass."""

    async def wait_all_tasks_blocked() -> None:
        listener = _listener(hook)
        if listener is None:
            await original()
        else:
            await listener.timeline.settle()

    return wait_all_tasks_blocked


#: The holds of the threads that are working, by the thread.
_holds: dict[int, Hold] = {}


def run_held(hold: Hold, func: Callable[..., Any], *args: Any) -> Any:
    """In the thread: run ``func``, and let it be known whose hold that is."""
    __tracebackhide__ = True
    _holds[threading.get_ident()] = hold
    try:
        return func(*args)
    finally:
        del _holds[threading.get_ident()]


def hold_of_thread() -> Hold | None:
    """The hold of the thread that calls this, if it has one."""
    return _holds.get(threading.get_ident())


def waits_for_loop(callback: Callable[..., object]) -> Callable[[], bool] | None:
    """If ``callback`` is how a thread runs a coroutine in a loop: until when the thread waits.

    ``asyncio.run_coroutine_threadsafe``, which is also what AnyIO's ``from_thread.run`` calls; the
    future that the thread waits for is only in the closure (CPython, ``asyncio/tasks.py``).
    """
    code = getattr(callback, "__code__", None)
    if code is None or code.co_filename != _tasks_file:
        return None
    future = _closed_over(callback, "future")
    return None if future is callback else lambda: not future.done()


_tasks_file = asyncio.run_coroutine_threadsafe.__code__.co_filename


def hold_in_executor(
    timeline: Timeline,
    submit: Callable[..., asyncio.Future[Any]],
    executor: Executor | None,
    func: Callable[..., Any],
    *args: Any,
) -> asyncio.Future[Any]:
    """``loop.run_in_executor``, holding the time until somebody has its result."""
    hold = Hold(timeline, f"{_name(func)} in an executor").__enter__()
    try:
        if _is_of_threads(executor):
            future = submit(executor, functools.partial(run_held, hold, func), *args)
        else:
            future = submit(executor, func, *args)
        future.add_done_callback(lambda _: hold.release())
    except BaseException:
        hold.release()
        raise
    return future


def _is_of_threads(executor: Executor | None) -> bool:
    from concurrent.futures import ThreadPoolExecutor

    return executor is None or isinstance(executor, ThreadPoolExecutor)


# --- trio

_trio_hooks: tuple[Hook[Workers], ...] = ()


def _of_trio() -> tuple[Hook[Workers], ...]:
    global _trio_hooks
    if not _trio_hooks:
        threads = sys.modules["trio._threads"]
        # trio/_threads.py: what all of trio's worker threads are started by, and what all functions
        # of trio.from_thread call.
        _trio_hooks = (
            Hook(threads, "start_thread_soon", _start_thread),
            Hook(threads, "_send_message_to_trio", _send_message),
        )
    return _trio_hooks


def _start_thread(original: Callable[..., Any], hook: Hook[Workers]) -> Callable[..., Any]:
    import trio

    def start_thread_soon(
        func: Callable[[], Any], deliver: Callable[[Any], object], name: str | None = None
    ) -> None:
        listener = _listener(hook)
        if listener is None:
            original(func, deliver, name)
            return
        work = _closed_over(func, "sync_fn")  # what trio was asked to run
        if getattr(work, "__module__", "") == "anyio._backends._trio":
            work = _closed_over(work, "func")  # what AnyIO was
        hold = Hold(listener.timeline, f"{_name(work)} in a worker thread").__enter__()
        task = trio.lowlevel.current_task()
        token = trio.lowlevel.current_trio_token()
        hold.suspended = lambda: not _waits_for_thread(task)

        def deliver_and_release(result: Any) -> None:
            deliver(result)
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(hold.release)

        original(functools.partial(run_held, hold, func), deliver_and_release, name)

    return start_thread_soon


class _Answers(queue.SimpleQueue[Any]):
    """Where the event loop puts what a thread waits for."""

    answered = False

    def put_nowait(self, item: Any) -> None:
        self.answered = True
        super().put_nowait(item)


def _telling(function: Callable[..., Any], begun: threading.Event) -> Callable[..., Any]:
    @functools.wraps(function)  # trio names a task after it
    def begin(*args: Any) -> Any:
        begun.set()
        return function(*args)

    return begin


def _send_message(original: Callable[..., Any], hook: Hook[Workers]) -> Callable[..., Any]:
    def send_message_to_trio(token: Any, message: Any) -> Any:
        __tracebackhide__ = True
        hold = hold_of_thread()
        before = None if hold is None else hold.suspended
        if hold is not None:
            # In the event loop the hold must be back before the thread is. And it may not go before
            # the loop runs what it is asked to, which is later than now. (What is not async takes
            # no time there.)
            answers, begun = _Answers(), threading.Event()
            object.__setattr__(message, "queue", answers)  # which is frozen
            if hasattr(message, "afn"):
                object.__setattr__(message, "afn", _telling(message.afn, begun))
            hold.suspended = lambda: (
                (begun.is_set() and not answers.answered) or (before is not None and before())
            )
        try:
            return original(token, message)
        finally:
            if hold is not None:
                hold.suspended = before

    return send_message_to_trio


def _waits_for_thread(task: Any) -> bool:
    """Whether the task that started a thread still waits for it (trio/_threads.py).

    If the thread runs something in the event loop, it is the same task that runs it.
    """
    abort = task._abort_func
    if abort is not None:
        return getattr(abort, "__qualname__", "") == "to_thread_run_sync.<locals>.abort"
    # Trio asks a task only once whether it can be cancelled; one that waits for a thread refuses,
    # and is then to be known by what it awaits.
    names = [frame.f_code.co_name for frame, _ in await_stack(task.coro)]
    return ("to_thread_run_sync", "wait_task_rescheduled") in pairwise(names)


def _closed_over(function: Any, name: str) -> Any:
    """What a closure has of its outer function; ``function`` itself if there is no such thing."""
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    cells = dict(zip(names, getattr(function, "__closure__", None) or (), strict=False))
    return cells[name].cell_contents if name in cells else function


def _name(func: Any) -> str:
    while isinstance(func, functools.partial):
        func = func.func
    return str(getattr(func, "__qualname__", None) or repr(func))
