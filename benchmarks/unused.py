"""A trivial async test of AnyIO's plugin, with the harness installed and not used."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from .comparing import Comparison, Goal, Plan, Take, in_turns
from .echo_tests import microseconds

WITH_HARNESS = ["anyio", "harness.pytest_plugin"]


def run(plan: Plan) -> Iterator[Comparison]:
    tests = plan.some(500, 3)
    for backend in plan.backends:
        trivial = functools.partial(microseconds, tests, "trivial.py")
        no_leaks = ("-o", "harness_leaks=off")
        contestants: dict[str, Take] = {
            "harness": functools.partial(trivial, WITH_HARNESS, backend),
            "harness, no leak checks": functools.partial(
                trivial, WITH_HARNESS, backend, options=no_leaks
            ),
            "AnyIO alone": functools.partial(trivial, ["anyio"], backend),
        }
        figures = in_turns(contestants, plan.rounds(11))
        # It does look for the leaks of tests that AnyIO runs, and warns of them, if it is not told
        # to leave that.
        for ours in ("harness", "harness, no leak checks"):
            yield Comparison(
                f"trivial test of AnyIO's plugin, {backend}: {ours}",
                "us a test",
                {name: figures[name] for name in (ours, "AnyIO alone")},
                ours,
                [Goal("AnyIO alone", most=1.05)],
            )
