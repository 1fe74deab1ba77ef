"""Plugins that take async tests for themselves are refused, where the harness would run the test.

pytest-asyncio in auto mode and pytest-trio's ``trio_mode`` claim every async test. A test of the
harness would have its backend in its name and run on another, silently. A project that has such a
plugin and the harness, and no test of the harness yet, is left alone.
"""

from __future__ import annotations

import sys
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any

import pytest

from .matrix import marker_of_run
from .options import settings_key


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Last, because pytest-trio puts its marks on in this hook; and deselected tests are gone."""
    asyncio = is_loaded(config, "pytest_asyncio.plugin")
    trio = is_loaded(config, "pytest_trio.plugin")
    if not (asyncio or trio):
        return
    settings = config.stash[settings_key]
    for item in items:
        if not _is_async(item) or marker_of_run(item, settings) is None:
            continue
        reason = (asyncio and _asyncio_takes(item)) or (trio and _trio_takes(item))
        if not reason:
            continue
        message = f"{item.nodeid} is a test of the harness, but {reason}"
        if not hasattr(config, "workerinput"):
            raise pytest.UsageError(message)
        # A worker of pytest-xdist that ends here takes the message with it.
        item.stash[_refused_key] = message


_refused_key = pytest.StashKey[str]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    message = item.stash.get(_refused_key, None)
    if message is not None:
        pytest.fail(message, pytrace=False)


def _asyncio_takes(item: pytest.Item) -> str | None:
    if _asyncio_mode(item.config) == "auto":
        return (
            "pytest-asyncio is in auto mode: it takes every async test and fixture for itself, and "
            "would run this one on asyncio's default event loop, whatever backend is in its name. "
            "Set `asyncio_mode = strict`, with @pytest.mark.asyncio on the tests and "
            "@pytest_asyncio.fixture on the fixtures that pytest-asyncio is to run; "
            "or run the tests of the harness apart, with `-p no:asyncio`"
        )
    if item.get_closest_marker("asyncio") is not None:
        return (
            "it has @pytest.mark.asyncio: pytest-asyncio would run it on asyncio's default event "
            "loop, whatever backend is in its name. Take that marker away from the test, its class "
            'or its module; for asyncio alone write @pytest.mark.harness(backends=["asyncio"])'
        )
    return None


def _trio_takes(item: pytest.Item) -> str | None:
    mark = item.get_closest_marker("trio")
    if mark is None:
        return None
    if "run" in mark.kwargs and any(mark is each for each in item.own_markers):
        # pytest_trio/plugin.py, `automark`
        return (
            "pytest-trio's `trio_mode` is on: it takes every async test and fixture for itself, "
            "and would run this one on trio, whatever backend is in its name. Take `trio_mode` out "
            "of the ini file, or `pytest_trio.enable_trio_mode` out of conftest.py, and put "
            "@pytest.mark.trio on the tests that pytest-trio is to run; or run the tests of the "
            "harness apart, with `-p no:trio`"
        )
    return (
        "it has @pytest.mark.trio: pytest-trio would run it on trio, whatever backend is in its "
        "name. Take that marker away from the test, its class or its module; for trio alone write "
        '@pytest.mark.harness(backends=["trio"])'
    )


def is_loaded(config: pytest.Config, module: str) -> bool:
    """Whether a plugin is there, by its module: its name depends on how it was loaded."""
    plugin = sys.modules.get(module)
    return plugin is not None and config.pluginmanager.is_registered(plugin)


def _asyncio_mode(config: pytest.Config) -> str:
    """``pytest_asyncio/plugin.py``, ``_get_asyncio_mode``."""
    mode = config.getoption("asyncio_mode", None)
    return str(config.getini("asyncio_mode") if mode is None else mode)


def _is_async(item: pytest.Item) -> bool:
    """Whether a plugin for async code has to do with ``item``: its function, or a fixture."""
    function: Any = getattr(item, "obj", None)
    if hasattr(function, "hypothesis"):
        function = function.hypothesis.inner_test
    if iscoroutinefunction(function):
        return True
    definitions = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    functions = (chain[-1].func for chain in definitions.values())
    return any(iscoroutinefunction(each) or isasyncgenfunction(each) for each in functions)
