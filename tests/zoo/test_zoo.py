"""The bug zoo: every bug is found, with the right name, and no correct twin raises an alarm.

An animal is a file in a folder that says what kind it is. It is a test module as a user would write
it, parametrized by two pieces of code: ``buggy`` (or ``Buggy``), with one real bug, and beside it
``correct``, its twin. The same tests must fail with the one and pass with the other. The file says
how they must fail, in constants that only this module reads:

* ``FOUND``: regular expressions, each of which must occur in what pytest reports for that test
* ``FAILS``: the one test that fails, if the buggy code passes the others
* ``NEEDS``: what of the harness finds it (:data:`OPTIONS`), if a crash or a failed assertion do not
* ``ALONE``: the bug ends or blocks the process, so it gets one of its own
* ``BACKENDS``: where the bug can be made at all, if not everywhere

Animals run in pytest processes of their own, as many in one as possible, each process with a bound.
"""

from __future__ import annotations

import json
import re
import runpy
import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from blackbox import RunPytest

ZOO = Path(__file__).parent

#: What an animal may need -> the ini options that a run for it sets. A need whose first option this
#: version of the harness does not have skips its animals.
OPTIONS: dict[str | None, dict[str, str]] = {
    None: {},
    "timeout": {"harness_timeout": "0.7", "harness_grace": "0.1"},
    "leaks": {"harness_leaks": "error"},
    "blocking": {"harness_blocking": "error"},
}

#: Where an animal runs, unless its marker says otherwise. A hang costs its whole time limit.
TRANSPORTS = {None: "tcp,memory", "timeout": "tcp", "leaks": "tcp,memory", "blocking": "tcp"}

#: Reports go to a file, a line each, so that those before a sudden end of the process are there.
CONFTEST = """
import json, pathlib

reports = pathlib.Path(__file__).with_name("reports.jsonl")

def pytest_runtest_logreport(report):
    sections = "".join(f"\\n{name}\\n{text}" for name, text in report.sections)
    with reports.open("a") as file:
        file.write(json.dumps([report.nodeid, report.outcome, report.longreprtext + sections]))
        file.write("\\n")
"""


@dataclass(frozen=True)
class Animal:
    """What a file of the zoo says of itself."""

    path: Path
    found: tuple[str, ...]
    needs: str | None = None
    fails: str = ""
    alone: bool = False
    backends: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.path.relative_to(ZOO).with_suffix("").as_posix()


def read_animal(path: Path) -> Animal:
    said = runpy.run_path(str(path))
    return Animal(
        path,
        tuple(said["FOUND"]),
        needs=said.get("NEEDS"),
        fails=said.get("FAILS", ""),
        alone=said.get("ALONE", False),
        backends=said.get("BACKENDS", ()),
    )


ANIMALS = [read_animal(path) for path in sorted(ZOO.glob("*/*.py"))]
TOGETHER = [animal for animal in ANIMALS if not animal.alone]
ALONE = [animal for animal in ANIMALS if animal.alone]


@dataclass
class Outcome:
    """What one test came to: whether a phase of it failed, and all that was said of it."""

    failed: bool = False
    text: str = ""


@dataclass
class Run:
    """A pytest process: its outcomes by node id, and all that it printed."""

    outcomes: dict[str, Outcome] = field(default_factory=lambda: defaultdict(Outcome))
    output: str = ""

    def of(self, animal: Animal) -> dict[str, Outcome]:
        return {
            node: outcome
            for node, outcome in self.outcomes.items()
            if node.startswith(f"{animal.name}.py::")
        }


class Keeper:
    """Runs animals in a process of their own."""

    def __init__(self, pytester: pytest.Pytester, run_pytest: RunPytest, backend: str) -> None:
        self.pytester = pytester
        self.run_pytest = run_pytest
        self.backend = backend

    def lives_here(self, animal: Animal) -> bool:
        return not animal.backends or self.backend in animal.backends

    def run(self, animals: Iterable[Animal], needs: str | None, *arguments: str) -> Run:
        names = [f"{animal.name}.py" for animal in animals]
        for name in names:
            copy = self.pytester.path / name
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(ZOO / name, copy)
        self.pytester.makeconftest(CONFTEST)
        lines = [f"{option} = {value}" for option, value in OPTIONS[needs].items()]
        self.pytester.makeini("\n".join(["[pytest]", "harness_cancel_timeout = 1", *lines]))
        result = self.run_pytest(
            *names,
            f"--harness-backends={self.backend}",
            f"--harness-transports={TRANSPORTS[needs]}",
            "--import-mode=importlib",
            *("-W", "error"),
            *arguments,
        )
        run = Run(output=f"{result.stdout}\n{result.stderr}")
        reports = self.pytester.path / "reports.jsonl"
        for line in reports.read_text().splitlines() if reports.exists() else ():
            node, outcome, text = json.loads(line)
            run.outcomes[node].failed |= outcome == "failed"
            run.outcomes[node].text += text
        return run


