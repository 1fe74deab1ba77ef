"""What AnyIO's object streams promise.

The two ends are what sends and what receives, as ``anyio.create_memory_object_stream`` gives them.
Where each of them does both (``anyio.abc.ObjectStream``), each way is looked at, and ``send_eof``.

No check asks how much a stream keeps: a ``send`` may end at once, or not until somebody receives.
"""

from __future__ import annotations

import functools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from unittest import SkipTest

from anyio import (
    BrokenResourceError,
    BusyResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    aclose_forcefully,
    create_task_group,
    current_time,
    move_on_after,
)
from anyio.abc import ObjectReceiveStream, ObjectSendStream, ObjectStream, TaskGroup
from anyio.lowlevel import checkpoint

from ..settling import settle
from .byte_stream import MOMENTS
from .contract import (
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
    expect_attributes,
    raises,
    shown,
    tasks,
)
from .exchange import ENDED, MANY_SENDS, cancel_in, ignoring_end

RECEIVE = "anyio.abc.UnreliableObjectReceiveStream.receive"
SEND = "anyio.abc.UnreliableObjectSendStream.send"
ORDER = "anyio.abc.ObjectReceiveStream"
SEND_EOF = "anyio.abc.ObjectStream.send_eof"
AT_ONCE = "If a task is waiting on something, it is cancelled immediately"

Sender = ObjectSendStream[Any]
Receiver = ObjectReceiveStream[Any]

#: Makes the two ends of a stream: what sends, and what receives; or two that do both.
MakeEnds = Callable[[], Awaitable[tuple[Sender, Receiver]]]

#: Items after which a ``send`` that never waits is taken for one that never will.
MANY_ITEMS = 1000


@dataclass(frozen=True)
class Item:
    """What the checks send where nothing else is asked for: equal if its number is."""

    number: int


class Ends:
    """What a check makes its streams with. They are closed when the block ends.

    ::

        async with make() as (sender, receiver):
            ...

    :ivar two_way: whether both ends send and receive; known when there have been some
    """

    def __init__(
        self,
        make_pair: MakeEnds,
        clogged_pair: MakeEnds | None,
        make_item: Callable[[int], Any] | None,
        *,
        turned: bool,
    ) -> None:
        self._make_pair = make_pair
        self._clogged_pair = clogged_pair
        self._make_item = make_item
        self._turned = turned
        self.two_way: bool = False

    def __call__(self) -> AbstractAsyncContextManager[tuple[Sender, Receiver]]:
        return self._made_by(self._make_pair)

    def clogged(self) -> AbstractAsyncContextManager[tuple[Sender, Receiver]]:
        """Two ends for :func:`blocked_send`."""
        return self._made_by(self._clogged_pair or self._make_pair)

    @asynccontextmanager
    async def both_ways(self) -> AsyncIterator[tuple[ObjectStream[Any], ObjectStream[Any]]]:
        """Two ends that both send and receive. Raises :exc:`unittest.SkipTest` where they do not.

        They may do so by their methods alone, without being an ``ObjectStream`` by class.
        """
        first: Any
        second: Any
        async with self() as (first, second):
            if not self.two_way:
                raise SkipTest("these streams go one way only")
            yield first, second

    @property
    def any_object(self) -> bool:
        """Whether the stream takes every object, and not only what ``make_item`` makes."""
        return self._make_item is None

    def item(self, number: int) -> Any:
        return Item(number) if self._make_item is None else self._make_item(number)

    def items(self, count: int) -> list[Any]:
        return [self.item(number) for number in range(count)]

    @asynccontextmanager
    async def _made_by(self, make: MakeEnds) -> AsyncIterator[tuple[Sender, Receiver]]:
        first: Any
        second: Any
        first, second = await make()
        self.two_way = hasattr(first, "receive") and hasattr(second, "send")
        if self._turned:
            first, second = second, first
        async with closed_at_the_end(first, second):
            yield first, second


