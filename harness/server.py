"""A running server: what a test holds of it, and how it starts, drains, stops and restarts."""

from __future__ import annotations

import functools
import inspect
import math
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from anyio import (
    CancelScope,
    ConnectionFailed,
    Event,
    Lock,
    aclose_forcefully,
    create_task_group,
    get_cancelled_exc_class,
    get_running_tasks,
    move_on_after,
)
from anyio.abc import ByteStream, TaskGroup, TaskStatus
from anyio.lowlevel import checkpoint

from .backends import current_task_id
from .connection import Connection, RecordedStream
from .diagnostics import format_stubborn, place_of_function, waits_for_children
from .reachable import Reachable
from .supervisor import DidNotStop, tasks_below
from .transports.base import Endpoint, Transport
from .watch import add_note, without_cancellation

if TYPE_CHECKING:
    from .core import Harness

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

Handler = Callable[[ByteStream], Awaitable[object]]


class Server(Reachable):
    """A server under the care of a harness; made by :meth:`harness.Harness.serve`.

    It is AnyIO's ``ByteStreamConnectable``, so it can be given to anything that takes one.

    :ivar name: what messages call it
    :ivar transport: what it is reached over
    :ivar accepted: how many connections its handler has been given since it was first started
    :ivar errors: what handlers raised, in order, expected or not
    """

    def __init__(
        self,
        harness: Harness,
        transport: Transport,
        endpoint: Endpoint,
        handler: Handler,
        *,
        name: str,
        grace: float,
        cancel_timeout: float,
        expect: tuple[type[BaseException], ...],
        expect_required: bool,
        served_at: object = None,
    ) -> None:
        self.name = name
        self.transport = transport
        self.accepted: int = 0
        self.errors: Sequence[BaseException]
        self._errors: list[BaseException] = []
        self.errors = self._errors
        self._harness = harness
        self._endpoint = endpoint
        self._handler = handler
        self._grace = grace
        self._cancel_timeout = cancel_timeout
        self._expect = expect
        self._expect_required = expect_required
        self._served_at = served_at
        self._live: dict[Connection, CancelScope] = {}
        self._tasks: dict[Connection, int] = {}
        self._watchers: list[Event] = []
        self._changing = Lock()
        self._running = False
        self._ended = False

    # Where it is

    @property
    def client_ssl_context(self) -> ssl.SSLContext:
        """A context that trusts this server. Raises :exc:`AttributeError` if it has no TLS."""
        context = self._endpoint.client_ssl_context
        if context is None:
            raise AttributeError(
                f"{self} has no client_ssl_context: transport {self.transport.name!r} has no TLS"
            )
        return context

    # What it does

    @property
    def connections(self) -> Sequence[Connection]:
        """The live connections, oldest first: those whose handler has not returned."""
        return list(self._live)

    async def wait_connections(self, n: int) -> None:
        """Wait until at least ``n`` connections are live; for ``n == 0``, until none is.

        Live is a connection whose handler has not returned: one that comes and goes between two
        looks is not seen. :attr:`accepted` counts those too.

        Raises :exc:`ValueError` for a negative ``n`` and :exc:`RuntimeError` if the server stops
        before there were ``n``.
        """
        if not isinstance(n, int) or n < 0:
            raise ValueError(f"wait_connections() takes a number of connections, not {n!r}")
        await checkpoint()
        while len(self._live) < n if n else self._live:
            if n and not self._running:
                raise RuntimeError(
                    f"{self} is stopped and has {len(self._live)} connections; "
                    f"there will never be {n}"
                )
            await self._next_change()

    async def drop_connections(self) -> None:
        """Cancel the handler of every live connection and wait for them; go on accepting.

        Raises :exc:`harness.DidNotStop` if a handler is still there after the harness's
        ``cancel_timeout``.
        """
        dropped = list(self._live)
        for connection in dropped:
            self._live[connection].cancel()
        with move_on_after(self._cancel_timeout):
            await checkpoint()
            while any(connection in self._live for connection in dropped):
                await self._next_change()
            return
        stuck = [connection for connection in dropped if connection in self._live]
        raise self._did_not_stop(stuck)

    async def stop(self, *, grace: float | None = None) -> None:
        """Stop accepting, let handlers finish for ``grace`` seconds, cancel the others, close.

        Returns as soon as the last handler is done. Does nothing on a stopped server. ``grace``
        defaults to what ``serve`` was given. Raises :exc:`harness.DidNotStop` if a handler is
        still there ``cancel_timeout`` seconds after it was cancelled.
        """
        grace = self._grace if grace is None else checked_grace(grace)
        async with self._changing:
            await self._stop(grace)

    async def _stop(self, grace: float) -> None:
        if not self._running:
            await checkpoint()
            return
        self._stop_accepting()
        with move_on_after(grace):
            await self._finished.wait()
            return
        self._cancel_handlers()
        with move_on_after(self._cancel_timeout):
            await self._finished.wait()
            return
        raise self._did_not_stop(self.connections)

    def _did_not_stop(self, stuck: Sequence[Connection]) -> DidNotStop:
        handlers = [self._tasks[connection] for connection in stuck]
        tasks = {*handlers, *(task.id for each in handlers for task in tasks_below(each))}
        count = "1 handler" if len(stuck) == 1 else f"{len(stuck)} handlers"
        return DidNotStop(
            f"{count} of {self} did not stop within {self._cancel_timeout:g} s of being cancelled "
            f"(harness_cancel_timeout):\n{format_stubborn(tasks)}"
        )

    async def restart(self) -> None:
        """Stop, with the grace that ``serve`` was given, and start again at the same address.

        Raises :exc:`RuntimeError` after the end of the test, and in one of the server's own
        handlers, which would have to be stopped before it could go on.
        """
        if self._ended:
            raise RuntimeError(f"{self} cannot restart: the harness it belonged to is closed")
        if current_task_id() in self._tasks.values():
            raise RuntimeError(
                f"{self} cannot be restarted by its own handler, which a restart has to stop; "
                "call restart() in the test or in harness.task_group"
            )
        async with self._changing:
            await self._stop(self._grace)
            await self._endpoint.listen_again()
            await self._start()

    def __repr__(self) -> str:
        state = "" if self._running else ", stopped"
        return f"<Server {self.name!r} at {self.address} over {self.transport.name}{state}>"

    # How the harness runs it

    async def _start(self) -> None:
        self._finished = Event()
        await self._harness._supervisor.services.start(self._serve, name=f"server {self.name!r}")

    async def _serve(self, *, task_status: TaskStatus[None]) -> None:
        try:
            async with create_task_group() as handlers:
                self._handlers: TaskGroup = handlers
                try:
                    with CancelScope() as self._accepting:
                        self._running = True
                        task_status.started()
                        await self._endpoint.listener.serve(self._task_function(), handlers)
                finally:
                    self._running = False
                    await aclose_forcefully(self._endpoint.listener)
                    self._changed()
        finally:
            self._finished.set()

    def _task_function(self) -> Callable[[ByteStream], Awaitable[None]]:
        """:meth:`_handle`, as a function with the name that the handlers' tasks shall have."""

        def handle(stream: ByteStream) -> Awaitable[None]:
            return self._handle(stream)

        handle.__qualname__ = f"a handler of server {self.name!r}"
        handle.__module__ = ""
        return handle

    async def _handle(self, stream: ByteStream) -> None:
        __tracebackhide__ = True
        self.accepted += 1
        recorded = RecordedStream(stream, id=self.accepted)
        connection = recorded.connection
        with CancelScope() as scope:
            self._live[connection] = scope
            self._tasks[connection] = current_task_id()
            self._changed()
            try:
                running = self._handler(recorded)
                if not inspect.isawaitable(running):
                    raise TypeError(
                        f"the handler of {self} is not async: it returned {running!r} and not "
                        f"something to await; write `async def`{place_of_function(self._handler)}"
                    )
                await running
            except GeneratorExit:
                raise
            except get_cancelled_exc_class():
                raise
            except BaseException as exc:
                self._failed(exc, connection)
            finally:
                try:
                    if connection.state != "closed":
                        await aclose_forcefully(recorded)
                finally:
                    del self._live[connection], self._tasks[connection]
                    self._changed()

    def _failed(self, raised: BaseException, connection: Connection) -> None:
        error = without_cancellation(raised)
        if error is None:
            return
        self._errors.append(error)
        if not is_expected(error, self._expect):
            if self._expect:
                add_note(error, f"(serve expects {self._expected_names()})")
            origin = f"connection {connection.id} of server {self.name!r}"
            self._harness._supervisor.notice(error, origin)

    def _requires_an_error(self) -> bool:
        return self._expect_required and not any(
            is_expected(error, self._expect) for error in self._errors
        )

    def _check_expected(self) -> None:
        """Raise :exc:`NotRaised`, once, if no handler has raised what was required."""
        if self._requires_an_error():
            self._expect_required = False
            raised = f"; they raised {self._errors!r}" if self._errors else ""
            raise NotRaised(
                f"a handler of {self} was required to raise {self._expected_names()}, and none did "
                f"({self.accepted} connections accepted{raised})"
                + ("" if self._served_at is None else f"\nIt was served at {self._served_at}")
            )

    def _expected_names(self) -> str:
        return " or ".join(each.__name__ for each in self._expect)

    async def _connect(self) -> ByteStream:
        if not self._running:
            raise ConnectionFailed(f"{self} is stopped; restart() it, or connect before it stops")
        try:
            return await self._endpoint.connect()
        except ConnectionFailed:
            raise
        except OSError as exc:
            raise ConnectionFailed(f"cannot connect to {self}: {exc}") from exc

    def _stop_accepting(self) -> None:
        self._accepting.cancel()

    def _cancel_handlers(self) -> None:
        self._handlers.cancel_scope.cancel()

    def _idle(self, census: TaskCensus) -> list[Connection]:
        """The connections whose handler waits for its own client, and for nothing else.

        Such a handler has as many tasks at work as there are operations on its stream: one that
        also has a task that sleeps, or waits for a thread, is in the middle of something.
        """
        return [
            connection
            for connection, task_id in self._tasks.items()
            if connection.operations == census.at_work(task_id)
        ]

    def _cancel(self, connections: Iterable[Connection]) -> None:
        for connection in connections:
            self._live[connection].cancel()

    async def _drain(self) -> None:
        """Wait until all handlers are done, the grace at most."""
        with move_on_after(self._grace):
            while self._live:
                await self._next_change()

    def _changed(self) -> None:
        for event in self._watchers:
            event.set()
        self._watchers.clear()

    async def _next_change(self) -> None:
        event = Event()
        self._watchers.append(event)
        await event.wait()


