"""What has to be there once there is a test to run."""

from __future__ import annotations

import functools
from contextlib import ExitStack

import pytest

from ..adapters import blocking
from ..adapters.output import listeners
from ..hooks import kept
from ..seeds import sources
from . import bodies, forbidden, outputs, rivals, run, seeds, unrun
from .loops import Loops, loops_key
from .reports import Reports


def register_the_rest(config: pytest.Config) -> None:
    """Register the hooks that run tests; take part in what the harness does, until the end."""
    loops = config.stash[loops_key] = Loops()
    config.pluginmanager.register(loops, "harness-loops")
    for each in (run, bodies, unrun, rivals, forbidden):
        config.pluginmanager.register(each, each.__name__)
    shown = outputs.Outputs()
    config.pluginmanager.register(shown, "harness-outputs")
    config.pluginmanager.register(Reports(loops, shown), "harness-reports")
    config.pluginmanager.register(run.RefuseFixtures(), "harness-refuse-fixtures")
    keeping = ExitStack()
    keeping.enter_context(kept())
    config.add_cleanup(keeping.close)
    source = seeds.SeedSource(config)
    sources.append(source)
    config.add_cleanup(lambda: sources.remove(source))
    bounded = functools.partial(run.bound_serve_blocking, config)
    blocking.listeners.append(bounded)
    config.add_cleanup(lambda: blocking.listeners.remove(bounded))
    listeners.append(shown.started)
    config.add_cleanup(lambda: listeners.remove(shown.started))
