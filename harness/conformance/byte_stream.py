"""What AnyIO's byte streams promise.

After trio's ``check_two_way_stream`` (``trio/testing/_check_streams.py``) and Go's
``nettest.TestConn`` (``golang.org/x/net/nettest/conntest.go``), in the terms of AnyIO, with what
neither looks at: what becomes of the bytes when an operation is cancelled.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Any

from anyio import (
    BrokenResourceError,
    BusyResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    Event,
    aclose_forcefully,
    create_task_group,
    current_time,
    move_on_after,
)
from anyio.abc import ByteStream, SocketAttribute
from anyio.lowlevel import checkpoint

from ..settling import settle
from .contract import (
    TIMEOUT,
    TURNS_TO_END,
    Checks,
    MakePair,
    PairCheck,
    PromiseBroken,
    Waiting,
    each_of,
    expect,
    expect_attributes,
    in_words,
    raises,
    shown,
    tasks,
    waits_for,
)
from .exchange import (
    ENDED,
    MANY_TURNS,
    MORE_THAN_FITS,
    RECEIVE,
    SEND,
    SOME,
    OneAtATime,
    Streams,
    blocked_send,
    cancel_in,
    cannot_be_blocked,
    clogged,
    difference,
    duplex,
    expect_same,
    goes_through,
    ignoring_end,
    received_is,
    send_all,
    send_until_noticed,
    some,
    until_the_end,
)

#: How many turns of the event loop an operation is given before it is cancelled, at the most.
MOMENTS = 12


_check: Checks[ByteStream] = Checks()


async def check_byte_stream(
    make_pair: MakePair[ByteStream],
    *,
    clogged_pair: MakePair[ByteStream] | None = None,
    timeout: float = TIMEOUT,
    except_for: Collection[str] = (),
    seed: int | str | None = None,
    operations: int | None = None,
    examples: int | None = None,
) -> None:
    """Check that a byte stream keeps all that AnyIO promises of one, but for ``send_eof``.

    Both streams of a pair are looked at. :func:`byte_stream_checks` has the same checks one by one.

    With ``seed`` or ``operations`` something else is done: random operations on both sides, blocked
    and cancelled ones among them, are compared with a model of what the promises mean together. A
    sequence that fails is made as short as it can be, and is in the message. That needs the package
    ``hypothesis``, the extra ``fuzz``.

    :param make_pair: an async callable that returns two connected streams, new ones at each call.
        The check closes them.
    :param clogged_pair: the same, but no ``send`` on either of them ends until the other one
        receives. By default a pair is filled up with as many bytes as it takes, as it always is
        for random operations.
    :param timeout: seconds for each check, and for a random operation that has to come to its end;
        in virtual time, what hangs takes none
    :param except_for: names of checks, for promises that the stream is known not to keep. They are
        left out; where one is broken by random operations that is passed over
    :param seed: the same one makes the same operations; by default one is drawn, or follows from
        that of pytest's run, and is told
    :param operations: the length of one sequence of operations, 20 by default
    :param examples: how many sequences there are, 100 by default
    :raises PromiseBroken: naming the promise, what was expected and what was seen; in an
        ``ExceptionGroup`` if there are several
    :raises TypeError: if ``make_pair`` does not make two streams, or ``seed`` cannot be one; what
        ``make_pair`` raises comes out as it is
    :raises ValueError: if ``timeout``, ``operations`` or ``examples`` is not positive, or
        ``except_for`` names no check
    :raises RuntimeError: if ``hypothesis`` is needed and not installed
    """
    __tracebackhide__ = True
    asked: dict[str, Any] = {"seed": seed, "operations": operations, "examples": examples}
    await check_or_fuzz(_check.all, make_pair, clogged_pair, timeout, except_for, asked)


async def check_or_fuzz(
    checks: tuple[PairCheck[ByteStream], ...],
    make_pair: MakePair[ByteStream],
    clogged_pair: MakePair[ByteStream] | None,
    timeout: float,
    except_for: Collection[str],
    asked: dict[str, Any],
    *,
    half_close: bool = False,
) -> None:
    """Run ``checks``; or random operations, if anything of them was asked for."""
    __tracebackhide__ = True
    names = [check.name for check in checks]
    if isinstance(except_for, str):
        raise TypeError(f"except_for has to be a list of names of checks, not {except_for!r}")
    for name in except_for:
        if name not in names:
            raise ValueError(f"except_for has to name checks, and none of these is {name!r}")
    if all(value is None for value in asked.values()):
        checks = tuple(check for check in checks if check.name not in except_for)
        await each_of(checks, make_pair, clogged_pair=clogged_pair, timeout=timeout)
        return
    if clogged_pair is not None:
        raise ValueError("clogged_pair is for the checks; random operations fill a pair themselves")
    from .fuzz import fuzz_byte_stream

    await fuzz_byte_stream(
        make_pair, **asked, half_close=half_close, timeout=timeout, except_for=except_for
    )


def byte_stream_checks() -> tuple[PairCheck[ByteStream], ...]:
    """All checks of :func:`check_byte_stream`, for one test each.

    ::

        @pytest.mark.parametrize("check", byte_stream_checks(), ids=str)
        async def test_my_stream(check, anyio_backend):
            await check(make_pair)
    """
    return _check.all


# Bytes


@_check("Receive at most max_bytes bytes from the peer", RECEIVE, symmetric=True)
async def what_is_sent_arrives(make: Streams) -> None:
    """A message each way, whole and in order (nettest: BasicIO), and a long one."""
    async with make() as (first, second):
        for sender, receiver in ((first, second), (second, first)):
            await goes_through(sender, receiver, bytes(range(256)) * 64, "a message of 16 KiB")
            long = random.Random(1).randbytes(3 * 1024 * 1024 + 1)
            await goes_through(sender, receiver, long, "a message of more than 3 MiB")


@_check("Send the given bytes to the peer", SEND, symmetric=True)
async def ping_pong(make: Streams) -> None:
    """A hundred small messages there and back (nettest: PingPong)."""
    async with make() as (first, second):
        for number in range(100):
            ping = number.to_bytes(8, "big")
            await goes_through(first, second, ping, f"ping {number}")
            await goes_through(second, first, ping[::-1], f"pong {number}")


@_check("Send the given bytes to the peer", SEND)
async def any_kind_of_bytes(make: Streams) -> None:
    """``bytes``, ``bytearray`` and ``memoryview``; the buffer is the caller's again afterwards."""
    async with make() as (first, second):
        buffer = bytearray(b"a bytearray")
        await goes_through(first, second, buffer, "a bytearray")
        view = memoryview(b"..a memoryview..")[2:-2]
        await goes_through(first, second, view, "a memoryview")
        async with tasks() as group:
            send: Any = first.send
            sending = await Waiting.begin(group, functools.partial(send, buffer), "send()")
            if sending.over:  # otherwise the bytes are needed until it is
                buffer[:] = b"*" * len(buffer)
            await received_is(second, b"a bytearray", "what was sent before the buffer changed")


