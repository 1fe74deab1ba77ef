"""Virtual time beside its peers: what a sleep costs, by the same code.

Three workloads: one task that sleeps, a hundred that sleep for different times, and two that hand
one another a token between their sleeps. The peers are looptime, async-solipsism and aiotools on
asyncio, and trio's own MockClock. Last comes a day of a heartbeat of 1 Hz on each of 100
connections; a part of it is run, and its time multiplied.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import trio
import trio.testing

from harness import VirtualClock, open_harness
from harness.backends import BUILT_IN

from .comparing import Comparison, Goal, Plan, Take, in_turns
from .peers import MODULES, has

Sleep = Callable[[float], Awaitable[object]]
Workload = Callable[..., Awaitable[None]]
Run = Callable[[Workload], float]


async def one(sleep: Sleep, library: Any, sleeps: int) -> None:
    for _ in range(sleeps):
        await sleep(1)


async def hundred(sleep: Sleep, library: Any, sleeps: int) -> None:
    async def task(number: int) -> None:
        for _ in range(sleeps // 100):
            await sleep(1 + number / 1000)

    await library.together(task, range(100))


async def token(sleep: Sleep, library: Any, sleeps: int) -> None:
    events = [library.event() for _ in range(sleeps)]

    async def task(number: int) -> None:
        for turn in range(number, sleeps, 2):
            if turn % 10 == 0:
                await sleep(1)
            events[turn].set()
            if turn + 1 < sleeps:
                await events[turn + 1].wait()

    await library.together(task, range(2))


class Asyncio:
    event = asyncio.Event

    @staticmethod
    async def together(task: Callable[[int], Any], numbers: range) -> None:
        await asyncio.gather(*map(task, numbers))


class Trio:
    event = trio.Event

    @staticmethod
    async def together(task: Callable[[int], Any], numbers: range) -> None:
        async with trio.open_nursery() as nursery:
            for number in numbers:
                nursery.start_soon(task, number)


def harness_on(backend: str) -> Run:
    library = BUILT_IN[backend].library

    def run(workload: Workload) -> float:
        clock = VirtualClock()

        async def main() -> float:
            clock.begin(lambda: sys.exit("a deadlock"))
            return await timed(workload, library)

        options = clock.options(library, BUILT_IN[backend].options)
        try:
            return anyio.run(main, backend=library, backend_options=options)
        finally:
            clock.end()

    return run


async def timed(workload: Workload, library: str) -> float:
    begin = time.perf_counter()
    if library == "trio":
        await workload(trio.sleep, Trio)
    else:
        await workload(asyncio.sleep, Asyncio)
    return time.perf_counter() - begin


def looptime(workload: Workload) -> float:
    return run_on(importlib.import_module("looptime").new_event_loop(start=0), workload)


def solipsism(workload: Workload) -> float:
    return run_on(importlib.import_module("async_solipsism").EventLoop(), workload)


def aiotools(workload: Workload) -> float:
    async def main() -> float:
        with importlib.import_module("aiotools").VirtualClock().patch_loop():
            return await timed(workload, "asyncio")

    return asyncio.run(main())


def run_on(loop: asyncio.AbstractEventLoop, workload: Workload) -> float:
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(timed(workload, "asyncio"))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def mock_clock(workload: Workload) -> float:
    return trio.run(timed, workload, "trio", clock=trio.testing.MockClock(autojump_threshold=0))


PEERS: dict[str, dict[str, Run]] = {
    "asyncio": {"looptime": looptime, "async-solipsism": solipsism, "aiotools": aiotools},
    "uvloop": {"looptime": looptime, "async-solipsism": solipsism, "aiotools": aiotools},
    "trio": {"MockClock": mock_clock},
}


async def heartbeats(connections: int, seconds: int) -> None:
    async def handle(stream: anyio.abc.ByteStream) -> None:
        async for _ in stream:
            pass

    async with open_harness(transport="memory") as harness:
        server = await harness.serve(handle)

        async def beat() -> None:
            async with await server.connect() as client:
                for _ in range(seconds):
                    await client.send(b"!")
                    await anyio.sleep(1)

        async with anyio.create_task_group() as group:
            for _ in range(connections):
                group.start_soon(beat)


def run(plan: Plan) -> Iterator[Comparison]:
    for backend in plan.backends:
        for workload in (one, hundred, token):
            contestants: dict[str, Take] = {}
            for name, run_on_peer in {"harness": harness_on(backend), **PEERS[backend]}.items():
                if name not in MODULES or has(name):
                    contestants[name] = functools.partial(per_sleep, run_on_peer, workload, plan)
            yield Comparison(
                f"virtual sleeps, {workload.__name__}, {backend}",
                "us each",
                in_turns(contestants, plan.rounds(9)),
                goals=[Goal(name, most=1.0) for name in contestants if name != "harness"],
            )
        connections, part = plan.some(100, 2), plan.some(96, 8640)
        taken = harness_on(backend)(some_heartbeats(connections, 86400 // part))
        yield Comparison(
            f"a day of 1 Hz on {connections} connections in memory, {backend}",
            "s",
            {"harness": [taken * part]},
        )


def some_heartbeats(connections: int, seconds: int) -> Workload:
    async def workload(*_: object) -> None:
        await heartbeats(connections, seconds)

    return workload


def per_sleep(run_on_peer: Run, workload: Workload, plan: Plan) -> float:
    sleeps = plan.some(6000, 200)
    return run_on_peer(functools.partial(workload, sleeps=sleeps)) / sleeps * 1e6
