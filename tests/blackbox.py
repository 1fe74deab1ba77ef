"""How the tests run pytest in a process of its own."""

from __future__ import annotations

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


class RunPytest(Protocol):
    """Runs pytest in a process of its own, in pytester's directory, with a bound."""

    def __call__(self, *arguments: str, mode: str = "-p only") -> pytest.RunResult: ...
