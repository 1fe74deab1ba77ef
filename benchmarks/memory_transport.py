"""The memory transport beside loopback TCP, and beside trio's own pair of streams in memory."""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import trio.testing
from anyio.abc import ByteStream, SocketAttribute

from harness import open_harness

from .comparing import Comparison, Goal, Plan, Take, in_turns
from .on_backends import taking

MESSAGE = b"m" * 64
CHUNK = b"c" * 65536

Send = Callable[[bytes], Awaitable[object]]
Receive = Callable[[int], Awaitable[Any]]  # trio's gives a bytearray
#: Two ends, each with how it sends and how it receives.
Ends = tuple[tuple[Send, Receive], tuple[Send, Receive]]
Pair = Callable[[], AbstractAsyncContextManager[Ends]]


def methods(first: ByteStream, second: ByteStream) -> Ends:
    return (first.send, first.receive), (second.send, second.receive)


@asynccontextmanager
async def in_memory() -> AsyncIterator[Ends]:
    async with open_harness(transport="memory") as harness:
        yield methods(*await harness.pair())


@asynccontextmanager
async def over_tcp() -> AsyncIterator[Ends]:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)
        client = await anyio.connect_tcp("127.0.0.1", port)
        server = await listener.listeners[0].accept()  # type: ignore[attr-defined]
        async with client, server:
            yield methods(client, server)


@asynccontextmanager
async def of_trio() -> AsyncIterator[Ends]:
    first, second = trio.testing.memory_stream_pair()
    async with first, second:
        yield (
            (first.send_all, first.receive_some),
            (second.send_all, second.receive_some),
        )


async def round_trips(pair: Pair, number: int) -> float:
    """Microseconds of each."""
    async with (
        pair() as ((send, receive), (send_back, receive_there)),
        anyio.create_task_group() as group,
    ):

        async def echo() -> None:
            for _ in range(number):
                await send_back(await receive_there(65536))

        group.start_soon(echo)
        begin = time.perf_counter()
        for _ in range(number):
            await send(MESSAGE)
            await receive(65536)
        taken = time.perf_counter() - begin
    return taken / number * 1e6


async def stream(pair: Pair, number: int) -> float:
    """Microseconds for 64 KiB."""
    async with pair() as ((send, _), (_, receive)), anyio.create_task_group() as group:

        async def send_all() -> None:
            for _ in range(number):
                await send(CHUNK)

        group.start_soon(send_all)
        left = number * len(CHUNK)
        begin = time.perf_counter()
        while left:
            left -= len(await receive(65536))
        taken = time.perf_counter() - begin
    return taken / number * 1e6


def run(plan: Plan) -> Iterator[Comparison]:
    for backend in plan.backends:
        pairs: dict[str, Pair] = {"harness": in_memory, "loopback TCP": over_tcp}
        if backend == "trio":
            pairs["trio's memory_stream_pair"] = of_trio
        for workload, number, goal in (
            (round_trips, plan.some(5000, 10), 1 / 4),
            (stream, plan.some(2000, 10), 1 / 2),
        ):
            contestants: dict[str, Take] = {
                name: taking(backend, functools.partial(workload, pair, number))
                for name, pair in pairs.items()
            }
            what = "small round trip" if workload is round_trips else "stream of 64 KiB"
            yield Comparison(
                f"{what} in memory, {backend}",
                "us",
                in_turns(contestants, plan.rounds(9)),
                goals=[
                    Goal("loopback TCP", most=goal),
                    Goal("trio's memory_stream_pair", most=1.0),
                ],
            )
