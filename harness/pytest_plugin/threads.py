"""``threads=N``: how many worker threads a test may have at once, on every backend.

AnyIO's limiter bounds ``to_thread.run_sync`` on asyncio, and is trio's own on trio. On asyncio
``run_in_executor(None, ...)`` passes it by: the loop's default executor has to be another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from anyio.to_thread import current_default_thread_limiter

from ..backends import current_library

T = TypeVar("T")


class DefaultExecutor(ThreadPoolExecutor):
    """A loop's default executor, with a limit for some of its tests.

    A loop cannot be asked for its executor, nor be given back that it had: one of these stays.
    """

    _limited: ThreadPoolExecutor | None = None

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        if self._limited is None:
            return super().submit(fn, *args, **kwargs)
        return self._limited.submit(fn, *args, **kwargs)

    @contextmanager
    def limited(self, threads: int) -> Iterator[None]:
        limited = self._limited = ThreadPoolExecutor(threads, "harness-threads")
        try:
            yield
        finally:
            self._limited = None
            limited.shutdown(wait=False)  # what is still at work must not block the loop


_executors: WeakKeyDictionary[asyncio.AbstractEventLoop, DefaultExecutor] = WeakKeyDictionary()


@contextmanager
def limit_threads(threads: int) -> Iterator[None]:
    """Let no more than ``threads`` work at once in the running event loop."""
    limiter = current_default_thread_limiter()
    before = limiter.total_tokens
    limiter.total_tokens = threads
    try:
        if current_library() == "trio":
            yield
            return
        loop = asyncio.get_running_loop()
        executor = _executors.get(loop)
        if executor is None:
            executor = _executors[loop] = DefaultExecutor()
            loop.set_default_executor(executor)
        with executor.limited(threads):
            yield
    finally:
        limiter.total_tokens = before
