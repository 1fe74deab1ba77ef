"""What the harness has to say in the report of a phase of a test.

One hook for all of it: pytest makes three reports of a test, and of one that passes there is little
to say.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from .loops import Loops
from .outputs import Outputs
from .seeds import say_seed
from .summary import say_cell
from .tracebacks import made_of_users_code


class Reports:
    """Adds to the reports of one run.

    :param loops: knows for whom event loops were made
    :param outputs: knows what processes have written
    """

    def __init__(self, loops: Loops, outputs: Outputs) -> None:
        self._loops = loops
        self._outputs = outputs

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        if call.excinfo is None:
            report = yield
        else:
            self._loops.add_notes(call.excinfo.value, item)
            report = yield from made_of_users_code(item, call)
        if report.failed:
            self._outputs.show(report)
            say_seed(report, item)
        say_cell(report, item, call)
        return report
