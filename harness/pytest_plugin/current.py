"""Which run is the one of the test that is running; known without what runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .run import Run

run_key: pytest.StashKey[Run | None] = pytest.StashKey()


def current_run(config: pytest.Config) -> Run | None:
    """The run of the test that is running; ``None`` between two tests."""
    return config.stash.get(run_key, None)
