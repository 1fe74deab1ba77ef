"""What AnyIO's listeners promise.

A listener gives each connection to a handler, in a task of its own. It is the handler that closes
its stream: no check asks that of the listener. Where the handlers run is said by ``task_group``:

* in the group that is given to ``serve``, which may go on when ``serve`` has ended;
* in one of its own, if none is given: ``serve`` has then not ended before the handlers have.

So the life of a handler is bound to that group: it is cancelled with it, and an exception that it
raises ends it, and with it all the others, as with any task of a group. A server that wants its
handlers apart has to catch their exceptions in the handler.

How ``serve`` ends when its listener is closed is said nowhere: AnyIO's raise
:exc:`~anyio.ClosedResourceError`, in a group if there is a task group of its own. To return is as
good, here.
"""

from __future__ import annotations

import errno
import functools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from unittest import SkipTest

from anyio import (
    BusyResourceError,
    CancelScope,
    ClosedResourceError,
    Event,
    aclose_forcefully,
    create_task_group,
    move_on_after,
)
from anyio.abc import ByteStream, Listener, TaskGroup
from anyio.lowlevel import checkpoint

from ..settling import settle
from .byte_stream import MOMENTS
from .contract import (
    TIMEOUT,
    Check,
    CheckList,
    PromiseBroken,
    Waiting,
    checked_maker,
    closed_at_the_end,
    each_of,
    expect,
    expect_attributes,
    leaving_nothing,
    raises,
    tasks,
)
from .exchange import ENDED, cancel_in, received_is

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

SERVE = "anyio.abc.Listener.serve"
ACCEPT = "Accept incoming connections as they come in and start tasks to handle them"

#: Makes a listener, a new one at each call.
MakeListener = Callable[[], Awaitable[Listener[Any]]]

#: Connects to the listener that it is given.
Connect = Callable[[Any], Awaitable[ByteStream]]

#: Seconds that a listener is given to close at the end of a check. It should not need any.
GRACE = 5

#: Connections at the same time, where there are many.
MANY = 20

#: How often a connection is tried that has to be refused: what listens may be several.
TRIES = 4


class Listening:
    """What a check makes listeners and connections with. They are closed when the block ends.

    ::

        async with make() as listener:
            client = await make.connect(listener)
    """

    def __init__(self, make_listener: MakeListener, connect: Connect) -> None:
        self._make_listener = make_listener
        self._connect = connect
        self._clients: list[ByteStream] = []

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Listener[Any]]:
        listener = await self._make_listener()
        try:
            yield listener
        finally:
            clients, self._clients = self._clients, []
            async with closed_at_the_end(*clients, listener):
                # Not forcefully at once: one check is about that.
                with move_on_after(GRACE, shield=True):
                    await listener.aclose()

    async def connect(self, listener: Listener[Any]) -> ByteStream:
        client = await self._connect(listener)
        self._clients.append(client)
        return client


class ListenerCheck(Check[Listening]):
    """A check of a listener.

    ``await check(make_listener, connect)`` makes listeners by ``await make_listener()`` and
    connects to one of them by ``await connect(listener)``.
    """

    async def __call__(
        self, make_listener: MakeListener, connect: Connect, *, timeout: float = TIMEOUT
    ) -> None:
        """Check that the promise is kept.

        :param make_listener: an async callable that returns a listener, a new one at each call
        :param connect: an async callable that connects to the listener that it is given, and
            returns the byte stream
        :param timeout: seconds that it may take
        :raises PromiseBroken: if it is not kept
        :raises unittest.SkipTest: if it cannot be found out here; pytest skips then
        """
        __tracebackhide__ = True
        checked_maker(make_listener, "make_listener", "a listener")
        checked_maker(connect, "connect", "a stream")
        await self.look(Listening(make_listener, connect), timeout=timeout)


_check: CheckList[Listening, ListenerCheck] = CheckList(ListenerCheck)


