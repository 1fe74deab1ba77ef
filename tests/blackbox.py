"""How the tests run pytest in a process of its own."""

from __future__ import annotations

import importlib.util
from typing import Protocol

import pytest

#: Seconds after which a run that was started by a test is a failure. Never the expected end.
BOUND = 120.0

#: How the plugins are loaded, as arguments. The names say what is loaded by entry point.
MODES = {
    "autoload": (),
    "autoload and -p": ("-p", "anyio", "-p", "harness.pytest_plugin"),
    "-p only": ("-p", "anyio", "-p", "harness.pytest_plugin"),
    "-p only, the other order": ("-p", "harness.pytest_plugin", "-p", "anyio"),
}

#: Plugins that would run async tests, kept from loading by themselves. A test that is about one
#: loads it by its module, `-p pytest_asyncio.plugin`.
NO_RIVALS = ("-p", "no:asyncio", "-p", "no:trio")


def skip_without(module: str) -> None:
    """Skip the test if ``module`` is not installed; unlike ``importorskip``, without importing it.

    pytest-trio changes trio's scheduler when it is imported.
    """
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


class RunPytest(Protocol):
    """Runs pytest in a process of its own, in pytester's directory, with a bound."""

    def __call__(self, *arguments: str, mode: str = "-p only") -> pytest.RunResult: ...