@_check("Send the given bytes to the peer", SEND)
async def nothing_is_sent_as_nothing(make: Streams) -> None:
    """``send(b"")`` is no end of the stream, and no message: before and during a ``receive``."""
    async with make() as (first, second), create_task_group() as group:
        group.start_soon(first.send, b"")
        await settle()
        receiving = await Waiting.begin(group, second.receive, 'receive() after send(b"")')
        receiving.expect_waiting()
        group.start_soon(first.send, b"")
        await settle()
        receiving.expect_waiting()
        group.start_soon(first.send, b"y")
        await receiving.end()
        expect(receiving.result == b"y", 'receive() returns b"y"', receiving.state)


@_check("Implementers of this interface should not return an empty bytes object", RECEIVE)
async def received_are_bytes(make: Streams) -> None:
    """Each ``receive`` returns ``bytes``, and never none of them."""
    async with make() as (first, second), create_task_group() as group:
        group.start_soon(send_all, first, [b"one", b"", b"two"])
        received = b""
        while len(received) < 6:
            data = await second.receive()
            expect(type(data) is bytes, "receive() returns bytes", shown(data))
            expect(len(data) > 0, "receive() returns at least one byte", "it returned none")
            received += data


@_check("Receive at most max_bytes bytes from the peer", RECEIVE)
async def max_bytes_is_the_most(make: Streams) -> None:
    """No ``receive`` returns more than it was asked for, and the rest is not lost."""
    sent = bytes(range(200))
    received = b""
    async with make() as (first, second), create_task_group() as group:
        group.start_soon(first.send, sent)
        with waits_for(lambda: f"a receive() ({len(received)} of {len(sent)} bytes are there)"):
            for asked in (1, 2, 3, 5, 8, 13, 21, 34, 55, 89):
                if len(received) == len(sent):
                    break
                data = await second.receive(max_bytes=asked)
                most = f"receive({asked}) returns at most that many bytes"
                expect(len(data) <= asked, most, shown(data))
                received += data
            while len(received) < len(sent):
                received += await some(second, 7)
    expect_same(received, sent, "all together")


