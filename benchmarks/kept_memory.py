"""What a process keeps of each test: its size after many of them, beside that after a few.

pytest itself keeps three reports of each test, and the test; so the same by hand is beside it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.backends import BUILT_IN

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


def note(number):
    if number in ({few}, {many} - 1):
        SIZES[number] = resident()

{test}

def test_sizes():
    with open({file!r}, "w") as file:
        print(*SIZES.values(), file=file)
"""

WITH_HARNESS = """
@pytest.mark.parametrize("number", range({many}))
async def test_it(harness, number):
    note(number)
    server = await harness.serve(echo)
    async with await server.connect() as client:
        await client.send(b"hello")
        assert await client.receive() == b"hello"
"""

BY_HAND = """
import anyio
from anyio.abc import SocketAttribute


@pytest.fixture
def anyio_backend():
    return {backend!r}


@pytest.mark.anyio
@pytest.mark.parametrize("number", range({many}))
async def test_it(anyio_backend, number):
    note(number)
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.serve, echo)
        port = listener.extra(SocketAttribute.local_port)
        async with await anyio.connect_tcp("127.0.0.1", port) as client:
            await client.send(b"hello")
            assert await client.receive() == b"hello"
        group.cancel_scope.cancel()
"""


def run(plan: Plan) -> Iterator[Comparison]:
    many, few = plan.some(5000, 40), plan.some(500, 10)
    for backend in plan.backends:
        contestants = ["harness, tcp", "harness, memory", "AnyIO by hand"]
        figures: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(plan.rounds(3)):
            for name, taken in figures.items():
                taken.append(kept(name, backend, few, many))
        for ours in contestants[:2]:
            yield Comparison(
                f"kept of each test, {backend}: {ours}",
                "KB",
                {name: figures[name] for name in (ours, "AnyIO by hand")},
                ours,
                [Goal("AnyIO by hand", most=1.0, is_difference=True)],
            )


def kept(name: str, backend: str, few: int, many: int) -> float:
    """Kilobytes by which a process grows with each test."""
    by_hand = name == "AnyIO by hand"
    test = BY_HAND if by_hand else WITH_HARNESS
    options = [f"--harness-backends={backend}", f"--harness-transports={name.split()[-1]}"]
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "sizes")
        suite = Path(folder, "test_many.py")
        test = test.format(many=many, backend=BUILT_IN[backend].anyio_backend)
        suite.write_text(SUITE.format(few=few, many=many, file=str(written), test=test))
        seconds(
            suite,
            *([] if by_hand else options),
            plugins=["anyio"] if by_hand else ["anyio", "harness.pytest_plugin"],
            passed=many + 1,
        )
        early, late = map(float, written.read_text().split())
    return (late - early) * 1000 / (many - few)
