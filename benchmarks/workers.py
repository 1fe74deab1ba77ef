"""The examples' suites with two workers of pytest-xdist, beside none."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .comparing import Comparison, Goal, Plan, in_turns

PYTEST = [
    *(sys.executable, "-m", "pytest", "-q"),
    *("-p", "anyio", "-p", "harness.pytest_plugin", "-p", "xdist"),
]
EXAMPLES = Path(__file__).parents[1] / "examples"


def run(plan: Plan) -> Iterator[Comparison]:
    folder = EXAMPLES / "channel" if plan.is_brief else EXAMPLES
    yield Comparison(
        "the examples' suites",
        "s",
        in_turns(
            {"-n 0": lambda: taken(folder, 0), "-n 2": lambda: taken(folder, 2)},
            plan.rounds(3),
            warm_up=not plan.is_brief,
        ),
        ours="-n 0",
        goals=[Goal("-n 2", least=1.7)],
    )


def taken(folder: Path, workers: int) -> float:
    begin = time.perf_counter()
    run = subprocess.run(
        [*PYTEST, "-n", str(workers), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    seconds = time.perf_counter() - begin
    if run.returncode != 0 or not re.search(r"\d+ passed", run.stdout):
        raise RuntimeError(f"{folder} did not pass\n{run.stdout}\n{run.stderr}")
    return seconds