@_check("raises ValueError: if max_bytes is less than 1", RECEIVE)
async def max_bytes_is_positive(make: Streams) -> None:
    """``receive(0)`` and ``receive(-1)`` are refused, with bytes there and without."""
    async with make() as (first, second):
        for wrong in (0, -1):
            await raises(ValueError, second.receive(wrong), f"receive({wrong})")
        async with create_task_group() as group:
            group.start_soon(first.send, b"x")
            await settle()
            for wrong in (0, -1):
                await raises(
                    ValueError, second.receive(wrong), f"receive({wrong}) with bytes there"
                )
            await received_is(second, b"x", "what was there")


@_check("Iterating this byte stream will yield a byte string of arbitrary length", RECEIVE)
async def iteration_ends(make: Streams) -> None:
    """``async for`` sees all bytes, and stops at the end of the stream."""
    received = bytearray()
    async with make() as (first, second), create_task_group() as group:

        async def send_and_close() -> None:
            await send_all(first, [b"one", b"two", b"three"])
            await first.aclose()

        group.start_soon(send_and_close)
        with waits_for("the end of `async for`"):
            await until_the_end(second, received)
    expect_same(bytes(received), b"onetwothree", "the whole")


# Much


@_check("Send the given bytes to the peer", SEND, symmetric=True)
async def a_mebibyte_each_way(make: Streams) -> None:
    """Both ways at once, in chunks of random length (trio's check)."""
    async with make() as (first, second):
        await duplex(first, second, 1024 * 1024)


@_check("Send the given bytes to the peer", SEND, symmetric=True)
async def sixteen_mebibytes_each_way(make: Streams) -> None:
    """More than any buffer on the way holds."""
    async with make() as (first, second):
        await duplex(first, second, 16 * 1024 * 1024)


# Who waits lets others run


@_check(
    "as long as a task remains within an effectively cancelled cancel scope, it will get hit with "
    "a cancellation exception any time it hits a yield point",
    "AnyIO, docs/cancellation; Trio's rule that each operation is a checkpoint",
)
async def operations_are_checkpoints(make: Streams) -> None:
    """``send`` and ``receive`` let other tasks run, also when they need not wait."""
    async with make() as (first, second), tasks() as group:

        async def look(name: str, operation: Callable[[], Awaitable[object]]) -> None:
            turns = 0

            async def count() -> None:
                nonlocal turns
                while turns < 100 * MOMENTS:  # an end, also if an operation has none
                    turns += 1
                    await checkpoint()

            group.start_soon(count)
            await checkpoint()
            before = turns
            for _ in range(MOMENTS):
                await operation()
            expect(
                turns - before >= MOMENTS // 2,
                f"another task runs during {MOMENTS} {name}",
                f"it had {turns - before} turns",
            )

        async with tasks() as receiving:  # for a stream that keeps nothing
            receiving.start_soon(until_the_end, second, bytearray())
            await look("send()", functools.partial(first.send, b"x"))
            await settle(turns=MOMENTS)
        group.start_soon(send_all, first, [b"x"] * MOMENTS)
        await settle(turns=MOMENTS)
        await look("receive() with bytes there", functools.partial(second.receive, 1))


@_check(
    "If a task is waiting on something, it is cancelled immediately",
    "AnyIO, docs/cancellation; nettest: PastTimeout",
)
async def a_deadline_that_has_passed(make: Streams) -> None:
    """In a cancelled scope ``receive`` raises the cancellation, and takes nothing with it."""
    sent = Event()
    async with make() as (first, second), create_task_group() as group:

        async def keep() -> None:
            await first.send(b"kept")
            sent.set()

        for when in ("with nothing there", "with bytes there"):
            if when == "with bytes there":
                group.start_soon(keep)
                await settle()
            data = None
            with move_on_after(-1) as scope:
                data = await second.receive()
            expect(
                scope.cancelled_caught,
                f"receive() {when} is cancelled by a deadline in the past",
                f"it returned {shown(data)}",
            )
        await received_is(second, b"kept", "what was there before")
        await sent.wait()
        with move_on_after(-1) as scope:
            await first.send(b"any")
        expect(scope.cancelled_caught, "send() is cancelled by a deadline in the past", "it ended")


