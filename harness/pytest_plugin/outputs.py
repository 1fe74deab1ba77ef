"""What the processes of a test have written, in its report if it fails."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from ..adapters.output import Output

#: The last lines of each process that are shown.
SHOWN = 50


class Outputs:
    """Knows the processes that run during a test, and what they have written before it."""

    def __init__(self) -> None:
        self._before: dict[Output, int] = {}

    def started(self, output: Output) -> None:
        """A process was started, for the first time or again."""
        self._before.setdefault(output, output.count)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        # Those of fixtures of a wider scope go on.
        self._before = {each: each.count for each in self._before if each.is_open}
        return (yield)

    def show(self, report: pytest.TestReport) -> None:
        """Add to ``report`` what they have written."""
        for output, before in self._before.items():
            lines = output.shown(before, SHOWN)
            if lines:
                report.sections.append((f"output of process {output.name!r}", "\n".join(lines)))
