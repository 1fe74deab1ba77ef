"""What the tests of the leak check share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def as_in_a_script(nothing_kept: None) -> None:
    """The checks here are no test's: nothing stays replaced for the next one."""
