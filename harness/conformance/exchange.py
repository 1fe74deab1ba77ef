"""Sending and receiving as the checks of byte streams do it."""

from __future__ import annotations

import functools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from anyio import (
    BrokenResourceError,
    BusyResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    Event,
    create_task_group,
)
from anyio.abc import ByteStream, TaskGroup
from anyio.lowlevel import checkpoint

from ..settling import settle
from .contract import ENOUGH, CannotBeBlocked, Pairs, PromiseBroken, Waiting, shown, waits_for

Streams = Pairs[ByteStream]

RECEIVE = "anyio.abc.ByteReceiveStream.receive"
SEND = "anyio.abc.ByteSendStream.send"

#: What a stream raises when it can be of no more use, for whatever reason.
ENDED = (EndOfStream, BrokenResourceError)

#: More bytes than any system keeps between two sockets of one machine.
MORE_THAN_FITS = 32 * 1024 * 1024

#: Turns of the event loop after which what still runs waits for nothing.
MANY_TURNS = 10_000

#: Bytes to send again and again to somebody who has gone, until that is noticed.
SOME = b"x" * 100

#: Sends after which it has to be noticed.
MANY_SENDS = 10_000

#: Empty ``bytes`` objects in a row after which no byte will come.
MANY_EMPTY = 100


async def send_all(stream: ByteStream, messages: list[bytes]) -> None:
    for message in messages:
        await stream.send(message)


async def some(stream: ByteStream, max_bytes: int = 65536) -> bytes:
    """Receive at least one byte: an empty ``bytes`` object is ignored, but not for ever."""
    for _ in range(MANY_EMPTY):
        data = await stream.receive(max_bytes)
        if data:
            return data
    raise _only_empty()


async def until_the_end(stream: ByteStream, received: bytearray) -> None:
    """Iterate over the stream, and add what comes to ``received``."""
    empty = 0
    async for data in stream:
        received += data
        empty = 0 if data else empty + 1
        if empty == MANY_EMPTY:
            raise _only_empty()


def _only_empty() -> PromiseBroken:
    seen = f"it returned b'' {MANY_EMPTY} times"
    return PromiseBroken("receive() returns at least one byte, or raises", seen)


async def received_is(stream: ByteStream, data: bytes, what: str) -> None:
    """Receive as many bytes as ``data`` has, and expect these."""
    received = b""
    with waits_for(lambda: f"receive() of {what} ({len(received)} of {len(data)} bytes are there)"):
        while len(received) < len(data):
            try:
                received += await some(stream, len(data) - len(received))
            except EndOfStream as exc:
                expected = f"{what} is {shown(data)}"
                raise PromiseBroken(expected, f"{shown(received)}, and then the end") from exc
    expect_same(received, data, what)


async def goes_through(
    sender: ByteStream, receiver: ByteStream, data: bytes | bytearray | memoryview, what: str
) -> None:
    send: Any = sender.send

    async def send_it() -> None:
        with waits_for(f"send() of {what}"):
            await send(data)

    async with create_task_group() as group:
        group.start_soon(send_it)
        await received_is(receiver, bytes(data), what)


def expect_same(received: bytes, sent: bytes, what: str) -> None:
    if received != sent:
        raise PromiseBroken(f"{what} is {shown(sent)}", difference(received, sent))


def difference(received: bytes, sent: bytes) -> str:
    """How ``received`` is not ``sent``, in words."""
    same, differs = 0, min(len(received), len(sent)) + 1
    while differs - same > 1:
        middle = (same + differs) // 2
        if received[same:middle] == sent[same:middle]:
            same = middle
        else:
            differs = middle
    whole = shown(received) if len(received) <= ENOUGH else f"{len(received)} bytes"
    return (
        f"{whole}, different from byte {same} on: {shown(received[same:])} instead of "
        f"{shown(sent[same:])}"
    )