@pytest.fixture
def keeper(pytester: pytest.Pytester, run_pytest: RunPytest, backend: str) -> Keeper:
    return Keeper(pytester, run_pytest, backend)


def is_buggy(node: str) -> bool:
    return "buggy" in node.rpartition("[")[2].lower()


def complaints(animal: Animal, run: Run) -> Iterable[str]:
    """What is wrong with how a run in a batch came out for one animal."""
    outcomes = run.of(animal)
    bugs = [node for node in outcomes if is_buggy(node) and animal.fails in node]
    if not bugs:
        yield f"{animal.name}: its buggy test did not run"
    for node, outcome in outcomes.items():
        if node not in bugs:
            if outcome.failed:
                yield f"{node}: false alarm:\n{outcome.text}"
        elif not outcome.failed:
            yield f"{node}: the bug was not found"
        else:
            yield from (f"{node}: {each}" for each in missing(animal, outcome.text))


def missing(animal: Animal, text: str) -> Iterable[str]:
    for pattern in animal.found:
        if not re.search(pattern, text, re.MULTILINE):
            yield f"not said: {pattern}\nin:\n{text}"


def skip_unless_there(config: pytest.Config, needs: str | None) -> None:
    for option in OPTIONS[needs]:
        try:
            config.getini(option)
        except (KeyError, ValueError):
            pytest.skip(f"this version of the harness has no {option}")


@pytest.mark.parametrize("needs", OPTIONS, ids=lambda needs: needs or "nothing")
def test_every_bug_is_found_and_named(
    pytestconfig: pytest.Config, keeper: Keeper, needs: str | None
) -> None:
    """The twins run in between: what a bug leaves behind is not blamed on its neighbour.

    Not where the time limit is short, which on a slow machine would be a false alarm.
    """
    skip_unless_there(pytestconfig, needs)
    animals = [each for each in TOGETHER if each.needs == needs and keeper.lives_here(each)]
    run = keeper.run(animals, needs, *(("-k", "buggy") if needs == "timeout" else ()))
    wrong = [each for animal in animals for each in complaints(animal, run)]
    assert not wrong, "\n\n".join([*wrong, run.output[-3000:]])


@pytest.mark.parametrize("animal", ALONE, ids=lambda animal: animal.name)
def test_a_bug_that_takes_the_process_with_it_is_named(
    pytestconfig: pytest.Config, keeper: Keeper, animal: Animal
) -> None:
    skip_unless_there(pytestconfig, animal.needs)
    run = keeper.run([animal], animal.needs, "-k", "buggy", "--harness-transports=tcp")
    assert not any(True for _ in missing(animal, run.output)), run.output


def test_no_twin_raises_an_alarm(pytestconfig: pytest.Config, keeper: Keeper) -> None:
    """All twins in one process, with everything switched on and the usual time limit."""
    options = OPTIONS["leaks"] | OPTIONS["blocking"]
    animals = [animal for animal in ANIMALS if keeper.lives_here(animal)]
    run = keeper.run(animals, None, "-k", "not buggy", *overrides(pytestconfig, options))
    silent = [animal.name for animal in animals if not run.of(animal)]
    alarms = [f"{node}:\n{each.text}" for node, each in run.outcomes.items() if each.failed]
    assert not alarms, "\n\n".join(alarms)
    assert not silent, f"did not run: {silent}\n{run.output}"
    assert "Task was destroyed" not in run.output
    assert "Warning" not in run.output


def overrides(config: pytest.Config, options: dict[str, Any]) -> Iterable[str]:
    """``-o name=value`` for those options that there are."""
    for option, value in options.items():
        try:
            config.getini(option)
        except (KeyError, ValueError):
            continue
        yield from ("-o", f"{option}={value}")


def test_there_are_enough_animals() -> None:
    assert len(ANIMALS) >= 44
    assert len({animal.path.parent.name for animal in ANIMALS}) >= 12
