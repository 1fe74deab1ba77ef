"""In virtual time over memory, the same seed gives the same steps in the same order."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio import current_time, get_cancelled_exc_class, move_on_after, sleep
from anyio.abc import ByteStream

from harness import open_harness
from harness.backends import BUILT_IN
from harness.hooks import kept
from harness.virtualtime import VirtualClock

SEEDS = 200

Tell = Callable[..., None]


async def workload(seed: int, tell: Tell) -> None:
    """Clients, tasks, nested scopes and groups, all of them ended at some random moment."""
    rng = random.Random(seed)

    async def echo(stream: ByteStream) -> None:
        async with stream:
            async for chunk in stream:
                await sleep(rng.choice([0, 0.1, 0.2]))
                await stream.send(chunk)
                tell("echo", len(chunk))

    async def leaf(*name: int) -> None:
        try:
            await sleep(rng.choice([0.1, 0.2, 0.3, 0.6]))
            tell(*name)
        except get_cancelled_exc_class():
            tell(*name, "cancelled")
            raise

    async def worker(number: int) -> None:
        try:
            for turn in range(3):
                with move_on_after(rng.choice([0.1, 0.3, 0.5, 1])):
                    async with anyio.create_task_group() as group:
                        for child in range(3):
                            group.start_soon(leaf, number, turn, child)
                tell(number, turn)
            async with await server.connect() as client:
                for size in range(1, 4):
                    await client.send(b"x" * size)
                    await client.receive()
                    tell(number, "round trip")
        except get_cancelled_exc_class():
            tell(number, "cancelled")
            raise

    async with open_harness(transport="memory") as harness:
        server = await harness.serve(echo, expect=(anyio.BrokenResourceError,))
        with move_on_after(rng.choice([1, 2])):
            async with anyio.create_task_group() as group:
                for number in range(6):
                    group.start_soon(worker, number)


def trace(backend: str, seed: int) -> list[tuple[object, ...]]:
    clock = VirtualClock()
    steps: list[tuple[object, ...]] = []

    async def main() -> None:
        clock.begin(lambda: pytest.fail("a deadlock"))
        await workload(seed, lambda *what: steps.append((current_time(), *what)))

    library, options = BUILT_IN[backend].library, BUILT_IN[backend].options
    try:
        anyio.run(main, backend=library, backend_options=clock.options(library, options))
    finally:
        clock.end()
    return steps


def test_the_same_seed_gives_the_same_steps(backend: str):
    elsewhere = []  # so that what the second run makes gets other addresses
    different = set()
    for seed in range(SEEDS):
        first = trace(backend, seed)
        elsewhere.append([object() for _ in range(random.randrange(1000))])
        del elsewhere[: -random.randrange(1, 8)]
        assert trace(backend, seed) == first, f"seed {seed}"
        different.add(tuple(first))
    assert len(different) > SEEDS / 2


def test_trios_scheduler_is_its_own_again() -> None:
    trio_run: Any = importlib.import_module("trio._core._run")
    before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING  # Hypothesis has it on, where that is loaded
    trace("trio", 0)
    assert "shuffle" not in vars(trio_run._r)
    assert trio_run._ALLOW_DETERMINISTIC_SCHEDULING is before


def test_scopes_are_anyios_own_again() -> None:
    async def made_outside() -> type:
        return type(anyio.CancelScope()._child_scopes)

    with kept():  # as under the plugin, where the function that makes them stays replaced
        trace("asyncio", 0)
        assert anyio.run(made_outside) is set