class NotRaised(AssertionError):
    """``serve(..., expect_required=True)``, and no handler raised what was expected."""


class TaskCensus:
    """The tasks of this event loop at one moment, by their parents."""

    def __init__(self) -> None:
        self._children: dict[int | None, list[int]] = {}
        self._coroutines: dict[int, Any] = {}
        for task in get_running_tasks():
            self._children.setdefault(task.parent_id, []).append(task.id)
            self._coroutines[task.id] = task.coro

    def at_work(self, task_id: int) -> int:
        """How many of a task and all below it do something else than wait for their children."""
        total = 0
        waiting = [task_id]
        while waiting:
            each = waiting.pop()
            below = self._children.get(each)
            if not below or not waits_for_children(self._coroutines[each]):
                total += 1
            waiting.extend(below or ())
        return total


def handler_of(what: Any) -> Handler:
    """The async callable that ``what`` is or has as its ``handle`` method.

    Raises :exc:`TypeError` where there is none.
    """
    __tracebackhide__ = True
    is_async = inspect.iscoroutinefunction(what) or inspect.iscoroutinefunction(
        getattr(type(what), "__call__", None)  # noqa: B004 (the method, not whether there is one)
    )
    if not is_async and not isinstance(what, type) and hasattr(what, "handle"):
        what = what.handle
    expected = (
        "an async function that takes the stream, or an object with `async def handle(stream)`"
    )
    if not callable(what) or isinstance(what, type):
        raise TypeError(f"serve() expects {expected}, not {what!r}")
    function = what
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isasyncgenfunction(function):
        raise TypeError(
            f"serve() expects {expected}; {name_of(what)}() is an async generator: it has a `yield`"
        )
    if not inspect.isroutine(function):
        function = getattr(type(function), "__call__")  # noqa: B004, B009
    is_def = not is_async and getattr(function, "__name__", "") != "<lambda>"
    if is_def and not inspect.iscoroutinefunction(function) and not _returns_awaitable(function):
        raise TypeError(
            f"serve() expects {expected}; {name_of(what)}() is not async: write `async def`"
        )
    return cast(Handler, what)


