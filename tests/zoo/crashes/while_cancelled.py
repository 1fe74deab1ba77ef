"""What a handler does when it is cancelled was never tried, and fails."""

from __future__ import annotations

from collections import Counter

import pytest
from anyio import get_cancelled_exc_class
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"^E +KeyError: 'dropped'", r'^> .*statistics\["dropped"\]']


async def buggy(stream: ByteStream) -> None:
    statistics: dict[str, int] = {}
    try:
        await stream.receive()
    except get_cancelled_exc_class():
        statistics["dropped"] += 1
        raise


async def correct(stream: ByteStream) -> None:
    statistics: Counter[str] = Counter()
    try:
        await stream.receive()
    except get_cancelled_exc_class():
        statistics["dropped"] += 1
        raise


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_dropped_connections(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    await server.connect()
    await server.wait_connections(1)
    await harness.settle()
    await server.drop_connections()
    assert not server.connections