@_check(
    "If a task is waiting on something, it is cancelled immediately",
    "AnyIO, docs/cancellation; nettest: PresentTimeout",
)
async def a_deadline_that_is_now(make: Streams) -> None:
    """A blocked ``receive``, or ``send``, ends when its deadline is moved to this moment."""

    async def ends_now(name: str, operation: Callable[[], Awaitable[object]]) -> None:
        scope = CancelScope()

        async def operate() -> None:
            with scope:
                await operation()

        async with tasks() as group:
            operating = await Waiting.begin(group, operate, f"a blocked {name}")
            if name == "send()" and operating.over and operating.error is None:
                raise cannot_be_blocked()
            operating.expect_waiting()
            scope.deadline = current_time()
            await settle(turns=TURNS_TO_END)
            if not operating.over:
                await make.abandon()
                raise PromiseBroken(f"the {name} is cancelled", "it goes on")
        expect(scope.cancelled_caught, f"the {name} is cancelled", operating.state)

    async with make() as (first, second):
        await ends_now("receive()", second.receive)
        await goes_through(first, second, b"afterwards", "what is sent afterwards")
    async with clogged(make) as (first, _):
        await ends_now("send()", functools.partial(first.send, bytes(MORE_THAN_FITS)))


@_check(
    "If a task is waiting on something, it is cancelled immediately",
    "AnyIO, docs/cancellation; nettest: FutureTimeout, ReadTimeout, WriteTimeout",
)
async def a_deadline_to_come(make: Streams) -> None:
    """It ends a blocked ``receive`` and a blocked ``send``.

    Afterwards the other direction goes on; only a ``send`` may also have broken the stream, as it
    does on TLS, where half of a record is of no use.
    """
    async with make() as (first, second):
        with move_on_after(0.01) as scope, waits_for("the end of the receive()"):
            await first.receive()
        expect(scope.cancelled_caught, "the deadline ends the receive()", "it returned")
        await goes_through(first, second, b"after a receive", "what is sent after it")
        await goes_through(second, first, b"and back", "what is received after it")
    async with clogged(make) as (first, second):
        with move_on_after(0.01) as scope, waits_for("the end of the send()"):
            await first.send(bytes(MORE_THAN_FITS))
        if not scope.cancelled_caught:
            raise cannot_be_blocked()
        async with tasks() as group:
            group.start_soon(ignoring_end, second.send, b"the other direction")
            with suppress(BrokenResourceError):
                await received_is(first, b"the other direction", "what comes from the other side")


@_check("Wait until all other tasks are waiting for something", "anyio.wait_all_tasks_blocked")
async def what_waits_does_not_keep_the_loop_busy(make: Streams) -> None:
    """A blocked ``receive``, or ``send``, does not ask again and again."""

    async def waits(name: str, operation: Callable[[], Awaitable[object]]) -> None:
        async with tasks() as group:
            waiting = await Waiting.begin(group, operation, name, turns=MANY_TURNS)
            if name == "send()" and waiting.over and waiting.error is None:
                raise cannot_be_blocked()
            settled = await settle(turns=MANY_TURNS)
            expect(settled, f"a {name} that cannot go on waits", "it keeps the event loop busy")
            waiting.expect_waiting()
            group.cancel_scope.cancel()

    async with make() as (first, _):
        await waits("receive()", first.receive)
    async with clogged(make) as (first, _):
        await waits("send()", functools.partial(first.send, bytes(MORE_THAN_FITS)))


# One at a time


@_check(
    "BusyResourceError: two tasks are trying to read from the same resource concurrently",
    "anyio.BusyResourceError",
)
async def a_second_receiver_is_refused(make: Streams) -> None:
    """It is told so at once, and the first one is not disturbed."""
    async with make() as (first, second), create_task_group() as group:
        receiving = await Waiting.begin(group, second.receive, "the first receive()")
        receiving.expect_waiting()
        refused = await Waiting.begin(group, second.receive, "a second receive()")
        await refused.expect_raised(BusyResourceError, "at once")
        receiving.expect_waiting()
        await first.send(b"x")
        await receiving.end()
        expect(receiving.result == b"x", "the first receive() returns b'x'", receiving.state)


