"""Sending and receiving as the checks of byte streams do it."""

from __future__ import annotations

import functools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from unittest import SkipTest

from anyio import (
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    create_task_group,
)
from anyio.abc import ByteStream, TaskGroup
from anyio.lowlevel import checkpoint

from ..settling import settle
from .contract import Pairs, PromiseBroken, Waiting, shown

Streams = Pairs[ByteStream]

RECEIVE = "anyio.abc.ByteReceiveStream.receive"
SEND = "anyio.abc.ByteSendStream.send"

#: What a stream raises when it can be of no more use, for whatever reason.
ENDED = (EndOfStream, BrokenResourceError)

#: More bytes than any system keeps between two sockets of one machine.
MORE_THAN_FITS = 32 * 1024 * 1024

#: Bytes to send again and again to somebody who has gone, until that is noticed.
SOME = b"x" * 100

#: Sends after which it has to be noticed.
MANY_SENDS = 10_000


async def send_all(stream: ByteStream, messages: list[bytes]) -> None:
    for message in messages:
        await stream.send(message)


async def received_is(stream: ByteStream, data: bytes, what: str) -> None:
    """Receive as many bytes as ``data`` has, and expect these."""
    received = b""
    while len(received) < len(data):
        received += await stream.receive(len(data) - len(received))
    expect_same(received, data, what)


async def goes_through(
    sender: ByteStream, receiver: ByteStream, data: bytes | bytearray | memoryview, what: str
) -> None:
    send: Any = sender.send
    async with create_task_group() as group:
        group.start_soon(send, data)
        await received_is(receiver, bytes(data), what)


def expect_same(received: bytes, sent: bytes, what: str) -> None:
    if received == sent:
        return
    same = next(
        (at for at, (one, other) in enumerate(zip(received, sent, strict=False)) if one != other),
        min(len(received), len(sent)),
    )
    raise PromiseBroken(
        f"{what} is {shown(sent)}",
        f"{shown(received)}, which differs from byte {same} on: {shown(received[same:])} "
        f"instead of {shown(sent[same:])}",
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
        while len(received) < len(data):
            received += await stream.receive(lengths.randint(1, longest))
        expect_same(bytes(received), data, what)

    async with create_task_group() as group:
        group.start_soon(send, first, there)
        group.start_soon(send, second, back)
        group.start_soon(receive, first, back, "what the first stream receives")
        group.start_soon(receive, second, there, "what the second stream receives")


async def send_until_noticed(stream: ByteStream) -> str:
    for _ in range(MANY_SENDS):
        await stream.send(SOME)
        await checkpoint()  # its `send` may be none, and nothing would ever be noticed
    return f"nothing, {MANY_SENDS} times"


async def ignoring_end(function: Callable[..., Awaitable[object]], *args: object) -> None:
    """Call it; that the stream ends meanwhile is not what the check is about."""
    try:
        await function(*args)
    except (*ENDED, ClosedResourceError):
        pass


async def cancel_in(scope: CancelScope, turns: int) -> None:
    for _ in range(turns):
        await checkpoint()
    scope.cancel()


@asynccontextmanager
async def not_reading_ahead(make: Streams) -> AsyncIterator[tuple[ByteStream, ByteStream]]:
    """A pair neither side of which takes bytes that nobody has asked it for.

    On asyncio and uvloop an accepted stream reads ahead without limit until a ``receive`` has once
    been blocked (anyio/_backends/_asyncio.py, ``SocketStream.receive``).
    """
    async with make() as (first, second):
        for sender, receiver in ((first, second), (second, first)):
            async with create_task_group() as group:
                group.start_soon(received_is, receiver, b"x", "the first byte")
                await settle()
                await sender.send(b"x")
        yield first, second


@asynccontextmanager
async def clogged(make: Streams) -> AsyncIterator[tuple[ByteStream, ByteStream]]:
    """A pair where a long ``send`` of the first is blocked until the second receives."""
    async with make.clogged() if make.has_clogged else not_reading_ahead(make) as pair:
        yield pair


async def blocked_send(group: TaskGroup, stream: ByteStream) -> Waiting[None]:
    send = functools.partial(stream.send, bytes(MORE_THAN_FITS))
    sending = await Waiting.begin(group, send, "a blocked send()")
    if sending.over and sending.error is None:
        raise SkipTest(
            f"its send() of {MORE_THAN_FITS} bytes does not wait for the peer, so it cannot be "
            "blocked. A `clogged_pair` may help"
        )
    sending.expect_waiting()
    return sending
