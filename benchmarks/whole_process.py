"""Runs of pytest as processes of their own, with exactly the plugins that are named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

SUITES = Path(__file__).with_name("suites")

#: Longer than any run of these takes, in seconds.
LONGEST = 900.0


def seconds(
    file: str | Path,
    *arguments: str,
    plugins: Sequence[str] = (),
    passed: int,
    environment: Mapping[str, str] | None = None,
) -> float:
    """How long one run takes, from the start of the process to its end.

    :param file: of ``suites``, or a path
    :param plugins: the names of pytest's entry points; no other plugin is loaded
    :param passed: how many tests have to pass
    :raises RuntimeError: if that is not what comes of it
    """
    named = [argument for plugin in plugins for argument in ("-p", plugin)]
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-c", str(SUITES / "pytest.ini")),
        *("-p", "no:cacheprovider", *named, str(SUITES / file), *arguments),
    ]
    begin = time.perf_counter()
    run = subprocess.run(
        command,
        env={
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONDONTWRITEBYTECODE": "",
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    taken = time.perf_counter() - begin
    found = re.findall(r"(\d+) passed", run.stdout)
    if (int(found[-1]) if found else 0) != passed or run.returncode not in (0, 5):
        raise RuntimeError(
            f"{passed} tests had to pass\n{' '.join(command)}\n{run.stdout}\n{run.stderr}"
        )
    return taken
