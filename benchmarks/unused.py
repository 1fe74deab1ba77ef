"""A trivial async test of AnyIO's plugin, with the harness installed and not used."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from .comparing import Comparison, Goal, Plan, Take, in_turns
from .echo_tests import microseconds

PLUGINS = {"harness": ["anyio", "harness.pytest_plugin"], "AnyIO alone": ["anyio"]}


def run(plan: Plan) -> Iterator[Comparison]:
    tests = plan.some(500, 3)
    for backend in plan.backends:
        contestants: dict[str, Take] = {
            name: functools.partial(microseconds, tests, "trivial.py", plugins, backend)
            for name, plugins in PLUGINS.items()
        }
        figures = in_turns(contestants, plan.rounds(11))
        yield Comparison(
            f"trivial test, {backend}",
            "us a test",
            figures,
            goals=[Goal("AnyIO alone", most=1.05)],
        )
