"""What AnyIO's connectables promise.

At the other end of the connectable that is checked somebody has to listen who sends back all that
comes, and closes its end of the connection when the other end is closed: otherwise no check could
tell what it has connected to, nor what is left of a connection. If that is in the same process, as
it mostly is in a test, its sockets and tasks are looked at like all others.

What the streams promise is not looked at here; :func:`check_byte_stream` is there for that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from unittest import SkipTest

from anyio import (
    CancelScope,
    ConnectionFailed,
    aclose_forcefully,
    create_task_group,
    current_time,
    move_on_after,
)
from anyio.abc import ByteStream, ByteStreamConnectable
from anyio.lowlevel import checkpoint

from ..settling import settle
from .byte_stream import MOMENTS
from .contract import (
    LOOKS,
    TIMEOUT,
    TRIES,
    Check,
    CheckList,
    PromiseBroken,
    Waiting,
    checked_maker,
    closed_at_the_end,
    each_of,
    expect,
    leaving_nothing,
    raises,
    tasks,
)
from .exchange import cancel_in, received_is

CONNECT = "anyio.abc.ByteStreamConnectable.connect"
FAILS = "ConnectionFailed: if the connection fails"

#: Makes a connectable.
MakeConnectable = Callable[[], Awaitable[ByteStreamConnectable]]

#: Connections at the same time, where there are many.
MANY = 20

#: Turns of the event loop after which it is busy, if it still is.
MANY_TURNS = 1000


class Connecting:
    """What a check connects with. The streams are closed when the block ends.

    ::

        async with make() as connect:
            stream = await connect()
    """

    def __init__(
        self,
        make_connectable: MakeConnectable,
        refusing: MakeConnectable | None,
        hanging: MakeConnectable | None,
    ) -> None:
        self._make_connectable = make_connectable
        self._refusing = refusing
        self._hanging = hanging

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Callable[[], Awaitable[ByteStream]]]:
        connectable = await self._make_connectable()
        streams: list[ByteStream] = []

        async def connect() -> ByteStream:
            stream = await connectable.connect()
            streams.append(stream)
            return stream

        try:
            yield connect
        finally:
            async with closed_at_the_end(*streams):
                pass

    async def refusing(self) -> ByteStreamConnectable:
        """One at whose other end nobody listens."""
        if self._refusing is None:
            raise SkipTest("a connectable where nobody listens was not given (`refusing`)")
        return await self._refusing()

    async def hanging(self) -> ByteStreamConnectable:
        """One whose ``connect`` does not end."""
        if self._hanging is None:
            raise SkipTest("a connectable where nobody answers was not given (`hanging`)")
        return await self._hanging()


class ConnectableCheck(Check[Connecting]):
    """A check of a connectable.

    ``await check(make_connectable)`` makes one by ``await make_connectable()``.
    """

    async def __call__(
        self,
        make_connectable: MakeConnectable,
        *,
        refusing: MakeConnectable | None = None,
        hanging: MakeConnectable | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        """Check that the promise is kept.

        :param make_connectable: an async callable that returns a connectable; whoever listens there
            sends back what comes
        :param refusing: the same, but nobody listens there, so that ``connect`` fails
        :param hanging: the same, but ``connect`` does not end until it is cancelled
        :param timeout: seconds that it may take
        :raises PromiseBroken: if it is not kept
        :raises unittest.SkipTest: if it cannot be found out here; pytest skips then
        """
        __tracebackhide__ = True
        checked_maker(make_connectable, "make_connectable", "a connectable")
        for name, make in (("refusing", refusing), ("hanging", hanging)):
            if make is not None:
                checked_maker(make, name, "a connectable")
        await self.look(Connecting(make_connectable, refusing, hanging), timeout=timeout)


_check: CheckList[Connecting, ConnectableCheck] = CheckList(ConnectableCheck)


async def check_connectable(
    make_connectable: MakeConnectable,
    *,
    refusing: MakeConnectable | None = None,
    hanging: MakeConnectable | None = None,
    timeout: float = TIMEOUT,
) -> None:
    """Check that a connectable keeps all that AnyIO promises of one.

    :func:`connectable_checks` has the same checks one by one.

    :param make_connectable: an async callable that returns a connectable; it may be the same one
        each time. Whoever listens at its other end has to send back all that comes, and to close
        the connection when the other side does.
    :param refusing: an async callable that returns one where nobody listens, or whose ``connect``
        fails in another way; without it, what then happens is not looked at
    :param hanging: an async callable that returns one whose ``connect`` waits until it is
        cancelled, as nobody answers; without it, this is not looked at
    :param timeout: seconds for each check; in virtual time, what hangs takes none
    :raises PromiseBroken: naming the promise, what was expected and what was seen; in an
        ``ExceptionGroup`` if there are several
    """
    __tracebackhide__ = True
    options = {"refusing": refusing, "hanging": hanging, "timeout": timeout}
    await each_of(_check.all, make_connectable, **options)


def connectable_checks() -> tuple[ConnectableCheck, ...]:
    """All checks of :func:`check_connectable`, for one test each."""
    return _check.all


async def sends_back(stream: ByteStream, data: bytes, what: str = "what is sent back") -> None:
    await stream.send(data)
    await received_is(stream, data, what)


# Connecting


@_check("Connect to the remote endpoint; return a bytestream connected to the remote end", CONNECT)
async def connect_gives_a_byte_stream(make: Connecting) -> None:
    """What is sent on it arrives there, and comes back."""
    async with make() as connect:
        stream = await connect()
        expect(isinstance(stream, ByteStream), "connect() returns a ByteStream", f"{stream!r}")
        await sends_back(stream, b"hello")
        await sends_back(stream, bytes(range(256)) * 16, "what is sent back of 4 KiB")


@_check("Connect to the remote endpoint; return a bytestream connected to the remote end", CONNECT)
async def each_connect_is_another_stream(make: Connecting) -> None:
    """Three at the same time do not mix, and one that is closed does not end the others."""
    async with make() as connect:
        streams = [await connect() for _ in range(3)]
        different = len({id(stream) for stream in streams})
        expect(different == 3, "three connect() return three streams", f"{different} different")
        for number, stream in enumerate(streams):
            await stream.send(b"message %d" % number)
        for number, stream in reversed(list(enumerate(streams))):
            await received_is(stream, b"message %d" % number, "what comes back")
        await aclose_forcefully(streams[1])
        for stream in (streams[0], streams[2]):
            await sends_back(stream, b"still there", "what is sent back when another has closed")


@_check("Connect to the remote endpoint; return a bytestream connected to the remote end", CONNECT)
async def it_connects_again(make: Connecting) -> None:
    """After a stream was closed, another one can be had from the same connectable."""
    async with make() as connect:
        for _ in range(3):
            async with closed_at_the_end(stream := await connect()):
                await sends_back(stream, b"hello")


@_check("Connect to the remote endpoint; return a bytestream connected to the remote end", CONNECT)
async def many_at_once(make: Connecting) -> None:
    """Twenty ``connect`` in tasks of their own: each gets a stream of its own."""
    async with make() as connect, create_task_group() as group:

        async def ask(number: int) -> None:
            await sends_back(await connect(), b"stream %d" % number)

        for number in range(MANY):
            group.start_soon(ask, number)


@_check(
    "as long as a task remains within an effectively cancelled cancel scope, it will get hit with "
    "a cancellation exception any time it hits a yield point",
    "AnyIO, docs/cancellation; Trio's rule that each operation is a checkpoint",
)
async def connect_is_a_checkpoint(make: Connecting) -> None:
    """It lets other tasks run, also when it need not wait."""
    async with make() as connect, tasks() as group:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await checkpoint()

        group.start_soon(count)
        for _ in range(MOMENTS):
            await checkpoint()
        before, times = turns, 4
        for _ in range(times):
            await connect()
        gained = turns - before
        expect(
            gained >= times // 2,
            f"another task runs during {times} connect()",
            f"it had {gained} turns",
        )


# Refused


@_check(FAILS, CONNECT)
async def a_refused_connect_raises_connection_failed(make: Connecting) -> None:
    """It raises that, and not only :exc:`OSError`, each time."""
    connectable = await make.refusing()
    for again in ("", ", asked again"):
        what = f"connect() that is refused{again}"
        await raises(ConnectionFailed, connectable.connect(), what)


@_check(FAILS, CONNECT)
async def a_refused_connect_leaves_nothing(make: Connecting) -> None:
    """No socket and no task."""
    connectable = await make.refusing()
    async with leaving_nothing("a connect() that fails"):
        await raises(Exception, connectable.connect(), "connect() that is refused")


# Cancellation


@_check(
    "If a task is waiting on something, it is cancelled immediately",
    "AnyIO, docs/cancellation",
)
async def a_deadline_that_has_passed(make: Connecting) -> None:
    """In a cancelled scope ``connect`` raises the cancellation, and leaves nothing."""
    async with make() as connect:
        async with leaving_nothing("connect() in a cancelled scope"):
            with move_on_after(-1) as scope:
                await connect()
        expect(
            scope.cancelled_caught, "connect() is cancelled by a deadline in the past", "it ended"
        )


@_check(
    "If a task is waiting on something, it is cancelled immediately",
    "AnyIO, docs/cancellation; Trio: an operation that raises Cancelled has had no effect",
)
async def a_cancelled_connect_leaves_nothing(make: Connecting) -> None:
    """It is cancelled at every moment: there is a stream then, or no socket and no task."""
    # The first moments again and again: trio runs the tasks of one turn in any order.
    for early in [*range(4 * MOMENTS), *([0, 1, 2] * TRIES)]:
        what = f"a connect() that is cancelled after {early} turns"
        async with leaving_nothing(what), make() as connect:
            stream: ByteStream | None = None
            with CancelScope() as scope:
                async with tasks() as canceller:
                    canceller.start_soon(cancel_in, scope, early)
                    stream = await connect()
            if stream is not None:
                await sends_back(stream, b"hello")
    async with make() as connect:
        await sends_back(await connect(), b"hello", "what is sent back after all of them")


@_check(
    f"If a task is waiting on something, it is cancelled immediately; {FAILS}",
    f"AnyIO, docs/cancellation; {CONNECT}",
)
async def a_connect_that_nobody_answers(make: Connecting) -> None:
    """It waits until its deadline, or fails: no stream, and no socket and no task is left."""
    connectable = await make.hanging()
    stream: ByteStream | None = None
    async with leaving_nothing("connect() where nobody answers, when its deadline is over"):
        with move_on_after(0.05), suppress(ConnectionFailed):
            stream = await connectable.connect()
        if stream is not None:
            await aclose_forcefully(stream)
            expected = "connect() waits, or raises ConnectionFailed, where nobody answers"
            raise PromiseBroken(expected, f"it returned {stream!r}")


@_check("Wait until all other tasks are waiting for something", "anyio.wait_all_tasks_blocked")
async def a_connect_that_nobody_answers_does_not_keep_the_loop_busy(make: Connecting) -> None:
    """While it waits, every task may be blocked: it does not ask again and again."""
    connectable = await make.hanging()
    scope = CancelScope()

    async def connect() -> None:
        with scope:
            await aclose_forcefully(await connectable.connect())

    settled = over = False
    async with leaving_nothing("connect() where nobody answers, when its deadline is over"):
        async with create_task_group() as group:
            connecting = await Waiting.begin(group, connect, "connect()", turns=MANY_TURNS)
            over = connecting.over
            settled = await settle(turns=MANY_TURNS)
            # By a timer, as long as there is one: where the loop is busy, nothing else may come
            # through; where time is virtual, a timer does not.
            scope.deadline = current_time() + 0.01
            for _ in range(LOOKS):
                if not connecting.over:
                    await settle(turns=MANY_TURNS)
            scope.cancel()
        if over:
            raise SkipTest("its connect() does not wait")
        expect(settled, "a connect() that cannot go on waits", "it keeps the event loop busy")
