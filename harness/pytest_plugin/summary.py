"""The matrix at the end of a run: backends by transports, and the tests that tell them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from .current import current_run
from .matrix import marker_of_run
from .options import Settings, settings_key
from .places import name_without_backend

#: The attribute of a report that carries its cell; pytest-xdist sends a report's attributes along.
CELL = "harness_cell"
#: And the one that says that its failure is only the end of a fixture that other tests used, too.
OF_OTHERS = "harness_of_others"
NO_TRANSPORT = "(none)"
OUTCOMES = ("passed", "failed", "skipped", "xfailed")

Cell = tuple[str, str, str]


def say_cell(report: pytest.TestReport, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Say in ``report`` which cell of the matrix it is of, if of any."""
    settings = item.config.stash[settings_key]
    if marker_of_run(item, settings) is None:
        return
    run = current_run(item.config)
    cell = (None if run is None else run.cell) or cell_of(item, settings)
    if cell is None:
        return
    if run is not None and cell[1] != NO_TRANSPORT:  # else there may be one yet
        run.cell = cell
    setattr(report, CELL, cell)
    if call.excinfo is not None and run is not None:
        setattr(report, OF_OTHERS, not run.is_of_the_test(call.excinfo.value))


def cell_of(item: pytest.Item, settings: Settings) -> Cell | None:
    """Backend, transport and the test's name without its backend; ``None`` if it is no cell."""
    parameters = {
        **getattr(item, "funcargs", {}),
        **getattr(getattr(item, "callspec", None), "params", {}),
    }
    if "anyio_backend" not in parameters:
        return None
    backend = settings.backend_of(parameters["anyio_backend"]).name
    transport = parameters.get("transport", NO_TRANSPORT)
    transport = getattr(transport, "name", transport)
    return backend, str(transport), name_without_backend(item.nodeid, backend)


class Summary:
    """Counts the cells of a run as reports come in, from this process or from workers."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._counts: dict[tuple[str, str], Counter[str]] = {}
        #: by the test's name and its backend; little, since it is kept of every test
        self._outcomes: dict[tuple[str, str], str] = {}
        #: where that is not what the test itself did: by that alone backends are compared
        self._own: dict[tuple[str, str], str | None] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        cell = getattr(report, CELL, None)
        if cell is None:
            return
        backend, transport, name = cell
        outcome = outcome_of(report)
        if outcome is None:
            return
        test = name, backend
        before = self._outcomes.get(test)
        after = more_of(before, outcome)
        own = self._own.get(test, before)
        if not getattr(report, OF_OTHERS, False):
            own = more_of(own, outcome)
        if own != after:
            self._own[test] = own
        elif test in self._own:
            del self._own[test]
        if after == before:
            return
        self._outcomes[test] = after
        counts = self._counts.setdefault((backend, transport), Counter())
        counts[after] += 1
        if before is not None:
            counts[before] -= 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._counts or terminalreporter.verbosity < -1:
            return
        terminalreporter.section("harness: backends x transports")
        for line in self.matrix():
            terminalreporter.write_line(line)
        told_apart = list(self.told_apart())
        if told_apart:
            terminalreporter.write_line("")
            terminalreporter.write_line("passed on one backend and failed on another:")
            for line in told_apart:
                terminalreporter.write_line(f"  {line}", red=True)

    def matrix(self) -> Iterable[str]:
        """The table, a line each, as wide as it needs to be."""
        backends = _ordered((backend for backend, _ in self._counts), self._settings.backends)
        transports = _ordered(
            (transport for _, transport in self._counts), self._settings.transports
        )
        rows = [["", *transports]]
        for backend in backends:
            cells = (self._counts.get((backend, transport)) for transport in transports)
            rows.append([backend, *(_cell_text(counts) for counts in cells)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            yield "  ".join(
                text.ljust(width) for text, width in zip(row, widths, strict=True)
            ).rstrip()

    def told_apart(self) -> Iterable[str]:
        """The tests that passed on one backend and failed on another."""
        by_name: dict[str, dict[str, str | None]] = {}
        for (name, backend), outcome in self._outcomes.items():
            by_name.setdefault(name, {})[backend] = self._own.get((name, backend), outcome)
        for name, outcomes in by_name.items():
            passed = [backend for backend, outcome in outcomes.items() if outcome == "passed"]
            failed = [backend for backend, outcome in outcomes.items() if outcome == "failed"]
            if passed and failed:
                yield f"{name}: passed on {', '.join(passed)}; failed on {', '.join(failed)}"


def more_of(before: str | None, outcome: str) -> str:
    """The phases of one test count once, and a failure counts most."""
    return outcome if before is None or outcome == "failed" else before


def outcome_of(report: pytest.TestReport) -> str | None:
    """What a report adds to its test's outcome, if anything."""
    if report.failed:
        return "failed"
    if report.skipped:
        return "xfailed" if hasattr(report, "wasxfail") else "skipped"
    return "passed" if report.when == "call" else None


def _cell_text(counts: Counter[str] | None) -> str:
    if counts is None:
        return "-"
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome])


def _ordered(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """``names`` once each, in the order of ``known``; unknown ones last."""
    order = {name: position for position, name in enumerate(known)}
    return sorted(set(names), key=lambda name: (order.get(name, len(order)), name))
