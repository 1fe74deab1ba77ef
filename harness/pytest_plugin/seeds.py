"""The seed of the run: what the seeds of its tests follow from, and which failures say it.

A test's own seed follows from the run's and from the test's name without its backend. So it is the
same in whatever order, process and selection the test is run, and on every backend.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import pytest

from ..seeds import Seed
from ..steps import FixtureTask, current_fixture
from .current import current_run
from .options import Settings, settings_key
from .places import name_without_backend
from .run import Run, fixtures_of

#: The title of the section of a report.
TITLE = "harness seed"

#: The fixtures of harness tests, by the tasks that hold them open.
_definitions: WeakKeyDictionary[FixtureTask, pytest.FixtureDef[Any]] = WeakKeyDictionary()

#: How many seeds such a fixture has been given.
_given: WeakKeyDictionary[FixtureTask, int] = WeakKeyDictionary()

#: The fixtures in which something follows from a seed of theirs.
_seeded: WeakSet[pytest.FixtureDef[Any]] = WeakSet()


def begin_fixture(task: FixtureTask, definition: pytest.FixtureDef[Any]) -> None:
    """Get to know a fixture, before it is set up."""
    _definitions[task] = definition
    _seeded.discard(definition)


def seed_of_test(item: pytest.Item, settings: Settings) -> Seed:
    """The seed of the fixture ``harness``, and of each example of Hypothesis."""
    return Seed(f"{settings.seed}/{name_of(item, settings)}", lambda: _note(item.config))


def name_of(item: pytest.Item, settings: Settings) -> str:
    """The node id of a test without its backend.

    Made of the names, since pytest-xdist adds the group of a test to its ``nodeid``.
    """
    name = item.name
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    if "anyio_backend" in parameters:
        name = name_without_backend(name, settings.backend_of(parameters["anyio_backend"]).name)
    return name if item.parent is None else f"{item.parent.nodeid}::{name}"


class SeedSource:
    """Makes the seed of an ``open_harness()`` that is given none."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def __call__(self) -> Seed:
        settings = self._config.stash[settings_key]
        fixture = current_fixture()
        definition = None if fixture is None else _definitions.get(fixture)
        if fixture is not None and definition is not None and definition.scope != "function":
            count = _given[fixture] = _given.get(fixture, 0) + 1
            return Seed(
                f"{settings.seed}/fixture {definition.argname}/{count}",
                lambda: _note(self._config, definition),
            )
        run = current_run(self._config)
        if run is None:
            return Seed(settings.seed)
        run.seeds_given += 1
        name = name_of(run.item, settings)
        return Seed(f"{settings.seed}/{name}/{run.seeds_given}", lambda: _note(self._config))


def _note(config: pytest.Config, definition: pytest.FixtureDef[Any] | None = None) -> None:
    """Something follows from a seed of the test that is running, or of a fixture."""
    run = current_run(config)
    if run is not None:
        run.seeded = True
    if definition is not None:
        _seeded.add(definition)


def _is_seeded(run: Run) -> bool:
    return run.seeded or any(definition in _seeded for definition in fixtures_of(run.item))


def say_seed(report: pytest.TestReport, item: pytest.Item) -> None:
    """Say how the random choices of a test that has failed are made again."""
    run = current_run(item.config)
    if run is not None and _is_seeded(run):
        seed = item.config.stash[settings_key].seed
        report.sections.append((TITLE, f"replay with --harness-seed={seed}"))
