"""The end of a process that cannot go on."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

import pytest


def end_the_run(config: pytest.Config, report: str) -> NoReturn:
    """Print ``report`` and end the process.

    An event loop with a task that swallows every cancellation cannot be closed: on every backend,
    AnyIO's runner would now wait for it for ever, silently and at full speed.
    """
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.suspend_global_capture(in_=True)
    sys.stdout.flush()
    print(
        f"\n\n{report}\nThe event loop of this test cannot end, and the run with it: "
        "the process stops here.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(pytest.ExitCode.INTERNAL_ERROR)
