"""A whole test of a server: connect, three round trips, teardown, leak checks on."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from .comparing import Comparison, Goal, Plan, Take, in_turns
from .peers import has
from .whole_process import seconds

#: Of AnyIO's plugin by hand, on each backend.
BY_HAND = {"asyncio": 0.7, "uvloop": 0.85, "trio": 0.85}

#: What else a backend has, with the suite, the plugins, and the goal.
OTHERS = {
    "asyncio": [
        ("pytest-asyncio", "with_pytest_asyncio.py", ["asyncio"], 1.0),
        ("aiomisc", "with_aiomisc.py", ["aiomisc"], 0.1),
    ],
    "trio": [("pytest-trio", "with_pytest_trio.py", ["trio"], 1.0)],
}


def run(plan: Plan) -> Iterator[Comparison]:
    tests = plan.some(200, 3)
    for backend in plan.backends:
        with_harness = functools.partial(
            microseconds, tests, "with_harness.py", ["anyio", "harness.pytest_plugin"], backend
        )
        contestants: dict[str, Take] = {
            "harness, tcp": functools.partial(with_harness, "tcp"),
            "harness, memory": functools.partial(with_harness, "memory"),
            "AnyIO by hand": functools.partial(
                microseconds, tests, "by_hand.py", ["anyio"], backend
            ),
            # What no harness that stands on AnyIO's plugin can be below.
            "the least, tcp": functools.partial(
                microseconds, tests, "least.py", ["anyio"], backend, BENCH_TRANSPORT="tcp"
            ),
            "the least, memory": functools.partial(
                microseconds, tests, "least.py", ["anyio"], backend, BENCH_TRANSPORT="memory"
            ),
        }
        goals = [Goal("AnyIO by hand", most=BY_HAND[backend])]
        for name, suite, plugins, most in OTHERS.get(backend, []):
            if has(name):
                contestants[name] = functools.partial(microseconds, tests, suite, plugins, backend)
                goals.append(Goal(name, most=most))
        figures = in_turns(contestants, plan.rounds(9))
        over_tcp = {name: taken for name, taken in figures.items() if "memory" not in name}
        in_memory = ("harness, memory", "AnyIO by hand", "the least, memory")
        yield Comparison(
            f"echo test over tcp, {backend}", "us a test", over_tcp, "harness, tcp", goals
        )
        yield Comparison(
            f"echo test in memory, {backend}",
            "us a test",
            {name: figures[name] for name in in_memory},
            "harness, memory",
            [Goal("AnyIO by hand", most=0.5)],
        )


def microseconds(
    tests: int,
    suite: str,
    plugins: list[str],
    backend: str,
    transport: str = "",
    options: Sequence[str] = (),
    **environment: str,
) -> float:
    """What a test takes beyond what a run without any takes."""
    selected = [f"--harness-backends={backend}", f"--harness-transports={transport}"]
    arguments = [*(selected if transport else []), *options]
    run = functools.partial(seconds, suite, *arguments, plugins=plugins)
    environment["BENCH_BACKEND"] = backend
    none = run("-k", "test_nothing", passed=1, environment=environment)
    environment["BENCH_TESTS"] = str(tests)
    return (run(passed=tests + 1, environment=environment) - none) / tests * 1e6