async def check_listener(
    make_listener: MakeListener, connect: Connect, *, timeout: float = TIMEOUT
) -> None:
    """Check that a listener keeps all that AnyIO promises of one.

    :func:`listener_checks` has the same checks one by one.

    :param make_listener: an async callable that returns a listener of byte streams, a new one at
        each call. The check closes it.
    :param connect: an async callable that connects to the listener that it is given, and returns
        the byte stream. It may wait until somebody serves, as a TLS handshake does. It is also
        called when the listener is closed: so the address is better not asked of the listener. The
        check closes the stream.
    :param timeout: seconds for each check; in virtual time, what hangs takes none
    :raises PromiseBroken: naming the promise, what was expected and what was seen; in an
        ``ExceptionGroup`` if there are several
    """
    __tracebackhide__ = True
    await each_of(_check.all, make_listener, connect, timeout=timeout)


def listener_checks() -> tuple[ListenerCheck, ...]:
    """All checks of :func:`check_listener`, for one test each."""
    return _check.all


# Handlers and clients


class HandlerFailed(Exception):
    """What a handler raises in a check."""


async def echo(stream: ByteStream) -> None:
    """Send back what comes; close the stream at its end."""
    async with closed_at_the_end(stream):
        try:
            async for data in stream:
                await stream.send(data)
        except (*ENDED, ClosedResourceError):
            pass


async def answers(client: ByteStream, data: bytes, what: str = "the answer of the handler") -> None:
    """Send ``data``, and expect it back."""
    await client.send(data)
    await received_is(client, data, what)


async def has_ended(client: ByteStream, when: str) -> None:
    """Expect an end or a break, and no bytes."""
    await raises(ENDED, client.receive(), f"receive() of a client {when}")


async def connect_in_vain(make: Listening, listener: Listener[Any], when: str) -> None:
    """Expect that nobody listens any more."""
    for _ in range(TRIES):
        error = await raises(OSError, make.connect(listener), f"connecting {when}")
        if getattr(error, "errno", None) == errno.EBADF:
            raise SkipTest("its `connect` asks the closed listener for its address")


@asynccontextmanager
async def serving(
    listener: Listener[Any], handler: Callable[[Any], Awaitable[None]]
) -> AsyncIterator[TaskGroup]:
    """Serve while the block runs; ``serve``, and all handlers, run in the group."""
    async with tasks() as group:
        group.start_soon(listener.serve, handler, group)
        yield group