class ObjectStreamCheck(Check[Ends]):
    """A check of the two ends of an object stream.

    ``await check(make_pair)`` makes ends by ``await make_pair()`` and looks at the way from the
    first to the second; and at the way back, if there is one.

    :ivar symmetric: whether one look sees both ways
    :ivar two_way: whether it is about streams that go both ways, and skipped for others
    """

    def __init__(
        self,
        function: Callable[[Ends], Awaitable[None]],
        *,
        promise: str,
        source: str,
        symmetric: bool = False,
        two_way: bool = False,
    ) -> None:
        super().__init__(function, promise=promise, source=source)
        self.symmetric: bool = symmetric
        self.two_way: bool = two_way

    async def __call__(
        self,
        make_pair: MakeEnds,
        *,
        make_item: Callable[[int], Any] | None = None,
        clogged_pair: MakeEnds | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        """Check that the promise is kept.

        :param make_pair: an async callable that returns what sends and what receives, or two
            streams that do both
        :param make_item: makes the item of a number, a different one for each
        :param clogged_pair: as ``make_pair``, but no ``send`` ends until the other end receives
        :param timeout: seconds for each look
        :raises PromiseBroken: if it is not kept
        :raises unittest.SkipTest: if it cannot be found out with these streams; pytest skips then
        """
        __tracebackhide__ = True
        checked_maker(make_pair, "make_pair")
        if clogged_pair is not None:
            checked_maker(clogged_pair, "clogged_pair")
        ends = Ends(make_pair, clogged_pair, make_item, turned=False)
        await self.look(ends, timeout=timeout)
        if ends.two_way and not self.symmetric:
            ends = Ends(make_pair, clogged_pair, make_item, turned=True)
            await self.look(ends, timeout=timeout, turned=True)


_check: CheckList[Ends, ObjectStreamCheck] = CheckList(ObjectStreamCheck)


async def check_object_stream(
    make_pair: MakeEnds,
    *,
    make_item: Callable[[int], Any] | None = None,
    clogged_pair: MakeEnds | None = None,
    timeout: float = TIMEOUT,
) -> None:
    """Check that an object stream keeps all that AnyIO promises of one.

    :func:`object_stream_checks` has the same checks one by one.

    :param make_pair: an async callable that returns two ends that are connected, new ones at each
        call: what sends and what receives, or two streams that do both. The check closes them.
    :param make_item: makes the item of a number, a different one for each number; items are
        compared by ``==``. By default the stream has to take any object.
    :param clogged_pair: as ``make_pair``, but no ``send`` ends until the other end receives. By
        default a stream is filled up with as many items as it takes, 1000 at the most.
    :param timeout: seconds for each check; in virtual time, what hangs takes none
    :raises PromiseBroken: naming the promise, what was expected and what was seen; in an
        ``ExceptionGroup`` if there are several
    """
    __tracebackhide__ = True
    options = {"make_item": make_item, "clogged_pair": clogged_pair, "timeout": timeout}
    await each_of(_check.all, make_pair, **options)


def object_stream_checks() -> tuple[ObjectStreamCheck, ...]:
    """All checks of :func:`check_object_stream`, for one test each."""
    return _check.all


# Sending and receiving


async def send_all(sender: Sender, items: list[Any]) -> None:
    for item in items:
        await sender.send(item)


async def goes_through(sender: Sender, receiver: Receiver, items: list[Any], what: str) -> None:
    async with create_task_group() as group:
        group.start_soon(send_all, sender, items)
        expect_same([await receiver.receive() for _ in items], items, what)


def expect_same(received: list[Any], sent: list[Any], what: str) -> None:
    __tracebackhide__ = True
    if received == sent:
        return
    pairs = zip(received, sent, strict=False)
    same = next(
        (at for at, (one, other) in enumerate(pairs) if one != other),
        min(len(received), len(sent)),
    )
    raise PromiseBroken(
        f"{what} is {_in_short(sent)}",
        f"{_in_short(received)}, which differs from number {same} on: {_in_short(received[same:])} "
        f"instead of {_in_short(sent[same:])}",
    )


def _in_short(items: list[Any]) -> str:
    if len(items) <= 4:
        return f"[{', '.join(map(shown, items))}]"
    return f"{len(items)} items, [{', '.join(map(shown, items[:3]))}, ...]"


async def send_until_noticed(sender: Sender, item: Any) -> str:
    for _ in range(MANY_SENDS):
        await sender.send(item)
        await checkpoint()  # its `send` may be none, and nothing would ever be noticed
    return f"nothing, {MANY_SENDS} times"


async def blocked_send(group: TaskGroup, make: Ends, sender: Sender) -> Waiting[None]:
    sending = await Waiting.begin(
        group, functools.partial(send_all, sender, make.items(MANY_ITEMS)), "a blocked send()"
    )
    if sending.over and sending.error is None:
        raise SkipTest(
            f"{MANY_ITEMS} times its send() does not wait for a receive(), so it cannot be "
            "blocked. A `clogged_pair` may help"
        )
    sending.expect_waiting()
    return sending


async def let_others_run() -> None:
    for _ in range(MOMENTS):
        await checkpoint()


# Items


@_check("Send an item to the peer(s)", SEND)
async def what_is_sent_is_received(make: Ends) -> None:
    """One item: what ``receive`` returns is equal to it."""
    async with make() as (sender, receiver):
        await goes_through(sender, receiver, make.items(1), "what is received")


@_check("Object streams deal with Python objects", "AnyIO, docs/streams")
async def any_object_is_an_item(make: Ends) -> None:
    """Also one that is false, ``None``, or an exception: none of them is an end of the stream."""
    if not make.any_object:
        raise SkipTest("its items are made by `make_item`")
    items = [None, False, 0, "", b"", (), [], EndOfStream(), EndOfStream, object()]
    async with make() as (sender, receiver):
        await goes_through(sender, receiver, items, "what is received")


@_check(
    "guarantees that messages are received in the same order in which they were sent, and that no "
    "messages are missed",
    ORDER,
)
async def order_is_kept(make: Ends) -> None:
    """A hundred items: each once, in order, while the one side sends and the other receives."""
    async with make() as (sender, receiver):
        await goes_through(sender, receiver, make.items(100), "what is received")


@_check(
    "guarantees that messages are received in the same order in which they were sent, and that no "
    "messages are missed",
    ORDER,
)
async def order_is_kept_in_between(make: Ends) -> None:
    """The receiver only begins when no more can be sent: what was kept comes out in order."""
    items = make.items(20)
    async with make() as (sender, receiver), tasks() as group:
        await Waiting.begin(group, functools.partial(send_all, sender, items), "send()")
        expect_same([await receiver.receive() for _ in items], items, "what is received")


@_check("Send an item to the peer(s)", SEND)
async def an_item_is_one_object(make: Ends) -> None:
    """Two ``send`` are two ``receive``, however close they come: items have boundaries."""
    items = make.items(2)
    async with make() as (sender, receiver), tasks() as group:
        await Waiting.begin(group, functools.partial(send_all, sender, items), "send()")
        first = await receiver.receive()
        expect(first == items[0], f"the first receive() returns {shown(items[0])}", shown(first))


@_check(
    "Asynchronously iterating over objects of this type will yield objects matching the given type "
    "parameter",
    "anyio.abc.UnreliableObjectReceiveStream",
)
async def iteration_ends(make: Ends) -> None:
    """``async for`` sees all items, and stops when the sender has closed."""
    items = make.items(3)
    received = []
    async with make() as (sender, receiver):

        async def send_and_close() -> None:
            await send_all(sender, items)
            await sender.aclose()

        async with create_task_group() as group:
            group.start_soon(send_and_close)
            async for item in receiver:
                received.append(item)
    expect_same(received, items, "what the iteration yields")


# Who waits lets others run


@_check(
    "as long as a task remains within an effectively cancelled cancel scope, it will get hit with "
    "a cancellation exception any time it hits a yield point",
    "AnyIO, docs/cancellation; Trio's rule that each operation is a checkpoint",
)
async def operations_are_checkpoints(make: Ends) -> None:
    """``send`` and ``receive`` let other tasks run, also when they need not wait."""
    async with make() as (sender, receiver), tasks() as group:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await checkpoint()

        group.start_soon(count)
        send = functools.partial(sender.send, make.item(0))
        for name, before, operation in (
            ("send() while somebody receives", receiver.receive, send),
            ("receive() with an item there", send, receiver.receive),
        ):
            gained = 0
            for _ in range(TRIES):
                group.start_soon(before)
                await let_others_run()
                at = turns
                await operation()
                gained += turns - at
                await let_others_run()
            expect(
                gained > 0,
                f"another task runs during {TRIES} {name}",
                "it had no turn",
            )


@_check(
    "If a task is waiting on something, it is cancelled immediately", "AnyIO, docs/cancellation"
)
async def a_deadline_that_has_passed(make: Ends) -> None:
    """In a cancelled scope ``receive`` raises the cancellation, and takes nothing with it."""
    items = make.items(2)
    async with make() as (sender, receiver), create_task_group() as group:
        for when in ("with nothing there", "with an item there"):
            if when == "with an item there":
                group.start_soon(send_all, sender, items[:1])
                await settle()
            item = None
            with move_on_after(-1) as scope:
                item = await receiver.receive()
            expect(
                scope.cancelled_caught,
                f"receive() {when} is cancelled by a deadline in the past",
                f"it returned {shown(item)}",
            )
        expect_same([await receiver.receive()], items[:1], "what was there before")
        with move_on_after(-1) as scope:
            await sender.send(items[1])
        expect(scope.cancelled_caught, "send() is cancelled by a deadline in the past", "it ended")


@_check(
    "If a task is waiting on something, it is cancelled immediately", "AnyIO, docs/cancellation"
)
async def a_deadline_that_is_now(make: Ends) -> None:
    """A blocked ``receive`` ends when somebody moves its deadline to this moment."""
    async with make() as (sender, receiver):
        scope = CancelScope()
        ended: list[object] = []

        async def receive() -> None:
            with scope:
                ended.append(await receiver.receive())
            ended.append("cancelled")

        async with create_task_group() as group:
            group.start_soon(receive)
            await settle()
            scope.deadline = current_time()
        expect(ended == ["cancelled"], "the receive() is cancelled", f"it ended with {ended}")
        await goes_through(sender, receiver, make.items(1), "what is sent afterwards")


@_check(
    "If a task is waiting on something, it is cancelled immediately", "AnyIO, docs/cancellation"
)
async def a_deadline_ends_a_receive(make: Ends) -> None:
    """A blocked ``receive`` ends when its time has come; afterwards the stream goes on."""
    async with make() as (sender, receiver):
        with move_on_after(0.01) as scope:
            await receiver.receive()
        expect(scope.cancelled_caught, "the deadline ends the receive()", "it returned")
        await goes_through(sender, receiver, make.items(1), "what is sent after it")


@_check(
    "If a task is waiting on something, it is cancelled immediately", "AnyIO, docs/cancellation"
)
async def a_deadline_ends_a_send(make: Ends) -> None:
    """A blocked ``send`` ends when its time has come."""
    async with make.clogged() as (sender, _):
        with move_on_after(0.01) as scope:
            await send_all(sender, make.items(MANY_ITEMS))
        if not scope.cancel_called:
            raise SkipTest("its send() does not wait, so no deadline can end it")
        expect(scope.cancelled_caught, "the deadline ends the send()", "it returned")


# One at a time, or many


@_check(
    "BusyResourceError: two tasks are trying to read from the same resource concurrently",
    "anyio.BusyResourceError; AnyIO, docs/streams: each sent item is only ever delivered to a "
    "single recipient",
)
async def racing_receivers(make: Ends) -> None:
    """Many that receive, with deadlines: some may be refused, but together they miss nothing."""
    sent = make.items(200)
    received: list[Any] = []
    async with make() as (sender, receiver), create_task_group() as group:

        async def receive(number: int) -> None:
            moments = random.Random(number)
            while True:
                with CancelScope() as scope:
                    async with tasks() as canceller:
                        if moments.random() < 0.3:
                            canceller.start_soon(cancel_in, scope, moments.randrange(6))
                        try:
                            received.append(await receiver.receive())
                        except BusyResourceError:
                            await checkpoint()
                        except EndOfStream:
                            return

        for number in range(6):
            group.start_soon(receive, number)
        await send_all(sender, sent)
        await sender.aclose()
    counts = [received.count(item) for item in sent]
    expect(
        len(received) == len(sent) and set(counts) == {1},
        f"each of {len(sent)} items is received once",
        f"{counts.count(0)} are missing, {len(received) - sum(map(bool, counts))} are too many",
    )


@_check(
    "BusyResourceError: two tasks are trying to write to the same resource concurrently",
    "anyio.BusyResourceError; anyio.abc.ObjectSendStream: delivered in the same order in which "
    "they were sent",
)
async def racing_senders(make: Ends) -> None:
    """Many that send: some may be refused, but what is taken arrives once, each one's in order."""
    each, senders = 30, 5
    received = []
    async with make() as (sender, receiver), create_task_group() as group:
        left = senders

        async def send(number: int) -> None:
            nonlocal left
            for count in range(each):
                while True:
                    try:
                        await sender.send(make.item(number * each + count))
                        break
                    except BusyResourceError:
                        await checkpoint()
            left -= 1
            if not left:
                await sender.aclose()

        for number in range(senders):
            group.start_soon(send, number)
        async for item in receiver:
            received.append(item)
    for number in range(senders):
        wanted = [make.item(number * each + count) for count in range(each)]
        got = [item for item in received if item in wanted]
        expect_same(got, wanted, f"what is received from sender {number}")
    expect(
        len(received) == each * senders,
        f"{each * senders} items are received",
        f"there were {len(received)}",
    )


@_check("A bidirectional message stream", "anyio.abc.ObjectStream", two_way=True)
async def a_blocked_direction_does_not_block_the_other(make: Ends) -> None:
    """While ``receive`` is blocked one can send, and the other way round."""
    items = make.items(1)
    async with make.both_ways() as (first, second), tasks() as group:
        receiving = await Waiting.begin(group, first.receive, "receive()")
        await goes_through(first, second, items, "what is sent meanwhile")
        receiving.expect_waiting()
    async with make.both_ways() as (first, second), tasks() as group:
        await Waiting.begin(
            group, functools.partial(send_all, first, make.items(MANY_ITEMS)), "send()"
        )
        await goes_through(second, first, items, "what is received meanwhile")


# The end


@_check("EndOfStream: if this stream has been closed from the other end", RECEIVE)
async def the_senders_close_ends_the_stream(make: Ends) -> None:
    """What was sent before it comes first; and the end stays the end."""
    items = make.items(3)
    async with make() as (sender, receiver), create_task_group() as group:

        async def send_and_close() -> None:
            await send_all(sender, items)
            await sender.aclose()

        group.start_soon(send_and_close)
        await settle()
        received = [await receiver.receive() for _ in items]
        expect_same(received, items, "what was sent before the close")
        for again in ("", ", asked again", ", and once more"):
            await raises(EndOfStream, receiver.receive(), f"receive() after the sender's{again}")


@_check("EndOfStream: if this stream has been closed from the other end", RECEIVE)
async def the_senders_close_wakes_receive(make: Ends) -> None:
    """A ``receive`` that is blocked sees it."""
    async with make() as (sender, receiver), tasks() as group:
        receiving = await Waiting.begin(group, receiver.receive, "a blocked receive()")
        receiving.expect_waiting()
        await sender.aclose()
        await receiving.expect_raised(EndOfStream, "when the sender closes")


@_check(
    "BrokenResourceError: if this stream has been rendered unusable due to external causes", SEND
)
async def the_receivers_close_breaks_send(make: Ends) -> None:
    """``send`` notices in the end, and from then on every time."""
    item = make.item(0)
    async with make() as (sender, receiver):
        await receiver.aclose()
        await raises(
            BrokenResourceError, send_until_noticed(sender, item), "send() to a closed receiver"
        )
        for again in ("again", "and once more"):
            await raises(BrokenResourceError, sender.send(item), f"send(), {again},")


@_check(
    "BrokenResourceError: if this stream has been rendered unusable due to external causes", SEND
)
async def the_receivers_close_wakes_send(make: Ends) -> None:
    """A ``send`` that is blocked sees it."""
    async with make.clogged() as (sender, receiver), tasks() as group:
        sending = await blocked_send(group, make, sender)
        await aclose_forcefully(receiver)
        await sending.expect_raised(BrokenResourceError, "when the receiver closes")


@_check("EndOfStream: if this stream has been closed from the other end", RECEIVE, two_way=True)
async def a_close_with_unread_items_is_seen(make: Ends) -> None:
    """The peer closes without having received everything: its own end sees that as well."""
    async with make.both_ways() as (first, second), create_task_group() as group:
        group.start_soon(ignoring_end, send_all, first, make.items(2))
        await settle()
        await second.aclose()
        await raises(ENDED, first.receive(), "receive() after the peer's aclose()")


@_check("ClosedResourceError: if the receive stream has been explicitly closed", RECEIVE)
async def a_closed_stream_does_not_receive(make: Ends) -> None:
    """After its own ``aclose``, not even what had arrived before."""
    async with make() as (sender, receiver), tasks() as group:
        group.start_soon(ignoring_end, send_all, sender, make.items(1))
        await settle()
        await receiver.aclose()
        await raises(ClosedResourceError, receiver.receive(), "receive() after aclose()")


@_check("ClosedResourceError: if the send stream has been explicitly closed", SEND)
async def a_closed_stream_does_not_send(make: Ends) -> None:
    """After its own ``aclose``, also when somebody waits for an item."""
    async with make() as (sender, receiver), tasks() as group:
        await sender.aclose()
        await raises(ClosedResourceError, sender.send(make.item(0)), "send() after aclose()")
        group.start_soon(ignoring_end, receiver.receive)
        await raises(ClosedResourceError, sender.send(make.item(0)), "send(), asked again,")


@_check("Close the resource", "anyio.abc.AsyncResource.aclose")
async def close_can_be_repeated(make: Ends) -> None:
    """A second ``aclose``, and a forceful one after it, do nothing."""
    async with make() as (sender, receiver):
        for stream in (sender, receiver):
            await stream.aclose()
            await stream.aclose()
            await aclose_forcefully(stream)
        await raises(ClosedResourceError, sender.send(make.item(0)), "send() after all of them")
        await raises(ClosedResourceError, receiver.receive(), "receive() after all of them")


@_check(
    "Close an asynchronous resource in a cancelled scope. Doing this closes the resource without "
    "waiting on anything",
    "anyio.aclose_forcefully",
)
async def a_forceful_close_of_the_sender_is_seen(make: Ends) -> None:
    """The receiver sees an end or a break: no item, and it does not wait for ever."""
    async with make() as (sender, receiver), tasks() as group:
        receiving = await Waiting.begin(group, receiver.receive, "a blocked receive()")
        await aclose_forcefully(sender)
        await receiving.expect_raised(ENDED, "when the sender closes forcefully")
    async with make() as (sender, receiver):
        await aclose_forcefully(sender)
        await raises(ENDED, receiver.receive(), "receive() after the sender's forceful close")
        item = make.item(0)
        await raises(ClosedResourceError, sender.send(item), "send() on the closed side")


@_check(
    "Close an asynchronous resource in a cancelled scope. Doing this closes the resource without "
    "waiting on anything",
    "anyio.aclose_forcefully",
)
async def a_forceful_close_of_the_receiver_is_seen(make: Ends) -> None:
    """The sender notices in the end."""
    async with make() as (sender, receiver), tasks() as group:
        await aclose_forcefully(receiver)
        closed = await Waiting.begin(group, receiver.receive, "receive() on the closed side")
        await closed.expect_raised(ClosedResourceError, "at once")
        await raises(
            BrokenResourceError,
            send_until_noticed(sender, make.item(0)),
            "send() after the receiver's forceful close",
        )


@_check(
    "aclose_forcefully: Doing this closes the resource without waiting on anything",
    "anyio.aclose_forcefully",
    two_way=True,
)
async def a_cancelled_close_closes_both_directions(make: Ends) -> None:
    """``aclose`` in a cancelled scope closes what it sends with, and what it receives with."""
    item = make.item(0)
    async with make.both_ways() as (first, second), tasks() as group:
        await aclose_forcefully(first)
        for what, operation in (
            ("receive() after a cancelled aclose()", first.receive),
            ("send() after a cancelled aclose()", functools.partial(first.send, item)),
        ):
            closed = await Waiting.begin(group, operation, what)
            await closed.expect_raised(ClosedResourceError, "at once")
        await raises(ENDED, second.receive(), "receive() of the peer")
        noticed = send_until_noticed(second, item)
        await raises(BrokenResourceError, noticed, "send() of the peer")


@_check("ClosedResourceError: if the receive stream has been explicitly closed", RECEIVE)
async def close_wakes_receive(make: Ends) -> None:
    """A ``receive`` that is blocked while its own side closes."""
    async with make() as (_, receiver), tasks() as group:
        receiving = await Waiting.begin(group, receiver.receive, "a blocked receive()")
        receiving.expect_waiting()
        await aclose_forcefully(receiver)
        await receiving.expect_raised(ClosedResourceError, "when its own side closes")


@_check("ClosedResourceError: if the send stream has been explicitly closed", SEND)
async def close_wakes_send(make: Ends) -> None:
    """A ``send`` that is blocked while its own side closes."""
    async with make.clogged() as (sender, _), tasks() as group:
        sending = await blocked_send(group, make, sender)
        await aclose_forcefully(sender)
        await sending.expect_raised(ClosedResourceError, "when its own side closes")


# One direction


@_check("Send an end-of-file indication to the peer", SEND_EOF, two_way=True)
async def eof_ends_the_peers_receive(make: Ends) -> None:
    """What was sent before it comes first; and the end stays the end."""
    items = make.items(3)
    async with make.both_ways() as (first, second), create_task_group() as group:

        async def send_and_end() -> None:
            await send_all(first, items)
            await first.send_eof()

        group.start_soon(send_and_end)
        await settle()
        received = [await second.receive() for _ in items]
        expect_same(received, items, "what was sent before the end")
        for again in ("", ", asked again", ", and once more"):
            await raises(EndOfStream, second.receive(), f"receive() after send_eof(){again}")


@_check("Send an end-of-file indication to the peer", SEND_EOF, two_way=True)
async def eof_wakes_the_peers_receive(make: Ends) -> None:
    """A ``receive`` that is blocked sees it."""
    async with make.both_ways() as (first, second), tasks() as group:
        receiving = await Waiting.begin(group, second.receive, "a blocked receive()")
        receiving.expect_waiting()
        await first.send_eof()
        await receiving.expect_raised(EndOfStream, "when the peer sends the end")


@_check("Send an end-of-file indication to the peer", SEND_EOF, two_way=True)
async def eof_leaves_the_other_direction_alone(make: Ends) -> None:
    """The side that has sent the end still receives, before and after the other one sees it."""
    items = make.items(3)
    async with make.both_ways() as (first, second):
        await first.send_eof()
        await goes_through(second, first, items, "what is sent back")
        await raises(EndOfStream, second.receive(), "receive() after send_eof()")
        await goes_through(second, first, items, "what is sent back after it was seen")
        async with tasks() as group:
            receiving = await Waiting.begin(group, first.receive, "receive() after send_eof()")
            receiving.expect_waiting()


@_check("This method is idempotent (does nothing on successive calls)", SEND_EOF, two_way=True)
async def eof_can_be_repeated(make: Ends) -> None:
    """Before and after the peer has seen the end."""
    async with make.both_ways() as (first, second):
        await first.send_eof()
        await first.send_eof()
        await raises(EndOfStream, second.receive(), "receive() after two send_eof()")
        await first.send_eof()
        await goes_through(second, first, make.items(1), "what is sent back")


@_check(
    "You should not try to send any further data to this stream after calling this method",
    SEND_EOF,
    two_way=True,
)
async def send_after_eof_is_refused(make: Ends) -> None:
    """With one of AnyIO's exceptions; and the peer gets none of it."""
    async with make.both_ways() as (first, second):
        await first.send_eof()
        refused = (ClosedResourceError, BrokenResourceError)
        await raises(refused, first.send(make.item(0)), "send() after send_eof()")
        await raises(EndOfStream, second.receive(), "receive() of the peer")


@_check(
    "ClosedResourceError: trying to use a resource that has been closed",
    "AnyIO's exceptions",
    two_way=True,
)
async def eof_after_close_is_refused(make: Ends) -> None:
    """After its own ``aclose`` a stream cannot send the end."""
    async with make.both_ways() as (first, _):
        await first.aclose()
        await raises(ClosedResourceError, first.send_eof(), "send_eof() after aclose()")


# Cancellation


@_check(
    "guarantees that messages are received in the same order in which they were sent, and that no "
    "messages are missed",
    f"{ORDER}; Trio: an operation that raises Cancelled has had no effect",
)
async def a_cancelled_receive_loses_nothing(make: Ends) -> None:
    """It is cancelled at every moment around an arrival; the item is there for the next one."""
    async with make() as (sender, receiver):
        for turn in range(MOMENTS * MOMENTS):
            late, early = divmod(turn, MOMENTS)
            # The second one is there so that nobody waits for ever if the first one is lost.
            sent = [make.item(2 * turn), make.item(2 * turn + 1)]
            received: list[Any] = []

            async def send_late(late: int = late, sent: list[Any] = sent) -> None:
                for _ in range(late):
                    await checkpoint()
                await send_all(sender, sent)

            async with create_task_group() as group:
                group.start_soon(send_late)
                with CancelScope() as scope:
                    async with tasks() as canceller:
                        canceller.start_soon(cancel_in, scope, early)
                        received.append(await receiver.receive())
                while not received or received[-1] != sent[-1]:
                    received.append(await receiver.receive())
            when = f"sent after {late} turns, with a receive() cancelled after {early}"
            expect_same(received, sent, f"what is received of two items, {when},")


@_check(
    "without missing any messages in the middle",
    "anyio.abc.ObjectSendStream; Trio: an operation that raises Cancelled has had no effect",
)
async def a_cancelled_send_sends_once_or_not_at_all(make: Ends) -> None:
    """It is cancelled at every moment around a ``receive``. What it has sent is sent once.

    Afterwards the stream goes on, or is broken, as one may be that has sent half of an item.
    """
    kept = await _kept_without_receive(make)
    # Where all is kept, no `send` waits; where much is, it takes long to fill.
    for before in {0, kept if kept <= MOMENTS * MOMENTS else 0}:
        for turn in range(MOMENTS * MOMENTS):
            late, early = divmod(turn, MOMENTS)
            await _cancel_a_send(make, before, late, early)


async def _kept_without_receive(make: Ends) -> int:
    """How many items are sent before a ``send`` waits."""
    kept = 0
    async with make() as (sender, _), tasks() as group:

        async def fill() -> None:
            nonlocal kept
            for item in make.items(MANY_ITEMS):
                await sender.send(item)
                kept += 1

        group.start_soon(fill)
        await settle()
    return kept


async def _cancel_a_send(make: Ends, before: int, late: int, early: int) -> None:
    items = make.items(before + 2)
    first, last = items[before:]
    received: list[Any] = []
    ended = broken = False
    async with make() as (sender, receiver):
        await send_all(sender, items[:before])

        async def receive_late() -> None:
            for _ in range(late):
                await checkpoint()
            async for item in receiver:
                received.append(item)
                if item == last:
                    break

        async with create_task_group() as group:
            group.start_soon(ignoring_end, receive_late)
            with CancelScope() as scope:
                async with tasks() as canceller:
                    canceller.start_soon(cancel_in, scope, early)
                    await sender.send(first)
                    ended = True
            try:
                await sender.send(last)
            except (BrokenResourceError, ClosedResourceError):
                broken = True
                await aclose_forcefully(sender)
    allowed = [items] if ended else [items, [*items[:before], last]]
    if broken and not ended:
        allowed = [items[: before + 1], items[:before]]
    outcome = "that ended" if ended else f"cancelled after {early} turns"
    expect(
        received in allowed,
        f"after a send() {outcome}, {' or '.join(map(_in_short, allowed))} is received",
        _in_short(received),
    )


@_check("Close the resource", "anyio.abc.AsyncResource.aclose; trio's check")
async def cancelled_operations_do_not_keep_it_open(make: Ends) -> None:
    """After a cancelled ``send`` and ``receive``, both sides still close without a fault."""
    async with make.clogged() as (sender, receiver):
        async with tasks() as group:
            group.start_soon(send_all, sender, make.items(MANY_ITEMS))
            await settle()
        async with tasks() as group:
            group.start_soon(ignoring_end, receiver.receive)
            await let_others_run()
        async with create_task_group() as group:
            group.start_soon(sender.aclose)
            group.start_soon(receiver.aclose)
        await raises(ClosedResourceError, receiver.receive(), "receive() after aclose()")
        await raises(ClosedResourceError, sender.send(make.item(0)), "send() after aclose()")


# Attributes


@_check(
    "extra(attribute, default): the value of the attribute; raises TypedAttributeLookupError if it "
    "was not found and no default value was given",
    "anyio.TypedAttributeProvider.extra",
    symmetric=True,
)
async def typed_attributes(make: Ends) -> None:
    """Each that is listed has a value; one that nobody has is not found."""
    async with make() as (sender, receiver):
        for stream in (sender, receiver):
            expect_attributes(stream)