def _returns_awaitable(function: Any) -> bool:
    """Whether a plain ``def`` wraps an async one (``functools.wraps``) or says it returns one."""
    if inspect.iscoroutinefunction(inspect.unwrap(function)):
        return True
    returns = str(getattr(function, "__annotations__", {}).get("return", ""))
    return "Awaitable" in returns or "Coroutine" in returns


def name_of(what: Any) -> str:
    """What messages call a handler: its function's name, or its class's."""
    while isinstance(what, functools.partial):
        what = what.func
    if hasattr(what, "__name__"):
        return str(what.__name__)
    return type(what).__name__


def checked_name(name: str) -> str:
    """``name``. Raises :exc:`TypeError` if it is no string."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, not {name!r}")
    return name


def is_expected(error: BaseException, types: tuple[type[BaseException], ...]) -> bool:
    """Whether ``error``, or each exception of the group that it is, is one of ``types``."""
    if isinstance(error, types):
        return True
    if isinstance(error, BaseExceptionGroup) and types:
        return error.split(types)[1] is None
    return False


def checked_grace(grace: float, what: str = "grace") -> float:
    """``grace`` in seconds. Raises :exc:`ValueError` or :exc:`TypeError` if it cannot be one."""
    if isinstance(grace, bool) or not isinstance(grace, (int, float)):
        raise TypeError(f"{what} must be a number of seconds, not {grace!r}")
    if math.isnan(grace) or grace < 0:
        raise ValueError(f"{what} must be a number of seconds, zero or more, not {grace!r}")
    return float(grace)


def checked_expect(
    expect: type[BaseException] | Iterable[type[BaseException]], *, required: bool = False
) -> tuple[type[BaseException], ...]:
    """``expect`` as a tuple of exception types.

    Raises :exc:`TypeError` for anything else, and :exc:`ValueError` if an error is ``required`` and
    none is named.
    """
    is_one = isinstance(expect, (type, str)) or not isinstance(expect, Iterable)
    types: tuple[Any, ...] = (expect,) if is_one else tuple(expect)  # type: ignore[arg-type]
    for each in types:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise TypeError(f"expect takes exception types, not {each!r}")
    if required and not types:
        raise ValueError(
            "expect_required=True needs expect=, the exception types that are required"
        )
    return types
