"""The pytest plugin: the only room of the harness that imports pytest.

It stands on AnyIO's plugin, which runs async tests and fixtures for every test that has
``anyio_backend`` in its fixtures. This one gives ``anyio_backend`` its parameters for the tests
that use the harness, adds the fixtures ``harness`` and ``transport``, lets a crash end the test
body, and prints the matrix. Tests that use none of it are left alone.
"""

from __future__ import annotations

import functools
from contextlib import ExitStack

import pytest

from ..adapters import blocking
from ..adapters.output import listeners
from ..hooks import kept
from ..seeds import sources
from . import bodies, forbidden, outputs, rivals, run, seeds, tracebacks, trio_names, unrun
from .clocks import virtual_clock
from .fixtures import harness, transport
from .loops import Loops, loops_key
from .matrix import pytest_generate_tests, pytest_pycollect_makeitem
from .options import pytest_addhooks, pytest_addoption, read_settings, settings_key
from .summary import Summary, pytest_runtest_makereport


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    settings = config.stash[settings_key] = read_settings(config)
    loops = config.stash[loops_key] = Loops()
    config.pluginmanager.register(loops, "harness-loops")
    for each in (run, bodies, unrun, rivals, forbidden, tracebacks, seeds):
        config.pluginmanager.register(each, each.__name__)
    keeping = ExitStack()
    keeping.enter_context(kept())
    config.add_cleanup(keeping.close)
    source = seeds.SeedSource(config)
    sources.append(source)
    config.add_cleanup(lambda: sources.remove(source))
    bounded = functools.partial(run.bound_serve_blocking, config)
    blocking.listeners.append(bounded)
    config.add_cleanup(lambda: blocking.listeners.remove(bounded))
    shown = outputs.Outputs()
    listeners.append(shown.started)
    config.add_cleanup(lambda: listeners.remove(shown.started))
    config.pluginmanager.register(shown, "harness-outputs")
    config.pluginmanager.register(run.RefuseFixtures(), "harness-refuse-fixtures")
    if not rivals.is_loaded(config, "pytest_trio.plugin"):
        config.pluginmanager.register(trio_names, trio_names.__name__)
    if settings.summary:
        config.pluginmanager.register(Summary(settings), "harness-summary")


__all__ = [
    "harness",
    "pytest_addhooks",
    "pytest_addoption",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_pycollect_makeitem",
    "pytest_runtest_makereport",
    "transport",
    "virtual_clock",
]
