"""What AnyIO's datagram sockets promise.

There are two kinds of them: a connected socket (``ConnectedUDPSocket``,
``ConnectedUNIXDatagramSocket``) sends and receives ``bytes``, any other one (``UDPSocket``,
``UNIXDatagramSocket``) ``(bytes, address)``. To a check both are a :class:`Side`, which sends
datagrams to the other side and receives them.

They are unreliable by contract (``anyio.abc.UnreliableObjectStream``): datagrams may be lost, or
come in another order. Between two sockets of one machine the only cause for that is a queue that is
full. So a check that waits for a datagram never has more than a few small ones under way; what
comes of more is not looked at.
"""

from __future__ import annotations

import functools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from unittest import SkipTest

from anyio import (
    BrokenResourceError,
    BusyResourceError,
    CancelScope,
    ClosedResourceError,
    aclose_forcefully,
    create_task_group,
    current_time,
    move_on_after,
)
from anyio.abc import SocketAttribute, UnreliableObjectStream
from anyio.lowlevel import checkpoint

from ..settling import settle
from .byte_stream import MOMENTS
from .contract import (
    TIMEOUT,
    TRIES,
    Check,
    CheckList,
    MakePair,
    Pairs,
    PromiseBroken,
    Waiting,
    checked_maker,
    each_of,
    expect,
    expect_attributes,
    raises,
    shown,
    tasks,
)
from .exchange import cancel_in, expect_same, ignoring_end

RECEIVE = "anyio.abc.UnreliableObjectReceiveStream.receive"
SEND = "anyio.abc.UnreliableObjectSendStream.send"
AT_ONCE = "If a task is waiting on something, it is cancelled immediately"

Socket = UnreliableObjectStream[Any]

#: Tells the address that items for a socket have; ``None`` if its own items are ``bytes`` alone.
AddressOf = Callable[[Any], Any]

#: Datagrams that are under way at the same time, at the most. Linux keeps ten for a unix socket.
FEW = 5

#: Sends after which one that never waits is taken for one that never will.
MANY_SENDS = 200

#: Turns of the event loop that they take, at the most.
MANY_TURNS = 10 * MANY_SENDS


def address_of(socket: Socket) -> Any:
    """The local address of a socket; ``None`` if it is connected, and has a remote one."""
    if socket.extra(SocketAttribute.remote_address, None) is not None:
        return None
    return socket.extra(SocketAttribute.local_address)


class Side:
    """One of two sockets, whichever kind it is.

    :ivar socket: the socket itself
    :ivar connected: whether its items are ``bytes`` alone
    """

    def __init__(self, socket: Socket, peer: Socket, address: AddressOf) -> None:
        self.socket: Socket = socket
        self.connected: bool = address(socket) is None
        self._peers_address = address(peer)
        if self._peers_address is None and not self.connected:
            self._peers_address = peer.extra(SocketAttribute.local_address)

    def item(self, data: bytes) -> Any:
        """What the socket's ``send`` takes to send ``data`` to the other side."""
        return data if self.connected else (data, self._peers_address)

    async def send(self, data: bytes) -> None:
        await self.socket.send(self.item(data))

    async def receive(self) -> bytes:
        return self.data(await self.socket.receive())

    def data(self, item: Any) -> bytes:
        """The datagram of what the socket's ``receive`` has returned."""
        if not self.connected:
            expected = "receive() returns (bytes, address)"
            expect(isinstance(item, tuple) and len(item) == 2, expected, shown(item))
            item = item[0]
        expect(type(item) is bytes, "a datagram is bytes", shown(item))
        data: bytes = item
        return data

    async def aclose(self) -> None:
        await self.socket.aclose()


class Sides:
    """What a check makes its sockets with. They are closed when the block ends.

    ::

        async with make() as (first, second):
            ...
    """

    def __init__(self, make_pair: MakePair[Socket], address: AddressOf, *, turned: bool) -> None:
        self._pairs: Pairs[Socket] = Pairs(make_pair, None, turned=turned)
        self._address = address

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[tuple[Side, Side]]:
        async with self._pairs() as (first, second):
            yield Side(first, second, self._address), Side(second, first, self._address)


