"""The virtual clock under pytest-trio's names; loaded where pytest-trio is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .clocks import clock_of

if TYPE_CHECKING:
    from ..virtualtime import VirtualClock


@pytest.fixture
def autojump_clock(request: pytest.FixtureRequest, anyio_backend: Any) -> VirtualClock:
    """``virtual_clock``."""
    return clock_of(request)


@pytest.fixture
def mock_clock(request: pytest.FixtureRequest, anyio_backend: Any) -> VirtualClock:
    """``virtual_clock`` with ``autojump`` off: time only goes on when the test says so."""
    return clock_of(request)
