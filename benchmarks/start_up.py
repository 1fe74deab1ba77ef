"""What the plugin adds to the start of pytest, and what it imports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from .comparing import Comparison, Goal, Plan, in_turns
from .whole_process import SUITES, seconds

#: None of these is imported for the harness by a run that does not use it.
NOT_BEFORE_USE = ("trio", "uvloop", "ssl", "trustme")


def run(plan: Plan) -> Iterator[Comparison]:
    with_plugin = ["anyio", "harness.pytest_plugin"]
    figures = in_turns(
        {
            "harness": lambda: seconds("empty.py", plugins=with_plugin, passed=0) * 1e3,
            "AnyIO alone": lambda: seconds("empty.py", plugins=["anyio"], passed=0) * 1e3,
        },
        plan.rounds(31),
    )
    imported = imports(with_plugin) - imports(["anyio"])
    yield Comparison(
        "start of an empty suite",
        "ms",
        figures,
        goals=[Goal("AnyIO alone", most=30, is_difference=True)],
    )
    too_early = [name for name in NOT_BEFORE_USE if name in imported]
    if too_early:
        raise RuntimeError(f"an empty suite imports {', '.join(too_early)}")


def imports(plugins: list[str]) -> set[str]:
    """The modules that an empty suite has imported at its end."""
    code = (
        "import sys, pytest\n"
        f"pytest.main({['-q', '-c', str(SUITES / 'pytest.ini'), str(SUITES / 'empty.py')]!r}"
        f" + [part for plugin in {plugins!r} for part in ('-p', plugin)])\n"
        "print('modules', *sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    return set(run.stdout.rpartition("modules")[2].split())
