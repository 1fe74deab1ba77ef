"""A running server: what a test holds of it, and how it starts, drains, stops and restarts."""

from __future__ import annotations

import inspect
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

from anyio import (
    CancelScope,
    ConnectionFailed,
    Event,
    Lock,
    get_cancelled_exc_class,
    get_running_tasks,
    move_on_after,
)
from anyio.abc import ByteStream, TaskStatus, UnreliableObjectStream
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from .adapters.base import Handler, Shape, Site
from .backends import current_task_id
from .connection import Connection, RecordedStream
from .diagnostics import format_stubborn, place_of_function, waits_for_children
from .durations import checked_grace
from .reachable import Reachable
from .supervisor import DidNotStop, tasks_below
from .transports.base import Transport
from .watch import HasEnded, add_note, is_asked_for, not_cancelling, sole, without_cancellation

if TYPE_CHECKING:
    from .core import Harness

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup


class Server(Reachable):
    """A server under the care of a harness; made by :meth:`harness.Harness.serve`.

    It is AnyIO's ``ByteStreamConnectable``, so it can be given to anything that takes one.

    :ivar name: what messages call it
    :ivar shape: what was given to ``serve``; a handler is in ``shape.handler``
    :ivar transport: what it is reached over
    :ivar accepted: how many connections its handler has been given since it was first started; of a
        server that accepts by itself, how many were made with ``connect``
    :ivar errors: what handlers, or the server itself, raised, in order, expected or not
    """

    def __init__(
        self,
        harness: Harness,
        transport: Transport,
        shape: Shape,
        *,
        name: str,
        grace: float,
        cancel_timeout: float,
        expect: tuple[type[BaseException], ...],
        expect_required: bool,
        served_at: object = None,
        transport_was_named: bool = False,
    ) -> None:
        self.name = name
        self.shape: Shape = shape
        self.transport = transport
        self.accepted: int = 0
        self.errors: Sequence[BaseException]
        self._errors: list[BaseException] = []
        self.errors = self._errors
        self._harness = harness
        self._site = Site(self, transport, harness.backend)
        self._grace = grace
        self._cancel_timeout = cancel_timeout
        self._expect = expect
        self._expect_required = expect_required
        self._served_at = served_at
        self._live: dict[Connection, CancelScope] = {}
        self._clients: dict[Connection, None] = {}
        self._tasks: dict[Connection, int] = {}
        self._watchers: list[Event] = []
        self._changing = Lock()
        self._running = False
        self._ended = False
        self._asked_to_end = self._ended_by_itself = False
        self._transport_was_named = transport_was_named
        self._task: int | None = None
        self._unreachable: list[Exception] = []

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
        """The live connections, oldest first: those whose handler has not returned.

        Of a server that accepts by itself: the clients' side of those that were made with
        ``connect``, until they are closed.
        """
        return [*self._live, *self._clients]

    async def datagram_client(self) -> UnreliableObjectStream[bytes]:
        """A datagram socket that is connected to it; the harness closes it at the end.

        Raises :exc:`TypeError` if it serves no datagrams (:class:`harness.adapters.Datagram`), and
        :exc:`anyio.ConnectionFailed` if it is stopped.
        """
        make = getattr(self._endpoint, "client", None)
        if make is None:
            raise TypeError(f"{self} serves connections, and no datagrams; use connect()")
        self._expect_running()
        return self._harness._keep_open(await make())

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
        while len(self.connections) < n if n else self.connections:
            if n and not self._running:
                raise RuntimeError(
                    f"{self} is stopped and has {len(self.connections)} connections; "
                    f"there will never be {n}"
                )
            await self._next_change()

    async def drop_connections(self) -> None:
        """Cancel the handler of every live connection and wait for them; go on accepting.

        Raises :exc:`harness.DidNotStop` if a handler is still there after the harness's
        ``cancel_timeout``, and :exc:`RuntimeError` for a server that accepts by itself and has
        connections.
        """
        if self._clients:
            raise RuntimeError(
                f"{self} accepts by itself, so nobody else can drop its connections; put a proxy "
                "before it, and call proxy.disconnect_all() or proxy.reset_all()"
            )
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
        self._site.cancel()
        with move_on_after(self._cancel_timeout):
            await self._finished.wait()
            return
        raise self._did_not_stop(self.connections)

    def _did_not_stop(self, stuck: Sequence[Connection]) -> DidNotStop:
        handlers = [self._tasks[each] for each in stuck if each in self._tasks]
        what = "1 handler of " if len(handlers) == 1 else f"{len(handlers)} handlers of "
        if not handlers and self._task is not None:
            handlers, what = [self._task], ""
        tasks = {*handlers, *(task.id for each in handlers for task in tasks_below(each))}
        return DidNotStop(
            f"{what}{self} did not stop within {self._cancel_timeout:g} s of being cancelled "
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
            await self._start()

    def __repr__(self) -> str:
        where = "" if self._site.endpoint is None else f" at {self._site.address}"
        state = "" if self._running else ", stopped"
        return f"<Server {self.name!r}{where} over {self.transport.name}{state}>"

    # How the harness runs it

    def _check_possible(self) -> None:
        """Raise :exc:`unittest.SkipTest`, or :exc:`ValueError`, if it cannot be had here."""
        if inspect.iscoroutinefunction(self.shape.stop):
            raise TypeError(f"{type(self.shape).__name__}.stop() cannot wait: write `def stop`")
        reason = self.shape.missing(self._site)
        if reason is not None:
            if self._transport_was_named:
                raise ValueError(reason)
            raise SkipTest(reason)

    async def _start(self) -> None:
        __tracebackhide__ = True
        self._finished = Event()
        self._asked_to_end = self._ended_by_itself = False
        self._unreachable.clear()
        await self._harness._supervisor.services.start(self._serve, name=f"server {self.name!r}")
        for unreachable in self._unreachable:
            self._asked_to_end = True
            self._site.cancel()
            with CancelScope(shield=True):
                await self._stop(0.0)
            raise unreachable

    async def _serve(self, *, task_status: TaskStatus[None]) -> None:
        __tracebackhide__ = True
        site = self._site
        status = _Started(self, task_status)
        self._task = current_task_id()
        try:
            with site.begin():
                await self.shape.run(site, task_status=status)
                await checkpoint_if_cancelled()  # it may have swallowed that
                if not (status.has_started or site.is_cancelled):
                    raise RuntimeError(
                        f"server {self.name!r} has ended before it was ready: it has not called "
                        f"task_status.started(){self.shape.instead}"
                    )
        except GeneratorExit:
            raise
        except BaseException as exc:
            if is_asked_for(exc) or not status.has_started:
                raise
            self._failed(not_cancelling(exc), f"server {self.name!r}")
        finally:
            self._ended_by_itself = not self._asked_to_end
            self._no_longer_accepts()
            self._task = None
            self._finished.set()

    def _is_ready(self, address: Any) -> None:
        # Not raised here, where it would go through the code of the server that calls `started()`.
        try:
            self._endpoint = self._site.reached_at(address)
        except TypeError as exc:
            self._unreachable.append(exc)
        except ValueError as exc:
            if self._transport_was_named:
                self._unreachable.append(exc)
            else:
                self._unreachable.append(SkipTest(str(exc)))
        self._running = True

    def _no_longer_accepts(self) -> None:
        self._running = False
        self._changed()

    def _task_function(self, handler: Handler) -> Callable[[ByteStream], Awaitable[None]]:
        """:meth:`_handle`, as a function with the name that the handlers' tasks shall have."""

        def handle(stream: ByteStream) -> Awaitable[None]:
            return self._handle(handler, stream)

        handle.__qualname__ = f"a handler of server {self.name!r}"
        handle.__module__ = ""
        return handle

    async def _handle(self, handler: Handler, stream: ByteStream) -> None:
        __tracebackhide__ = True
        self.accepted += 1
        recorded = RecordedStream(stream, id=self.accepted)
        connection = recorded.connection
        # A cancellation of the whole server ends here as well: a nursery of trio's would put
        # thousands of them, with all their frames, into one group.
        with suppress(get_cancelled_exc_class()), CancelScope() as scope:
            self._live[connection] = scope
            self._tasks[connection] = current_task_id()
            self._changed()
            try:
                running = handler(recorded)
                if not inspect.isawaitable(running):
                    raise TypeError(
                        f"the handler of {self} is not async: it returned {running!r} and not "
                        f"something to await; write `async def`{place_of_function(handler)}"
                    )
                await running
            except GeneratorExit:
                raise
            except BaseException as exc:
                if is_asked_for(exc):
                    raise
                origin = f"connection {connection.id} of server {self.name!r}"
                self._failed(not_cancelling(exc), origin)
            finally:
                try:
                    if connection.state != "closed":
                        await recorded.aclose_forcefully()
                finally:
                    del self._live[connection], self._tasks[connection]
                    self._changed()

    def _failed(self, raised: BaseException, origin: str, *, of_the_end: bool = False) -> None:
        error = without_cancellation(raised)
        if error is None or (of_the_end and self._harness._supervisor.is_ending):
            return
        if not self.shape.is_all_handlers:
            error = sole(error)  # the task groups around it are not the test's own
        self._errors.append(error)
        if not is_expected(error, self._expect):
            if self._expect:
                add_note(error, f"(serve expects {self._expected_names()})")
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

    def _expect_running(self) -> None:
        if not self._running:
            if self._ended_by_itself:
                raise HasEnded(f"{self} {self.shape.end}; restart() starts it again")
            raise ConnectionFailed(f"{self} is stopped; restart() it, or connect before it stops")

    async def _connect(self) -> ByteStream:
        self._expect_running()
        try:
            return await self._endpoint.connect()
        except ConnectionFailed:
            raise
        except OSError as exc:
            raise ConnectionFailed(f"cannot connect to {self}: {exc}") from exc

    def _was_connected(self, stream: RecordedStream) -> None:
        """Count a client's stream, if it is all that is known of the connection."""
        if self._site.accepts:
            return
        self.accepted += 1
        connection = stream.connection
        connection.id = self.accepted
        self._clients[connection] = None

        def closed() -> None:
            del self._clients[connection]
            self._changed()

        stream.when_closed(closed)
        self._changed()

    def _stop_accepting(self) -> None:
        self._asked_to_end = True
        self._running = False
        try:
            self.shape.stop(self._site)
        except Exception as exc:  # one that cannot be asked must not keep the others from ending
            self._failed(exc, f"stop() of server {self.name!r}")
            self._site.cancel()

    def _lingers(self, idle: Sequence[Connection]) -> bool:
        """Whether it has to be waited for at the end, for its grace at the most."""
        return len(idle) < len(self._live) or not self.shape.is_all_handlers

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
        """Wait until all handlers are done, and what runs beside them, the grace at most."""
        with move_on_after(self._grace):
            while self._live:
                await self._next_change()
            if not self.shape.is_all_handlers:
                await self._finished.wait()

    def _changed(self) -> None:
        for event in self._watchers:
            event.set()
        self._watchers.clear()

    async def _next_change(self) -> None:
        event = Event()
        self._watchers.append(event)
        await event.wait()


class _Started:
    """Hears of ``task_status.started()`` from the shape."""

    def __init__(self, server: Server, task_status: TaskStatus[None]) -> None:
        self._server = server
        self._task_status = task_status
        self.has_started = False

    def started(self, value: Any = None) -> None:
        if self.has_started:
            raise RuntimeError(f"{self._server} has called task_status.started() twice")
        self._server._is_ready(value)
        self.has_started = True
        self._task_status.started()


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
