"""The pytest plugin: the only room of the harness that imports pytest.

It stands on AnyIO's plugin, which runs async tests and fixtures for every test that has
``anyio_backend`` in its fixtures. This one gives ``anyio_backend`` its parameters for the tests
that use the harness, adds the fixtures ``harness`` and ``transport``, lets a crash end the test
body, and prints the matrix. Tests that use none of it are left alone.

What runs tests is loaded with the first one (:mod:`harness.pytest_plugin.first_test`): a run that
has none, or hands them all to workers, is spared most of the import.
"""

from __future__ import annotations

import pytest

from . import rivals, trio_names
from .clocks import virtual_clock
from .fixtures import harness, transport
from .matrix import pytest_generate_tests, pytest_pycollect_makeitem
from .options import (
    pytest_addhooks,
    pytest_addoption,
    pytest_configure_node,
    read_settings,
    settings_key,
)
from .summary import Summary


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    settings = config.stash[settings_key] = read_settings(config)
    config.pluginmanager.register(FirstTest(config), "harness-first-test")
    if not rivals.is_loaded(config, "pytest_trio.plugin"):
        config.pluginmanager.register(trio_names, trio_names.__name__)
    if settings.summary:
        config.pluginmanager.register(Summary(settings), "harness-summary")


class FirstTest:
    """Waits for the first test that is collected."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_itemcollected(self) -> None:
        from .first_test import register_the_rest

        self._config.pluginmanager.unregister(self)
        register_the_rest(self._config)


__all__ = [
    "harness",
    "pytest_addhooks",
    "pytest_addoption",
    "pytest_configure",
    "pytest_configure_node",
    "pytest_generate_tests",
    "pytest_pycollect_makeitem",
    "transport",
    "virtual_clock",
]