@_check(
    "BusyResourceError: two tasks are trying to write to the same resource concurrently",
    "anyio.BusyResourceError",
)
async def a_second_sender_is_refused(make: Streams) -> None:
    """While a ``send`` is blocked, another one is told so at once."""
    async with clogged(make) as (first, _), tasks() as group:
        sending = await blocked_send(group, first)
        refused = await Waiting.begin(group, functools.partial(first.send, b"x"), "a second send()")
        await refused.expect_raised(BusyResourceError, "at once")
        sending.expect_waiting()


@_check("A bidirectional byte stream", "anyio.abc.ByteStream")
async def a_blocked_direction_does_not_block_the_other(make: Streams) -> None:
    """While ``receive`` is blocked one can send, and the other way round."""
    async with make() as (first, second), tasks() as group:
        receiving = await Waiting.begin(group, first.receive, "receive()")
        await goes_through(first, second, b"x", "what is sent meanwhile")
        receiving.expect_waiting()
    async with clogged(make) as (first, second), tasks() as group:
        await blocked_send(group, first)
        group.start_soon(ignoring_end, second.send, b"x")
        await received_is(first, b"x", "what is received meanwhile")


@_check(
    "BusyResourceError: two tasks are trying to read from the same resource concurrently",
    "anyio.BusyResourceError; nettest: RacyRead",
)
async def racing_receivers(make: Streams) -> None:
    """Many that receive, with deadlines: some are refused, but together they miss nothing."""
    sent = random.Random(1).randbytes(64 * 1024)
    received = bytearray()
    one_at_a_time = OneAtATime()
    async with make() as (first, second), create_task_group() as group:

        async def receive_some(most: int) -> None:
            received.extend(await some(second, most))

        async def receive(number: int) -> None:
            moments = random.Random(number)
            while len(received) < len(sent):
                with CancelScope() as scope:
                    if moments.random() < 0.3:
                        group.start_soon(cancel_in, scope, moments.randrange(4))
                    await one_at_a_time.is_taken(receive_some, moments.randint(1, 2048))
                if len(received) >= len(sent):
                    group.cancel_scope.cancel()

        for number in range(8):
            group.start_soon(receive, number)
        await first.send(sent)
    expect_same(bytes(received), sent, "what they have received together")


