"""Virtual time beside its peers: how much of it passes in a second, by the same code.

    python -m pip install looptime async-solipsism aiotools
    python benchmarks/virtual_time.py

Three workloads: one task that sleeps, a hundred that sleep for different times, and two that hand
one another a token between their sleeps. The peers are looptime, async-solipsism and aiotools on
asyncio, and trio's own MockClock. Each ratio is the harness's rate by the peer's, above 1 where the
harness is faster. Last comes a day of a heartbeat of 1 Hz on each of 100 connections.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import trio

from harness import VirtualClock, open_harness
from harness.backends import BUILT_IN

ROUNDS = 7
SLEEPS = 6000

Sleep = Callable[[float], Awaitable[object]]
Workload = Callable[[Sleep, Any], Awaitable[None]]


async def one(sleep: Sleep, library: Any) -> None:
    for _ in range(SLEEPS):
        await sleep(1)


async def hundred(sleep: Sleep, library: Any) -> None:
    async def task(number: int) -> None:
        for _ in range(SLEEPS // 100):
            await sleep(1 + number / 1000)

    await library.together(task, range(100))


async def token(sleep: Sleep, library: Any) -> None:
    events = [library.event() for _ in range(SLEEPS)]

    async def task(number: int) -> None:
        for turn in range(number, SLEEPS, 2):
            if turn % 10 == 0:
                await sleep(1)
            events[turn].set()
            if turn + 1 < SLEEPS:
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


def harness_on(backend: str) -> Callable[[Workload], float]:
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


PEERS: dict[str, dict[str, Callable[[Workload], float]]] = {
    "asyncio": {"looptime": looptime, "async-solipsism": solipsism, "aiotools": aiotools},
    "uvloop": {"looptime": looptime, "async-solipsism": solipsism, "aiotools": aiotools},
    "trio": {"MockClock": mock_clock},
}


def compare() -> None:
    for backend, peers in PEERS.items():
        for workload in (one, hundred, token):
            runs = {"harness": harness_on(backend), **peers}
            best: dict[str, float] = {}
            for _ in range(ROUNDS):  # in turns, so that all meet the same machine
                for name, run in runs.items():
                    try:
                        taken = run(workload)
                    except ModuleNotFoundError as exc:
                        print(f"{name} is not installed: {exc.name}")
                        continue
                    best[name] = min(best.get(name, taken), taken)
            ours = best.pop("harness")
            ratios = ", ".join(f"{name} x{taken / ours:.2f}" for name, taken in best.items())
            print(f"{backend:8} {workload.__name__:8} {SLEEPS / ours:10,.0f}/s   {ratios}")


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


def simulate_a_day(connections: int = 100, seconds: int = 86400, part: int = 96) -> None:
    async def some(sleep: Sleep, library: Any) -> None:
        await heartbeats(connections, seconds // part)

    for backend in PEERS:
        taken = harness_on(backend)(some)
        print(
            f"{backend:8} a day of heartbeats on {connections} connections: {taken * part:,.0f} s"
        )


if __name__ == "__main__":
    compare()
    simulate_a_day()
