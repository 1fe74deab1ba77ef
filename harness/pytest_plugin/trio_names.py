"""The virtual clock under pytest-trio's names; loaded where pytest-trio is not."""

from __future__ import annotations

from typing import Any

import pytest

from ..virtualtime import VirtualClock
from .clocks import clock_of


@pytest.fixture
def autojump_clock(request: pytest.FixtureRequest, anyio_backend: Any) -> VirtualClock:
    """``virtual_clock``."""
    return clock_of(request)


@pytest.fixture
def mock_clock(request: pytest.FixtureRequest, anyio_backend: Any) -> VirtualClock:
    """``virtual_clock`` with ``autojump`` off: time only goes on when the test says so."""
    return clock_of(request)
