"""What a process keeps of each test: its size after many of them, beside that after a few.

pytest itself keeps three reports of each test, and the test; so the same by hand is beside it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from .comparing import Comparison, Goal, Plan
from .whole_process import SUITES, seconds

#: Contestant -> its suite, the plugins, and what it runs on.
CONTESTANTS = {
    "harness, tcp": ("with_harness.py", ["anyio", "harness.pytest_plugin"], "tcp"),
    "harness, memory": ("with_harness.py", ["anyio", "harness.pytest_plugin"], "memory"),
    "AnyIO by hand": ("by_hand.py", ["anyio"], None),
}


def run(plan: Plan) -> Iterator[Comparison]:
    many, few = plan.some(5000, 40), plan.some(500, 10)
    for backend in plan.backends:
        figures: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
        for _ in range(plan.rounds(3)):
            for name, taken in figures.items():
                taken.append(kept(*CONTESTANTS[name], backend, few, many))
        for ours in ("harness, tcp", "harness, memory"):
            yield Comparison(
                f"kept of each test, {backend}: {ours}",
                "KB",
                {name: figures[name] for name in (ours, "AnyIO by hand")},
                ours,
                [Goal("AnyIO by hand", most=1.0, is_difference=True)],
            )


def kept(
    suite: str, plugins: list[str], transport: str | None, backend: str, few: int, many: int
) -> float:
    """Kilobytes by which a process grows with each test."""
    selected = [f"--harness-backends={backend}", f"--harness-transports={transport}"]
    with tempfile.TemporaryDirectory() as folder:
        sizes = Path(folder, "sizes")
        seconds(
            suite,
            *([] if transport is None else selected),
            plugins=[*plugins, "sizes"],
            passed=many + 1,
            environment={
                "BENCH_BACKEND": backend,
                "BENCH_TESTS": str(many),
                "BENCH_AT": f"{few},{many}",
                "BENCH_SIZES": str(sizes),
                "PYTHONPATH": str(SUITES),
            },
        )
        early, late = map(int, sizes.read_text().split())
    return (late - early) / 1000 / (many - few)