def consists_of(error: BaseException | None, kind: type[Exception]) -> bool:
    """Whether it is one of ``kind``, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(consists_of(each, kind) for each in error.exceptions)
    return isinstance(error, kind)


# Serving


@_check(ACCEPT, SERVE)
async def each_connection_has_its_handler(make: Listening) -> None:
    """Three connections, one after the other and then at the same time: each has its own stream."""
    streams = []

    async def handler(stream: ByteStream) -> None:
        streams.append(stream)
        await echo(stream)

    async with make() as listener, serving(listener, handler):
        clients = []
        for number in range(3):
            clients.append(await make.connect(listener))
            await answers(clients[-1], b"first message of client %d" % number)
        for number, client in enumerate(clients):
            await client.send(b"second message of client %d" % number)
        for number, client in reversed(list(enumerate(clients))):
            await received_is(client, b"second message of client %d" % number, "the answer")
        different = len({id(stream) for stream in streams})
        expect(
            len(streams) == different == 3,
            "three handlers with a stream each",
            f"{len(streams)} handlers with {different} different streams",
        )


@_check(
    "backlog: maximum number of queued incoming connections",
    "anyio.create_tcp_listener, anyio.create_unix_listener",
)
async def connections_from_before_are_served(make: Listening) -> None:
    """Those that were made when nobody served yet."""
    async with make() as listener, tasks() as group:
        over = Event()

        async def ask() -> None:
            await answers(await make.connect(listener), b"hello")
            over.set()

        group.start_soon(ask)
        await settle()
        async with serving(listener, echo):
            await over.wait()


@_check(ACCEPT, SERVE)
async def many_at_once(make: Listening) -> None:
    """Twenty connections, none of whose handlers answers before all of them have begun."""
    begun = 0
    all_there = Event()

    async def handler(stream: ByteStream) -> None:
        nonlocal begun
        begun += 1
        if begun == MANY:
            all_there.set()
        await all_there.wait()
        await echo(stream)

    async with make() as listener, serving(listener, handler), create_task_group() as group:

        async def ask(number: int) -> None:
            await answers(await make.connect(listener), b"client %d" % number)

        for number in range(MANY):
            group.start_soon(ask, number)


@_check(ACCEPT, SERVE)
async def a_handler_that_returns_ends_no_other(make: Listening) -> None:
    """Others go on, and new ones begin."""

    async def handler(stream: ByteStream) -> None:
        async with closed_at_the_end(stream):
            while await stream.receive() != b"end":
                await stream.send(b"answer")

    async with make() as listener, serving(listener, handler):
        first, second = await make.connect(listener), await make.connect(listener)
        for client in (first, second):
            await client.send(b"?")
            await received_is(client, b"answer", "the answer of the handler")
        await first.send(b"end")
        await has_ended(first, "whose handler has returned")
        for client in (second, await make.connect(listener)):
            await client.send(b"?")
            await received_is(client, b"answer", "the answer when another handler has returned")


# The task group


@_check(
    "task_group: the task group that will be used to start tasks for handling each accepted "
    "connection",
    SERVE,
)
async def handlers_run_in_the_group_that_is_given(make: Listening) -> None:
    """They go on when ``serve`` is cancelled, and end when that group is."""
    async with make() as listener:
        async with tasks() as handlers:
            async with tasks() as server:
                server.start_soon(listener.serve, echo, handlers)
                client = await make.connect(listener)
                await answers(client, b"hello")
            await answers(client, b"still there", "the answer when serve() was cancelled")
        await has_ended(client, "when the group of its handler was cancelled")


@_check("task_group: if omitted, an ad-hoc task group will be created", SERVE)
async def without_a_group_serve_ends_after_its_handlers(make: Listening) -> None:
    """When ``serve`` is cancelled so are they, and it ends when they have cleaned up."""
    ended: list[str] = []

    async def handler(stream: ByteStream) -> None:
        try:
            await echo(stream)
        finally:
            with CancelScope(shield=True):
                for _ in range(MOMENTS):
                    await checkpoint()
            ended.append("the handler")

    async with make() as listener, tasks() as group:
        scope = CancelScope()

        async def serve() -> None:
            with scope:
                await listener.serve(handler)
            ended.append("serve()")

        group.start_soon(serve)
        client = await make.connect(listener)
        await answers(client, b"hello")
        scope.cancel()
        await has_ended(client, "when serve() was cancelled")
        await settle()
        order = ["the handler", "serve()"]
        expect(ended == order, f"{' and '.join(order)} end, in this order", f"{ended} ended")


@_check(
    "task_group: the task group that will be used to start tasks for handling each accepted "
    "connection",
    f"{SERVE}; AnyIO, docs/tasks: if a child task raises an exception, all are cancelled",
)
async def a_handlers_exception_ends_the_group_that_is_given(make: Listening) -> None:
    """It comes out of that group, and all other handlers are cancelled."""
    error: BaseException | None = None
    async with make() as listener:
        other: ByteStream | None = None
        try:
            async with create_task_group() as group:
                group.start_soon(listener.serve, _failing_when_asked, group)
                other = await make.connect(listener)
                await answers(other, b"hello")
                await (await make.connect(listener)).send(b"fail")
                await Event().wait()
        except Exception as exc:
            error = exc
        _expect_failed(error, "the task group")
        assert other is not None
        await has_ended(other, "when another handler has failed")


@_check(
    "task_group: if omitted, an ad-hoc task group will be created",
    f"{SERVE}; AnyIO, docs/tasks: if a child task raises an exception, all are cancelled",
)
async def a_handlers_exception_ends_serve(make: Listening) -> None:
    """Without a task group it comes out of ``serve``, and all other handlers are cancelled."""
    async with make() as listener, tasks() as group:
        serve = functools.partial(listener.serve, _failing_when_asked)
        running = await Waiting.begin(group, serve, "serve()")
        other = await make.connect(listener)
        await answers(other, b"hello")
        await (await make.connect(listener)).send(b"fail")
        await has_ended(other, "when another handler has failed")
        await settle()
        _expect_failed(running.error, "serve()")


async def _failing_when_asked(stream: ByteStream) -> None:
    async with closed_at_the_end(stream):
        async for data in stream:
            if data == b"fail":
                raise HandlerFailed
            await stream.send(data)


def _expect_failed(error: BaseException | None, what: str) -> None:
    __tracebackhide__ = True
    expected = f"{what} raises what the handler has raised"
    if not consists_of(error, HandlerFailed):
        raise PromiseBroken(expected, f"it raised {error!r}" if error else "nothing") from error


# Cancellation


@_check(
    "If a task is waiting on something, it is cancelled immediately",
    "AnyIO, docs/cancellation; Trio: an operation that raises Cancelled has had no effect",
)
async def a_cancelled_serve_can_be_repeated(make: Listening) -> None:
    """The next one serves; unless the cancellation has closed the listener, and that is said."""
    async with make() as listener:
        async with serving(listener, echo):
            await answers(await make.connect(listener), b"hello")
            await settle()
        async with tasks() as group:
            serve = functools.partial(listener.serve, echo)
            again = await Waiting.begin(group, serve, "serve() after a cancelled one")
            if consists_of(again.error, ClosedResourceError):
                await connect_in_vain(make, listener, "to a listener that says it is closed")
                return
            again.expect_waiting()
            await answers(await make.connect(listener), b"hello again")


@_check(
    "as long as a task remains within an effectively cancelled cancel scope, it will get hit with "
    "a cancellation exception any time it hits a yield point",
    "AnyIO, docs/cancellation; Trio's rule that each operation is a checkpoint",
)
async def a_deadline_that_has_passed(make: Listening) -> None:
    """In a cancelled scope ``serve`` raises the cancellation, and takes no connection with it."""
    async with make() as listener, tasks() as group:
        over = Event()

        async def ask() -> None:
            await answers(await make.connect(listener), b"hello")
            over.set()

        group.start_soon(ask)
        await settle()
        with move_on_after(-1) as scope:
            await listener.serve(echo, group)
        expect(scope.cancelled_caught, "serve() is cancelled by a deadline in the past", "it ended")
        async with serving(listener, echo):
            await over.wait()


@_check(ACCEPT, f"{SERVE}; Trio: an operation that raises Cancelled has had no effect")
async def a_cancelled_serve_loses_no_connection(make: Listening) -> None:
    """It is cancelled at every moment around a connection, which is handled then or by the next.

    The handlers run in a group that is not cancelled.
    """
    async with make() as listener, tasks() as handlers:
        moments = [(True, early) for early in range(MOMENTS)]
        moments += [(False, early) for early in range(3 * MOMENTS)]
        for before, early in moments:
            await _cancel_serve(make, listener, handlers, before=before, early=early)


async def _cancel_serve(
    make: Listening, listener: Listener[Any], handlers: TaskGroup, *, before: bool, early: int
) -> None:
    """Cancel ``serve`` after ``early`` turns.

    :param before: let a client connect before it begins, and not at the same time
    """
    errors: list[Exception] = []
    over = Event()

    async def ask() -> None:
        try:
            client = await make.connect(listener)
            async with closed_at_the_end(client):
                await answers(client, b"hello")
        except Exception as exc:
            errors.append(exc)
        over.set()

    async with tasks() as group:
        if before:
            group.start_soon(ask)
            await settle()
        with CancelScope() as scope:
            async with create_task_group() as server:
                if not before:
                    group.start_soon(ask)
                server.start_soon(cancel_in, scope, early)
                await listener.serve(echo, handlers)
        async with serving(listener, echo):
            await over.wait()
    if errors:
        when = "before serve()" if before else "at the same time as serve()"
        raise PromiseBroken(
            f"a connection made {when}, which is cancelled after {early} turns, is handled in the "
            "end",
            f"its client got {errors[0]!r}",
        ) from errors[0]


@_check("Close the resource", "anyio.abc.AsyncResource.aclose")
async def nothing_is_left(make: Listening) -> None:
    """No socket and no task, when it has served, was cancelled, and is closed."""
    async with leaving_nothing("serve(), cancelled, and aclose()"), make() as listener:
        for _ in range(3):
            async with serving(listener, echo):
                await answers(await make.connect(listener), b"hello")
    async with leaving_nothing("a listener that is closed unused"), make() as listener:
        await listener.aclose()


# Two that serve


@_check(
    "BusyResourceError: two tasks are trying to read from or write to the same resource "
    "concurrently",
    "anyio.BusyResourceError",
)
async def two_that_serve(make: Listening) -> None:
    """The second one is refused, or serves as well; no connection is lost, and none handled twice.

    What is refused does not disturb the first one.
    """
    handled = 0

    async def handler(stream: ByteStream) -> None:
        nonlocal handled
        handled += 1
        await echo(stream)

    async with make() as listener, serving(listener, handler):
        await answers(await make.connect(listener), b"hello")
        async with tasks() as group:
            serve = functools.partial(listener.serve, handler)
            second = await Waiting.begin(group, serve, "a second serve()")
            if not consists_of(second.error, BusyResourceError):
                second.expect_waiting()
            async with create_task_group() as clients:

                async def ask(number: int) -> None:
                    await answers(await make.connect(listener), b"client %d" % number)

                for number in range(MANY):
                    clients.start_soon(ask, number)
            expect(
                handled == 1 + MANY,
                f"{1 + MANY} connections have one handler each",
                f"there were {handled} handlers",
            )


@_check(
    "BusyResourceError: two tasks are trying to read from or write to the same resource "
    "concurrently",
    "anyio.BusyResourceError; anyio.abc.SocketListener.accept",
)
async def two_that_accept(make: Listening) -> None:
    """The second one is refused at once, or each gets a connection; the first is not disturbed.

    For a listener that has ``accept``, as AnyIO's of sockets have.
    """
    async with make() as listener:
        accept: Callable[[], Awaitable[ByteStream]] | None = getattr(listener, "accept", None)
        if accept is None:
            raise SkipTest("it has no accept()")
        async with tasks() as group:
            accepting = await Waiting.begin(group, accept, "accept()")
            accepting.expect_waiting()
            second = await Waiting.begin(group, accept, "a second accept()")
            if second.over:
                await second.expect_raised(BusyResourceError, "at once")
            accepting.expect_waiting()
            await _gets_a_connection(make, listener, [accepting, second])
            third = await Waiting.begin(group, accept, "an accept() after it")
            await _gets_a_connection(make, listener, [third])


async def _gets_a_connection(
    make: Listening, listener: Listener[Any], accepting: list[Waiting[ByteStream]]
) -> None:
    """Connect once for each that waits, and expect each to get another one."""
    accepting = [each for each in accepting if not each.over]
    sent = {b"client %d" % number for number in range(len(accepting))}
    for data in sent:
        await (await make.connect(listener)).send(data)
    for each in accepting:
        await each.end()
    streams = [each.result for each in accepting if each.result is not None]
    async with closed_at_the_end(*streams):
        if len(streams) < len(accepting):
            states = " and ".join(each.state for each in accepting)
            raise PromiseBroken("each accept() returns a stream", states)
        received = {await stream.receive() for stream in streams}
        expect(received == sent, f"what clients sent, {sent}, is received", f"{received}")


# The end


@_check("Close the resource", "anyio.abc.AsyncResource.aclose")
async def close_ends_serve(make: Listening) -> None:
    """With a task group and without: it returns, or raises ``ClosedResourceError``."""
    for what, has_group in (("serve() with a task group", True), ("serve() without one", False)):
        async with make() as listener, tasks() as group, tasks() as handlers:
            serve = functools.partial(listener.serve, echo, handlers if has_group else None)
            running = await Waiting.begin(group, serve, what)
            running.expect_waiting()
            await listener.aclose()
            await settle()
            expected = f"{what} returns, or raises ClosedResourceError, when its listener closes"
            ended = running.error is None or consists_of(running.error, ClosedResourceError)
            expect(running.over and ended, expected, running.state)


@_check(
    "task_group: the task group that will be used to start tasks for handling each accepted "
    "connection",
    SERVE,
)
async def handlers_outlive_their_listener(make: Listening) -> None:
    """In a group of their own they go on when the listener is closed."""
    async with make() as listener, tasks() as handlers, tasks() as group:
        serve = functools.partial(listener.serve, echo, handlers)
        await Waiting.begin(group, serve, "serve()")
        client = await make.connect(listener)
        await answers(client, b"hello")
        await listener.aclose()
        await settle()
        await answers(client, b"still there", "the answer when the listener was closed")


@_check("Close the resource", "anyio.abc.AsyncResource.aclose; listen(2)")
async def a_closed_listener_refuses(make: Listening) -> None:
    """Connecting raises :exc:`OSError`, of which :exc:`~anyio.ConnectionFailed` is one."""
    async with make() as listener:
        await listener.aclose()
        await connect_in_vain(make, listener, "to a closed listener")
    async with make() as listener, tasks() as group:
        serve = functools.partial(listener.serve, echo, group)
        await Waiting.begin(group, serve, "serve()")
        await answers(await make.connect(listener), b"hello")
        await listener.aclose()
        await connect_in_vain(make, listener, "to a listener that has served and is closed")


@_check("ClosedResourceError: trying to use a resource that has been closed", "AnyIO's exceptions")
async def a_closed_listener_does_not_serve(make: Listening) -> None:
    """``serve`` raises it, with a task group or without."""
    for what, has_group in (("serve() with a task group", True), ("serve() without one", False)):
        async with make() as listener, tasks() as group, tasks() as handlers:
            await listener.aclose()
            serve = functools.partial(listener.serve, echo, handlers if has_group else None)
            running = await Waiting.begin(group, serve, what)
            expected = f"{what} raises ClosedResourceError after aclose()"
            if not consists_of(running.error, ClosedResourceError):
                raise PromiseBroken(expected, running.state) from running.error


@_check("Close the resource", "anyio.abc.AsyncResource.aclose; listen(2)")
async def close_ends_connections_that_nobody_accepted(make: Listening) -> None:
    """A client that has connected, or still does, sees an end, and does not wait for ever."""
    errors: list[Exception] = []
    async with make() as listener, create_task_group() as group:
        over = Event()

        async def wait_for_the_end() -> None:
            try:
                await (await make.connect(listener)).receive()
            except Exception as exc:
                errors.append(exc)
            over.set()

        group.start_soon(wait_for_the_end)
        await settle()
        await listener.aclose()
        await over.wait()
    if not errors:
        raise PromiseBroken("a client that nobody accepted sees an end", "it received bytes")
    if not isinstance(errors[0], (*ENDED, OSError)):
        raise PromiseBroken(
            "receive() raises EndOfStream or BrokenResourceError, or connecting an OSError",
            f"there was {errors[0]!r}",
        ) from errors[0]


@_check("Close the resource", "anyio.abc.AsyncResource.aclose")
async def close_can_be_repeated(make: Listening) -> None:
    """A second ``aclose``, and a forceful one after it, do nothing."""
    async with make() as listener:
        await listener.aclose()
        await listener.aclose()
        await aclose_forcefully(listener)


@_check(
    "aclose_forcefully: Doing this closes the resource without waiting on anything",
    "anyio.aclose_forcefully",
)
async def a_cancelled_close_closes(make: Listening) -> None:
    """``aclose`` in a cancelled scope raises the cancellation, or nothing; nobody listens then."""
    async with make() as listener:
        await aclose_forcefully(listener)
        await connect_in_vain(make, listener, "after a cancelled aclose()")
    async with make() as listener, tasks() as group:
        running = await Waiting.begin(
            group, functools.partial(listener.serve, echo, group), "serve()"
        )
        running.expect_waiting()
        await aclose_forcefully(listener)
        await connect_in_vain(make, listener, "after a cancelled aclose() during serve()")
        await settle()
        expect(running.over, "serve() ends when its listener closes forcefully", running.state)


# Attributes


@_check(
    "extra(attribute, default): the value of the attribute; raises TypedAttributeLookupError if it "
    "was not found and no default value was given",
    "anyio.TypedAttributeProvider.extra",
)
async def typed_attributes(make: Listening) -> None:
    """Each that is listed has a value; one that nobody has is not found."""
    async with make() as listener:
        expect_attributes(listener)