async def duplex(first: ByteStream, second: ByteStream, size: int) -> None:
    there = random.Random(0).randbytes(size)
    back = random.Random(1).randbytes(size)
    longest = max(16 * 1024, size // 64)

    async def send(stream: Any, data: bytes) -> None:
        lengths = random.Random(2)
        left = memoryview(data)
        while left:
            length = lengths.randint(1, longest)
            await stream.send(left[:length])
            left = left[length:]

    async def receive(stream: ByteStream, data: bytes, what: str) -> None:
        lengths = random.Random(3)
        received = bytearray()
        with waits_for(lambda: f"{what} ({len(received)} of {len(data)} bytes are there)"):
            while len(received) < len(data):
                received += await some(stream, lengths.randint(1, longest))
        expect_same(bytes(received), data, what)

    async with create_task_group() as group:
        group.start_soon(send, first, there)
        group.start_soon(send, second, back)
        group.start_soon(receive, first, back, "what the first stream receives")
        group.start_soon(receive, second, there, "what the second stream receives")


async def send_until_noticed(stream: ByteStream) -> None:
    for _ in range(MANY_SENDS):
        await stream.send(SOME)
        await checkpoint()  # its `send` may be none, and nothing would ever be noticed
    raise PromiseBroken(
        "send() to a peer that has gone raises BrokenResourceError in the end",
        f"it returned, {MANY_SENDS} times",
    )


async def ignoring_end(function: Callable[..., Awaitable[object]], *args: object) -> None:
    """Call it; that the stream ends meanwhile is not what the check is about."""
    try:
        await function(*args)
    except (*ENDED, ClosedResourceError):
        pass


class OneAtATime:
    """Calls of which a stream takes one at a time: who is refused waits until another has ended.

    Who only tried again, and again, would keep virtual time from passing if the other one hangs.
    """

    def __init__(self) -> None:
        self._ended = Event()

    async def is_taken(self, function: Callable[..., Awaitable[object]], *args: object) -> bool:
        """Call it; if it is refused, wait until it may not be any more."""
        ended, refused = self._ended, False
        try:
            with waits_for("an operation that was not refused"):
                await function(*args)
        except BusyResourceError:
            refused = True
        finally:
            if not refused:
                self._ended.set()
                self._ended = Event()
        if refused:
            with waits_for("the end of the operation for which others were refused"):
                await ended.wait()
        return not refused


async def cancel_in(scope: CancelScope, turns: int) -> None:
    for _ in range(turns):
        await checkpoint()
    scope.cancel()


async def stop_reading_ahead(pair: tuple[ByteStream, ByteStream]) -> None:
    """Let each side be blocked in a ``receive``, and get a byte.

    On asyncio and uvloop an accepted stream reads ahead without limit until a ``receive`` has once
    been blocked (anyio/_backends/_asyncio.py, ``SocketStream.receive``).
    """
    first, second = pair
    for sender, receiver in ((first, second), (second, first)):
        async with create_task_group() as group:
            group.start_soon(received_is, receiver, b"x", "the first byte")
            await settle(turns=MANY_TURNS)
            await sender.send(b"x")


@asynccontextmanager
async def not_reading_ahead(make: Streams) -> AsyncIterator[tuple[ByteStream, ByteStream]]:
    """A pair neither side of which takes bytes that nobody has asked it for."""
    async with make() as pair:
        await stop_reading_ahead(pair)
        yield pair


@asynccontextmanager
async def clogged(make: Streams) -> AsyncIterator[tuple[ByteStream, ByteStream]]:
    """A pair where a long ``send`` of the first is blocked until the second receives."""
    async with make.clogged() if make.has_clogged else not_reading_ahead(make) as pair:
        yield pair


async def blocked_send(group: TaskGroup, stream: ByteStream) -> Waiting[None]:
    send = functools.partial(stream.send, bytes(MORE_THAN_FITS))
    sending = await Waiting.begin(group, send, "a blocked send()")
    if sending.over and sending.error is None:
        raise cannot_be_blocked()
    sending.expect_waiting()
    return sending


def cannot_be_blocked() -> CannotBeBlocked:
    return CannotBeBlocked(
        f"its send() of {MORE_THAN_FITS} bytes does not wait for the peer, so it cannot be "
        "blocked. A `clogged_pair` may help"
    )
