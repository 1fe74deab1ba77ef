"""A clock to move by hand, and a server whose keys expire by it."""

from __future__ import annotations

import pytest
from keyvalue import KeyValueServer, Store

from harness import Harness, Server


class Clock:
    """Tells the time that a test has set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def server(harness: Harness, clock: Clock) -> Server:
    return await harness.serve(KeyValueServer(Store(clock)))
