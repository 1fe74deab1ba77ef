"""Async tests that do nothing, under AnyIO's plugin."""

from __future__ import annotations

import pytest
from common import BACKEND, TESTS


@pytest.fixture
def anyio_backend():
    if BACKEND == "uvloop":
        return ("asyncio", {"use_uvloop": True})
    return BACKEND


def test_nothing():
    pass


@pytest.mark.anyio
@pytest.mark.parametrize("number", range(TESTS))
async def test_it(anyio_backend, number):
    pass