@_check(
    "BusyResourceError: two tasks are trying to write to the same resource concurrently",
    "anyio.BusyResourceError; nettest: RacyWrite",
)
async def racing_senders(make: Streams) -> None:
    """Many that send: some are refused, but each message that was taken arrives once, whole."""
    length, each, senders = 512, 20, 6
    data = b""
    one_at_a_time = OneAtATime()
    async with make() as (first, second), create_task_group() as group:

        async def send(number: int) -> None:
            for count in range(each):
                message = bytes([number, count]) * (length // 2)
                while not await one_at_a_time.is_taken(first.send, message):
                    pass

        for number in range(senders):
            group.start_soon(send, number)
        size = length * each * senders
        with waits_for(lambda: f"the rest ({len(data)} of {size} bytes are there)"):
            while len(data) < size:
                data += await some(second)
    arrived: set[bytes] = set()
    for at in range(0, len(data), length):
        message = data[at : at + length]
        seen = f"after {len(arrived)} messages comes {shown(message)}"
        whole = message == message[:2] * (length // 2)
        expect(whole and message not in arrived, "each message arrives once, and whole", seen)
        arrived.add(message)


# The end


@_check("EndOfStream: if this stream has been closed from the other end", RECEIVE)
async def the_peers_close_ends_receive(make: Streams) -> None:
    """What was sent before it comes first; and the end stays the end."""
    async with make() as (first, second), create_task_group() as group:

        async def send_and_close() -> None:
            await first.send(b"the last words")
            await first.aclose()

        group.start_soon(send_and_close)
        await settle()
        await received_is(second, b"the last words", "what was sent before the close")
        for again in ("", ", asked again", ", and once more"):
            what = f"receive() after the peer's aclose(){again}"
            await raises(EndOfStream, second.receive(), what)


@_check("EndOfStream: if this stream has been closed from the other end", RECEIVE)
async def the_peers_close_wakes_receive(make: Streams) -> None:
    """A ``receive`` that is blocked sees it."""
    async with make() as (first, second), tasks() as group:
        receiving = await Waiting.begin(group, second.receive, "a blocked receive()")
        receiving.expect_waiting()
        await first.aclose()
        await receiving.expect_raised(EndOfStream, "when the peer closes")


@_check("EndOfStream: if this stream has been closed from the other end", RECEIVE)
async def a_close_with_unread_bytes_is_seen(make: Streams) -> None:
    """The peer closes without having read everything, which TCP makes a reset of."""
    async with make() as (first, second), create_task_group() as group:
        group.start_soon(ignoring_end, first.send, b"unread")
        await settle()
        await second.aclose()
        await raises(ENDED, first.receive(), "receive() after the peer's aclose()")


@_check(
    "BrokenResourceError: rendered unusable due to external causes (e.g. a send stream whose peer "
    "has disconnected)",
    "anyio.BrokenResourceError",
)
async def the_peers_close_breaks_send(make: Streams) -> None:
    """``send`` notices in the end, and from then on every time."""
    async with make() as (first, second):
        await second.aclose()
        await raises(BrokenResourceError, send_until_noticed(first), "send() to a closed peer")
        for again in ("again", "and once more"):
            await raises(BrokenResourceError, first.send(SOME), f"send(), {again},")


@_check(
    "BrokenResourceError: rendered unusable due to external causes (e.g. a send stream whose peer "
    "has disconnected)",
    "anyio.BrokenResourceError",
)
async def the_peers_close_wakes_send(make: Streams) -> None:
    """A ``send`` that is blocked sees it."""
    async with clogged(make) as (first, second), tasks() as group:
        sending = await blocked_send(group, first)
        await aclose_forcefully(second)
        await sending.expect_raised(BrokenResourceError, "when the peer closes")


@_check("ClosedResourceError: trying to use a resource that has been closed", "AnyIO's exceptions")
async def a_closed_stream_does_not_receive(make: Streams) -> None:
    """After its own ``aclose``, not even what had arrived before."""
    async with make() as (first, second), tasks() as group:
        group.start_soon(ignoring_end, second.send, b"there")
        await settle()
        await first.aclose()
        await raises(ClosedResourceError, first.receive(), "receive() after aclose()")


@_check("ClosedResourceError: trying to use a resource that has been closed", "AnyIO's exceptions")
async def a_closed_stream_does_not_send(make: Streams) -> None:
    """After its own ``aclose``."""
    async with make() as (first, second), tasks() as group:
        group.start_soon(ignoring_end, second.send, b"there")
        await settle()
        await first.aclose()
        await raises(ClosedResourceError, first.send(b"x"), "send() after aclose()")


@_check("ClosedResourceError: trying to use a resource that has been closed", "AnyIO's exceptions")
async def a_closed_stream_does_not_send_nothing(make: Streams) -> None:
    """``send(b"")`` is refused like any other."""
    async with make() as (first, second), tasks() as group:
        group.start_soon(ignoring_end, second.send, b"there")
        await settle()
        await first.aclose()
        await raises(ClosedResourceError, first.send(b""), "send(b'') after aclose()")


@_check(
    "Works as an asynchronous context manager which returns the instance itself on enter, and "
    "calls aclose() on exit",
    "anyio.abc.AsyncResource",
)
async def the_end_of_a_block_closes(make: Streams) -> None:
    """``async with`` gives the stream itself, and has closed it afterwards."""
    async with make() as (first, second):
        async with first as entered:
            expect(entered is first, "async with stream as x: x is the stream", shown(entered))
        refused = (ClosedResourceError, BrokenResourceError)
        await raises(refused, first.receive(), "receive() after async with")
        await raises(EndOfStream, second.receive(), "receive() of the peer")


@_check(
    "Iterating this byte stream will yield a byte string of arbitrary length",
    "anyio.abc.ByteReceiveStream",
)
async def iteration_receives_to_the_end(make: Streams) -> None:
    """``async for`` has all bytes, and stops at the end."""
    sent = bytes(range(256)) * 300
    received = bytearray()
    async with make() as (first, second):

        async def send() -> None:
            await first.send(sent)
            await first.aclose()

        async with tasks() as group:
            group.start_soon(send)
            with waits_for(lambda: f"async for ({len(received)} of {len(sent)} bytes are there)"):
                await until_the_end(second, received)
    expect_same(bytes(received), sent, "all together")


@_check("Close the resource", "anyio.abc.AsyncResource.aclose")
async def close_can_be_repeated(make: Streams) -> None:
    """A second ``aclose``, and a forceful one after it, do nothing."""
    async with make() as (first, second):
        for stream in (first, second):
            await stream.aclose()
            await stream.aclose()
            await aclose_forcefully(stream)
            refused = (ClosedResourceError, BrokenResourceError)
            await raises(refused, stream.receive(), "receive() after all of them")


@_check("Close the resource", "anyio.abc.AsyncResource.aclose")
async def sent_bytes_survive_the_close(make: Streams) -> None:
    """What ``send`` has taken arrives, though the stream was closed at once after it."""
    sent = random.Random(2).randbytes(48 * 1024)
    received = bytearray()
    async with make() as (first, second), create_task_group() as group:

        async def send_and_close() -> None:
            await first.send(sent)
            await first.aclose()

        group.start_soon(send_and_close)
        with waits_for(lambda: f"the end, after {len(received)} bytes"):
            await until_the_end(second, received)
    expect_same(bytes(received), sent, "what is received")


@_check(
    "Close an asynchronous resource in a cancelled scope. Doing this closes the resource without "
    "waiting on anything",
    "anyio.aclose_forcefully",
)
async def a_forceful_close_is_seen(make: Streams) -> None:
    """The peer sees an end or a break: no bytes, and it does not wait for ever."""
    async with make() as (first, second), tasks() as group:
        receiving = await Waiting.begin(group, second.receive, "a blocked receive()")
        await aclose_forcefully(first)
        await receiving.expect_raised(ENDED, "when the peer closes forcefully")
    async with make() as (first, second):
        await aclose_forcefully(first)
        await raises(ENDED, second.receive(), "receive() after the peer's forceful close")
        await raises(BrokenResourceError, send_until_noticed(second), "send() after it")
        await raises(ClosedResourceError, first.send(b"x"), "send() on the closed side")


@_check(
    "aclose_forcefully: Doing this closes the resource without waiting on anything",
    "anyio.aclose_forcefully",
)
async def a_cancelled_close_closes(make: Streams) -> None:
    """``aclose`` in a cancelled scope raises the cancellation, or nothing; it closes."""
    async with make() as (first, second):
        with CancelScope() as scope:
            scope.cancel()
            await first.aclose()
        await raises(ClosedResourceError, first.receive(), "receive() after a cancelled aclose()")
        await raises(ClosedResourceError, first.send(b"x"), "send() after a cancelled aclose()")
        await raises(ENDED, second.receive(), "receive() of the peer")


@_check("ClosedResourceError: trying to use a resource that has been closed", "AnyIO's exceptions")
async def close_wakes_receive(make: Streams) -> None:
    """A ``receive`` that is blocked while its own side closes."""
    async with make() as (first, _), tasks() as group:
        receiving = await Waiting.begin(group, first.receive, "a blocked receive()")
        receiving.expect_waiting()
        await aclose_forcefully(first)
        await receiving.expect_raised(ClosedResourceError, "when its own side closes")


@_check("ClosedResourceError: trying to use a resource that has been closed", "AnyIO's exceptions")
async def close_wakes_send(make: Streams) -> None:
    """A ``send`` that is blocked while its own side closes."""
    async with clogged(make) as (first, _), tasks() as group:
        sending = await blocked_send(group, first)
        await aclose_forcefully(first)
        await sending.expect_raised(ClosedResourceError, "when its own side closes")


@_check(
    "ClosedResourceError: trying to use a resource that has been closed",
    "AnyIO's exceptions; nettest: CloseTimeout, ConcurrentMethods",
)
async def methods_at_the_same_time(make: Streams) -> None:
    """Everything at once, in many tasks: each call ends, with one of AnyIO's exceptions or none."""
    allowed = (*ENDED, BusyResourceError, ClosedResourceError)
    wrong: list[tuple[str, BaseException]] = []
    over = False
    async with make() as (first, second), create_task_group() as group:

        async def call(name: str, function: Callable[[], Awaitable[object]]) -> None:
            for _ in range(100 * MOMENTS):  # an end, also if a close has none
                if over:
                    break
                try:
                    await function()
                except allowed:
                    await checkpoint()
                except Exception as exc:
                    wrong.append((name, exc))
                    await checkpoint()

        async def look() -> None:
            with suppress(OSError):  # a socket that is closed may have no address
                first.extra(SocketAttribute.local_address, None)
            await checkpoint()

        for _ in range(6):
            for name, function in (
                ("receive()", first.receive),
                ("send()", functools.partial(first.send, b"x" * 1000)),
                ("extra()", look),
            ):
                group.start_soon(call, name, function)
            group.start_soon(call, "the peer's receive()", second.receive)
        for stream in (first, second):
            for _ in range(MOMENTS):
                await checkpoint()
            await stream.aclose()
        for _ in range(MOMENTS):
            await checkpoint()
        over = True
    for name, exc in wrong:
        expected = f"{name} raises {in_words(allowed)}, or nothing"
        raise PromiseBroken.by(exc, expected, f"it raised {exc!r}") from exc


# Cancellation


@_check(
    "Receive at most max_bytes bytes from the peer",
    f"{RECEIVE}; Trio: an operation that raises Cancelled has had no effect",
)
async def a_cancelled_receive_loses_nothing(make: Streams) -> None:
    """It is cancelled at every moment around the arrival of bytes; those come out in the end."""
    messages = [number.to_bytes(2, "big") for number in range(MOMENTS * MOMENTS)]
    sent, received = b"".join(messages), bytearray()
    async with make() as (first, second), tasks() as group:

        async def send_at_every_moment() -> None:
            for number, message in enumerate(messages):
                for _ in range(number // MOMENTS):
                    await checkpoint()
                await first.send(message)

        group.start_soon(send_at_every_moment)
        for turn in range(4 * len(messages)):
            if len(received) == len(sent):
                break
            with CancelScope() as scope:
                group.start_soon(cancel_in, scope, turn % MOMENTS)
                received += await second.receive()
        with waits_for(lambda: f"the rest ({len(received)} of {len(sent)} bytes are there)"):
            while len(received) < len(sent):
                received += await some(second)
    expect_same(bytes(received), sent, "what all of them have received")


@_check(
    "Send the given bytes to the peer",
    f"{SEND}; Trio, SendStream.send_all: it may have sent some, all, or none of the data",
)
async def a_cancelled_send_repeats_nothing(make: Streams) -> None:
    """What arrives is the beginning of what was sent; then the stream is broken, or goes on."""
    sent = random.Random(3).randbytes(1024 * 1024) * (MORE_THAN_FITS // (1024 * 1024))
    async with clogged(make) as (first, second):
        with CancelScope() as scope:
            async with create_task_group() as group:
                group.start_soon(cancel_in, scope, MOMENTS)
                await first.send(sent)
                raise cannot_be_blocked()
        received = bytearray()
        refused: list[BaseException] = []
        tail = b"after it"

        async def send_tail() -> None:
            try:
                await first.send(tail)
                await first.aclose()
            except (BrokenResourceError, ClosedResourceError, BusyResourceError) as exc:
                refused.append(exc)
                await aclose_forcefully(first)

        async with create_task_group() as group:
            group.start_soon(send_tail)
            with suppress(BrokenResourceError):
                await until_the_end(second, received)
        if not refused and received.endswith(tail):
            del received[-len(tail) :]
        elif not refused:
            raise PromiseBroken(
                "after a cancelled send(), the next one raises, or its bytes arrive",
                "it returned, and they did not",
            )
        expect(
            sent.startswith(received),
            f"what arrives is the beginning of what was sent, {len(sent)} bytes",
            difference(bytes(received), sent[: len(received)]),
        )


@_check("Close the resource", "anyio.abc.AsyncResource.aclose; trio's check")
async def cancelled_operations_do_not_keep_it_open(make: Streams) -> None:
    """After a cancelled ``send`` and ``receive``, both sides still close without a fault."""
    async with clogged(make) as (first, second):
        with CancelScope() as scope:
            async with create_task_group() as group:
                group.start_soon(cancel_in, scope, MOMENTS)
                group.start_soon(first.send, bytes(MORE_THAN_FITS))
                group.start_soon(first.receive)
        with waits_for("aclose() of both"):
            async with create_task_group() as group:
                group.start_soon(first.aclose)
                group.start_soon(second.aclose)
        refused = (ClosedResourceError, BrokenResourceError)
        await raises(refused, first.receive(), "receive() after aclose()")


# Attributes


@_check(
    "extra(attribute, default): the value of the attribute; raises TypedAttributeLookupError if it "
    "was not found and no default value was given",
    "anyio.TypedAttributeProvider.extra",
    symmetric=True,
)
async def typed_attributes(make: Streams) -> None:
    """Each that is listed has a value; the addresses of both sides fit together."""
    async with make() as (first, second):
        for stream in (first, second):
            expect_attributes(stream)
        for here, there in ((first, second), (second, first)):
            local = here.extra(SocketAttribute.local_address, None)
            remote = there.extra(SocketAttribute.remote_address, None)
            if local and remote:
                expect(local == remote, f"the peer's remote address is {local!r}", repr(remote))
