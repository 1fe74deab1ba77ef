"""What a process keeps of its tests: its size after many of them, beside that after a few."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from .comparing import Comparison, Goal, Plan
from .whole_process import seconds

SUITE = """
import gc
import pytest

SIZES = {{}}


def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6


async def echo(stream):
    async with stream:
        async for data in stream:
            await stream.send(data)


@pytest.mark.parametrize("number", range({many}))
async def test_it(harness, number):
    if number in ({few}, {many} - 1):
        SIZES[number] = resident()
    server = await harness.serve(echo)
    async with await server.connect() as client:
        await client.send(b"hello")
        assert await client.receive() == b"hello"


def test_sizes():
    with open({file!r}, "w") as file:
        print(*SIZES.values(), file=file)
"""


def run(plan: Plan) -> Iterator[Comparison]:
    many, few = plan.some(5000, 40), plan.some(500, 10)
    for backend in plan.backends:
        for transport in ("tcp", "memory"):
            first, last = f"after {few}", f"after {many}"
            figures: dict[str, list[float]] = {first: [], last: []}
            for _ in range(plan.rounds(3)):
                early, late = sizes(backend, transport, few, many)
                figures[first].append(early)
                figures[last].append(late)
            yield Comparison(
                f"size of a process, {transport}, {backend}",
                "MB",
                figures,
                ours=last,
                goals=[Goal(first, most=1.02)],
            )


def sizes(backend: str, transport: str, few: int, many: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "sizes")
        suite = Path(folder, "test_many.py")
        suite.write_text(SUITE.format(few=few, many=many, file=str(written)))
        seconds(
            suite,
            f"--harness-backends={backend}",
            f"--harness-transports={transport}",
            plugins=["anyio", "harness.pytest_plugin"],
            passed=many + 1,
        )
        early, late = map(float, written.read_text().split())
    return early, late
