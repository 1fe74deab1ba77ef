"""Where tests and fixtures are written, in words for a message."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Owner:
    """The test or the fixture for which something was made.

    :ivar nodeid: the test, or the one that a fixture was set up for
    :ivar fixture: the name of the fixture, if it is one
    :ivar scope: the scope of the fixture; ``"test"`` for a test
    :ivar place: the file and line of the fixture
    """

    nodeid: str
    fixture: str | None = None
    scope: str = "test"
    place: str = ""

    @property
    def outlives_its_test(self) -> bool:
        return self.scope not in ("test", "function")

    def __str__(self) -> str:
        if self.fixture is None:
            return f"the test {self.nodeid}"
        if not self.outlives_its_test:
            return f"the fixture {self.fixture!r} ({self.place}) of the test {self.nodeid}"
        return (
            f"the {self.scope}-scoped fixture {self.fixture!r} ({self.place}), "
            f"set up for {self.nodeid}"
        )


def owner_of_fixture(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Owner:
    """``fixturedef``, set up for ``request``, as an owner."""
    place = place_of_function(fixturedef.func, request.config)
    return Owner(item_of(request).nodeid, fixturedef.argname, fixturedef.scope, place)


def item_of(request: pytest.FixtureRequest) -> pytest.Item:
    """The test that ``request`` is made for; ``request.node`` may be its module or session.

    ``_pytest/fixtures.py``, ``FixtureRequest._pyfuncitem``.
    """
    item: pytest.Item = request._pyfuncitem
    return item


def name_without_backend(name: str, backend: str) -> str:
    """The name or node id of a test with the id of its backend taken out: the same on all."""
    function, bracket, parameters = name.partition("[")
    ids = parameters.removesuffix("]")
    if ids == backend:
        return function
    padded = f"-{ids}-".replace(f"-{backend}-", "-", 1)
    return f"{function}{bracket}{padded[1:-1]}]"


def place_of_function(function: Any, config: pytest.Config) -> str:
    """``file:line``, from the root of the project where the file is below it."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return repr(function)
    return f"{_below(config.rootpath, code.co_filename)}:{code.co_firstlineno}"


@functools.lru_cache(maxsize=256)
def _below(root: Path, file: str) -> Path:
    path = Path(file)
    return path.relative_to(root) if path.is_relative_to(root) else path