class DatagramCheck(Check[Sides]):
    """A check of two datagram sockets that reach one another.

    ``await check(make_pair)`` makes pairs by ``await make_pair()`` and looks at them from both
    sides.
    """

    async def __call__(
        self,
        make_pair: MakePair[Any],
        *,
        address: AddressOf | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        """Check that the promise is kept.

        :param make_pair: an async callable that returns two sockets, each the other's peer
        :param address: tells the address of one of them, as its peer's items have it; ``None`` for
            a socket whose own items are ``bytes``
        :param timeout: seconds for each of the two looks
        :raises PromiseBroken: if it is not kept
        :raises unittest.SkipTest: if it cannot be found out with these sockets; pytest skips then
        """
        __tracebackhide__ = True
        checked_maker(make_pair, "make_pair", "two sockets")
        for turned in (False, True):
            sides = Sides(make_pair, address or address_of, turned=turned)
            await self.look(sides, timeout=timeout, turned=turned)


_check: CheckList[Sides, DatagramCheck] = CheckList(DatagramCheck)


async def check_datagram_socket(
    make_pair: MakePair[Any], *, address: AddressOf | None = None, timeout: float = TIMEOUT
) -> None:
    """Check that a datagram socket keeps all that AnyIO promises of one.

    Both sockets of a pair are looked at. :func:`datagram_checks` has the same checks one by one.

    :param make_pair: an async callable that returns two sockets, each the other's peer, new ones at
        each call; connected ones or not, or one of each. The check closes them.
    :param address: tells the address of a socket as its peer's items have it, or ``None`` for one
        whose own items are ``bytes``. By default a socket with
        :attr:`anyio.abc.SocketAttribute.remote_address` is of the latter kind, and any other one is
        reached at its ``local_address``.
    :param timeout: seconds for each check; in virtual time, what hangs takes none
    :raises PromiseBroken: naming the promise, what was expected and what was seen; in an
        ``ExceptionGroup`` if there are several
    """
    __tracebackhide__ = True
    await each_of(_check.all, make_pair, address=address, timeout=timeout)


def datagram_checks() -> tuple[DatagramCheck, ...]:
    """All checks of :func:`check_datagram_socket`, for one test each."""
    return _check.all


# Sending and receiving


async def send_all(side: Side, datagrams: list[bytes]) -> None:
    for data in datagrams:
        await side.send(data)


async def arrive(sender: Side, receiver: Side, datagrams: list[bytes], what: str) -> None:
    """Send all of them, a few, before one is received, and expect these, in any order."""
    async with tasks() as group:
        await Waiting.begin(group, functools.partial(send_all, sender, datagrams), "send()")
        received = [await receiver.receive() for _ in datagrams]
        for data in datagrams:
            if data in received:
                received.remove(data)
            else:
                seen = ", ".join(map(shown, received))
                raise PromiseBroken(f"{what} arrives as {shown(data)}", f"there is {seen}")


@asynccontextmanager
async def blocked_send(
    side: Side, scope: CancelScope | None = None
) -> AsyncIterator[Waiting[None]]:
    """A ``send`` that cannot go on, until the block ends: then its side is closed.

    It may keep the event loop busy, and not end when it is cancelled; only one check is about that.

    :param scope: cancels it
    """

    async def send() -> None:
        with scope or CancelScope():
            await send_all(side, [b"x" * 100] * MANY_SENDS)

    async with create_task_group() as group:
        try:
            sending = await Waiting.begin(group, send, "a blocked send()", turns=MANY_TURNS)
            if sending.over and sending.error is None:
                raise SkipTest(
                    f"{MANY_SENDS} times its send() does not wait: it drops what does not fit"
                )
            sending.expect_waiting()
            yield sending
        finally:
            await aclose_forcefully(side.socket)


async def let_others_run() -> None:
    for _ in range(MOMENTS):
        await checkpoint()


# Datagrams


@_check("Send an item to the peer(s)", SEND)
async def what_is_sent_arrives(make: Sides) -> None:
    """A datagram, and after it another one."""
    async with make() as (first, second):
        for data in (b"one datagram", b"another"):
            await arrive(first, second, [data], "a datagram")


@_check(
    "UNIX datagram sockets implement communication of data packets (similarly to UDP)",
    "AnyIO, docs/networking",
)
async def boundaries_are_kept(make: Sides) -> None:
    """Several that are sent at once: what was sent by one ``send`` is one ``receive``."""
    async with make() as (first, second):
        datagrams = [b"x", b"yy", b"x", b"zzz" * 100, b"last"]
        await arrive(first, second, datagrams[:FEW], "one of several datagrams")


@_check("Send an item to the peer(s)", f"{SEND}; RFC 768: the minimum value of the length is eight")
async def an_empty_datagram(make: Sides) -> None:
    """It arrives like any other, as ``b""``."""
    async with make() as (first, second), create_task_group() as group:
        # The second one is there so that nobody waits for ever if the first one does not arrive.
        group.start_soon(send_all, first, [b"", b"after it"])
        received = await second.receive()
        expect(received == b"", "an empty datagram arrives", f"first came {shown(received)}")
        received = await second.receive()
        expect(received == b"after it", "then the one after it arrives", shown(received))


@_check("Send an item to the peer(s)", SEND)
async def any_length(make: Sides) -> None:
    """From one byte to 8 KiB, more than a network packet: whole, and nothing is cut off."""
    async with make() as (first, second):
        for length in (1, 2, 3, 511, 512, 1472, 1473, 4096, 8192):
            data = random.Random(length).randbytes(length)
            await arrive(first, second, [data], f"a datagram of {length} bytes")


@_check("Send an item to the peer(s)", SEND)
async def a_very_long_datagram_arrives_whole_or_not_at_all(make: Sides) -> None:
    """One of 100,000 bytes, more than UDP has: it may be refused, or lost, but not cut.

    And the socket can still be used.
    """
    data = random.Random(0).randbytes(100_000)
    async with make() as (first, second), create_task_group() as group:

        async def send_both() -> None:
            try:
                await first.send(data)
            except (BrokenResourceError, OSError, ValueError):
                await checkpoint()  # it is refused
            await first.send(b"after it")

        group.start_soon(send_both)
        received = await second.receive()
        if received == data:
            received = await second.receive()
        expect(received == b"after it", "all of it arrives, or the one after it", shown(received))


@_check(
    "reads a packet and then sends a packet to the sender",
    "AnyIO, docs/networking, Working with UDP sockets",
)
async def the_senders_address_comes_with_it(make: Sides) -> None:
    """And what is sent to that address is received by the sender."""
    async with make() as (first, second):
        if second.connected:
            raise SkipTest("it is connected, so all its datagrams come from the same address")
        item: Any = None
        async with create_task_group() as group:
            group.start_soon(first.send, b"ping")
            item = await second.socket.receive()
        second.data(item)
        known = first.socket.extra(SocketAttribute.local_address, None)
        if known:
            expect(item[1] == known, f"the datagram comes from {known!r}", f"from {item[1]!r}")
        async with create_task_group() as group:
            group.start_soon(second.socket.send, (b"pong", item[1]))
            answer = await first.receive()
            expect(answer == b"pong", "the answer to that address is received", shown(answer))


@_check(
    "Asynchronously iterating over objects of this type will yield objects matching the given type "
    "parameter",
    "anyio.abc.UnreliableObjectReceiveStream",
)
async def iteration(make: Sides) -> None:
    """``async for`` yields what ``receive`` returns."""
    async with make() as (first, second), create_task_group() as group:
        datagrams = [b"one", b"two", b"three"]
        group.start_soon(send_all, first, datagrams)
        received = []
        async for item in second.socket:
            received.append(second.data(item))
            if len(received) == len(datagrams):
                break
        expect(sorted(received) == sorted(datagrams), f"it yields {datagrams}", f"{received}")


# Who waits lets others run


@_check(
    "as long as a task remains within an effectively cancelled cancel scope, it will get hit with "
    "a cancellation exception any time it hits a yield point",
    "AnyIO, docs/cancellation; Trio's rule that each operation is a checkpoint",
)
async def operations_are_checkpoints(make: Sides) -> None:
    """``send`` and ``receive`` let other tasks run, also when they need not wait."""
    async with make() as (first, second), tasks() as group:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await checkpoint()

        group.start_soon(count)
        gained = {"send()": 0, "receive() with a datagram there": 0}
        for _ in range(TRIES):
            for name, operation in (
                ("send()", functools.partial(first.send, b"x")),
                ("receive() with a datagram there", second.receive),
            ):
                await let_others_run()
                before = turns
                await operation()
                gained[name] += turns - before
        for name, total in gained.items():
            expect(
                total > 0,
                f"another task runs during {TRIES} {name}",
                "it had no turn",
            )


@_check(AT_ONCE, "AnyIO, docs/cancellation")
async def a_deadline_that_has_passed(make: Sides) -> None:
    """In a cancelled scope ``receive`` raises the cancellation, and takes nothing with it."""
    async with make() as (first, second), create_task_group() as group:
        for when in ("with nothing there", "with a datagram there"):
            if when == "with a datagram there":
                group.start_soon(first.send, b"kept")
                await settle()
            data = None
            with move_on_after(-1) as scope:
                data = await second.receive()
            expect(
                scope.cancelled_caught,
                f"receive() {when} is cancelled by a deadline in the past",
                f"it returned {shown(data)}",
            )
        expect_same(await second.receive(), b"kept", "what was there before")
        with move_on_after(-1) as scope:
            await first.send(b"any")
        expect(scope.cancelled_caught, "send() is cancelled by a deadline in the past", "it ended")


@_check(AT_ONCE, "AnyIO, docs/cancellation")
async def a_deadline_that_is_now(make: Sides) -> None:
    """A blocked ``receive`` ends when somebody moves its deadline to this moment."""
    async with make() as (first, second):
        scope = CancelScope()
        ended: list[object] = []

        async def receive() -> None:
            with scope:
                ended.append(await second.receive())
            ended.append("cancelled")

        async with create_task_group() as group:
            group.start_soon(receive)
            await settle()
            scope.deadline = current_time()
        expect(ended == ["cancelled"], "the receive() is cancelled", f"it ended with {ended}")
        await arrive(first, second, [b"afterwards"], "what is sent afterwards")


@_check(AT_ONCE, "AnyIO, docs/cancellation")
async def a_deadline_to_come(make: Sides) -> None:
    """A blocked ``receive`` ends when its time has come; afterwards both directions go on."""
    async with make() as (first, second):
        with move_on_after(0.01) as scope:
            await second.receive()
        expect(scope.cancelled_caught, "the deadline ends the receive()", "it returned")
        await arrive(first, second, [b"afterwards"], "what is sent after it")
        await arrive(second, first, [b"and back"], "what is sent back")


@_check(AT_ONCE, "AnyIO, docs/cancellation")
async def a_blocked_send_can_be_cancelled(make: Sides) -> None:
    """It ends at once, also where the peer does not receive."""
    scope = CancelScope()
    async with make() as (first, _), blocked_send(first, scope) as sending:
        scope.cancel()
        await settle(turns=MANY_TURNS)
        expect(sending.over, "a blocked send() ends when it is cancelled", sending.state)


# One at a time


@_check(
    "BusyResourceError: two tasks are trying to read from the same resource concurrently",
    "anyio.BusyResourceError",
)
async def a_second_receiver_is_refused(make: Sides) -> None:
    """It is told so at once, and the first one is not disturbed."""
    async with make() as (first, second), create_task_group() as group:
        receiving = await Waiting.begin(group, second.receive, "the first receive()")
        receiving.expect_waiting()
        refused = await Waiting.begin(group, second.receive, "a second receive()")
        await refused.expect_raised(BusyResourceError, "at once")
        receiving.expect_waiting()
        await first.send(b"x")
        while not receiving.over:
            await checkpoint()
        expect(receiving.result == b"x", "the first receive() returns b'x'", receiving.state)


@_check(
    "BusyResourceError: two tasks are trying to write to the same resource concurrently",
    "anyio.BusyResourceError",
)
async def a_second_sender_is_refused(make: Sides) -> None:
    """While a ``send`` is blocked, another one is told so at once."""
    async with make() as (first, _), blocked_send(first) as sending, tasks() as group:
        refused = await Waiting.begin(
            group, functools.partial(first.send, b"x"), "a second send()", turns=MANY_TURNS
        )
        expect(
            isinstance(refused.error, BusyResourceError),
            "a second send() raises BusyResourceError at once",
            refused.state,
        )
        sending.expect_waiting()


@_check("Wait until all other tasks are waiting for something", "anyio.wait_all_tasks_blocked")
async def a_blocked_send_does_not_keep_the_loop_busy(make: Sides) -> None:
    """While it waits for the peer, every task may be blocked: it does not ask again and again."""
    async with make() as (first, _), blocked_send(first):
        settled = await settle(turns=MANY_TURNS)
        expect(settled, "a send() that cannot go on waits", "it keeps the event loop busy")


@_check(
    "A bidirectional message stream which does not guarantee the order or reliability of message "
    "delivery",
    "anyio.abc.UnreliableObjectStream",
)
async def a_blocked_receive_does_not_block_send(make: Sides) -> None:
    """While ``receive`` is blocked one can send."""
    async with make() as (first, second), tasks() as group:
        receiving = await Waiting.begin(group, first.receive, "receive()")
        await arrive(first, second, [b"x"], "what is sent meanwhile")
        receiving.expect_waiting()


# The end


@_check("ClosedResourceError: if the receive stream has been explicitly closed", RECEIVE)
async def a_closed_socket_does_not_receive(make: Sides) -> None:
    """After its own ``aclose``, not even what had arrived before."""
    async with make() as (first, second):
        await arrive(first, second, [b"one"], "a datagram")  # its event loop knows of it now
        await first.send(b"unread")
        await settle()
        await second.aclose()
        await raises(ClosedResourceError, second.receive(), "receive() after aclose()")


@_check("ClosedResourceError: if the send stream has been explicitly closed", SEND)
async def a_closed_socket_does_not_send(make: Sides) -> None:
    """After its own ``aclose``, not even an empty datagram."""
    async with make() as (first, _):
        await first.aclose()
        await raises(ClosedResourceError, first.send(b"x"), "send() after aclose()")
        await raises(ClosedResourceError, first.send(b""), "send(b'') after aclose()")


@_check("Close the resource", "anyio.abc.AsyncResource.aclose")
async def close_can_be_repeated(make: Sides) -> None:
    """A second ``aclose``, and a forceful one after it, do nothing."""
    async with make() as (first, second):
        for side in (first, second):
            await side.aclose()
            await side.aclose()
            await aclose_forcefully(side.socket)
            await raises(ClosedResourceError, side.receive(), "receive() after all of them")


@_check(
    "aclose_forcefully: Doing this closes the resource without waiting on anything",
    "anyio.aclose_forcefully",
)
async def a_cancelled_close_closes(make: Sides) -> None:
    """``aclose`` in a cancelled scope raises the cancellation, or nothing; it closes."""
    async with make() as (first, _):
        await aclose_forcefully(first.socket)
        await raises(ClosedResourceError, first.send(b"x"), "send() after a cancelled aclose()")
        await raises(ClosedResourceError, first.receive(), "receive() after a cancelled aclose()")


@_check("ClosedResourceError: if the receive stream has been explicitly closed", RECEIVE)
async def close_wakes_receive(make: Sides) -> None:
    """A ``receive`` that is blocked while its own side closes."""
    async with make() as (first, _), tasks() as group:
        receiving = await Waiting.begin(group, first.receive, "a blocked receive()")
        receiving.expect_waiting()
        await aclose_forcefully(first.socket)
        await receiving.expect_raised(ClosedResourceError, "when its own side closes")


@_check("ClosedResourceError: if the send stream has been explicitly closed", SEND)
async def close_wakes_send(make: Sides) -> None:
    """A ``send`` that is blocked while its own side closes."""
    async with make() as (first, _), blocked_send(first) as sending:
        await aclose_forcefully(first.socket)
        await sending.expect_raised(ClosedResourceError, "when its own side closes")


@_check(
    "BrokenResourceError: if this stream has been rendered unusable due to external causes", SEND
)
async def a_peer_that_has_gone(make: Sides) -> None:
    """``send`` and ``receive`` raise :exc:`~anyio.BrokenResourceError`, or nothing.

    The system may tell of a refused datagram, or not. A ``receive`` then waits.
    """
    async with make() as (first, second), tasks() as group:
        await second.aclose()
        for _ in range(FEW):
            await _breaks_or_not(functools.partial(first.send, b"x"), "send() to a closed peer")
            await settle()
        what = "receive() from a closed peer"
        receiving = await Waiting.begin(
            group, functools.partial(_breaks_or_not, first.receive, what), what
        )
        if receiving.error is not None:
            raise receiving.error


async def _breaks_or_not(operation: Callable[[], Awaitable[object]], what: str) -> None:
    try:
        await operation()
    except BrokenResourceError:
        pass
    except Exception as exc:
        expected = f"{what} raises BrokenResourceError, or nothing"
        raise PromiseBroken(expected, f"it raised {exc!r}") from exc


@_check("Represents an unconnected UDP socket", "anyio.abc.UDPSocket")
async def one_peer_that_has_gone_does_not_break_it(make: Sides) -> None:
    """A socket that is not connected goes on with the others."""
    async with make() as (first, second), make() as (third, _):
        if first.connected or third.connected:
            raise SkipTest("it is connected, so there are no other peers")
        there = third.socket.extra(SocketAttribute.local_address)
        await second.aclose()
        for _ in range(FEW):
            await ignoring_end(first.send, b"lost")
            await settle()
        async with create_task_group() as group:
            group.start_soon(first.socket.send, (b"to another", there))
            received = await third.receive()
            expect(
                received == b"to another", "another peer receives what it is sent", f"{received!r}"
            )


# Cancellation


@_check(
    "Receive the next item",
    f"{RECEIVE}; Trio: an operation that raises Cancelled has had no effect",
)
async def a_cancelled_receive_loses_nothing(make: Sides) -> None:
    """It is cancelled at every moment around an arrival; the datagram is there for the next one."""
    async with make() as (first, second):
        for turn in range(MOMENTS * MOMENTS):
            late, early = divmod(turn, MOMENTS)
            # The second one is there so that nobody waits for ever if the first one is lost.
            sent = [b"%d: first" % turn, b"%d: second" % turn]
            received: list[bytes] = []

            async def send_late(late: int = late, sent: list[bytes] = sent) -> None:
                for _ in range(late):
                    await checkpoint()
                await send_all(first, sent)

            async with create_task_group() as group:
                group.start_soon(send_late)
                with CancelScope() as scope:
                    async with tasks() as canceller:
                        canceller.start_soon(cancel_in, scope, early)
                        received.append(await second.receive())
                while not received or received[-1] != sent[-1]:
                    received.append(await second.receive())
            when = f"sent after {late} turns, with a receive() cancelled after {early}"
            expect(received == sent, f"{sent} are received, {when}", f"{received}")


@_check(
    "Send an item to the peer(s)",
    f"{SEND}; Trio: an operation that raises Cancelled has had no effect",
)
async def a_cancelled_send_sends_once_or_not_at_all(make: Sides) -> None:
    """It is cancelled at every moment. What it has sent is sent once, and others follow."""
    async with make() as (first, second):
        for early in range(MOMENTS):
            data, last = b"%d: first" % early, b"%d: second" % early
            ended = False
            received: list[bytes] = []
            with CancelScope() as scope:
                async with tasks() as canceller:
                    canceller.start_soon(cancel_in, scope, early)
                    await first.send(data)
                    ended = True
            async with create_task_group() as group:
                group.start_soon(first.send, last)
                while not received or received[-1] != last:
                    received.append(await second.receive())
            allowed = [[data, last]] if ended else [[data, last], [last]]
            outcome = "that ended" if ended else f"cancelled after {early} turns"
            expect(
                received in allowed,
                f"after a send() {outcome}, {' or '.join(map(str, allowed))} are received",
                f"{received}",
            )


# Attributes


@_check(
    "extra(attribute, default): the value of the attribute; raises TypedAttributeLookupError if it "
    "was not found and no default value was given",
    "anyio.TypedAttributeProvider.extra",
)
async def typed_attributes(make: Sides) -> None:
    """Each that is listed has a value; the addresses of both sides fit together."""
    async with make() as (first, second):
        expect_attributes(first.socket)
        local = first.socket.extra(SocketAttribute.local_address, None)
        remote = second.socket.extra(SocketAttribute.remote_address, None)
        if local and remote:
            expect(local == remote, f"the peer's remote address is {local!r}", repr(remote))
        port = first.socket.extra(SocketAttribute.local_port, None)
        if port is not None and isinstance(local, tuple):
            expect(port == local[1], f"the local port is that of {local!r}", repr(port))
