"""The sums that a handler does after the end of the stream fail if nothing was sent."""

from __future__ import annotations

import functools

import pytest
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"^E +ZeroDivisionError", r"^> .*total / count"]


async def buggy(averages: list[float], stream: ByteStream) -> None:
    total = count = 0
    async for chunk in stream:
        total += sum(chunk)
        count += len(chunk)
    averages.append(total / count)


async def correct(averages: list[float], stream: ByteStream) -> None:
    total = count = 0
    async for chunk in stream:
        total += sum(chunk)
        count += len(chunk)
    if count:
        averages.append(total / count)


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_a_client_that_sends_nothing(harness: Harness, handler) -> None:
    averages: list[float] = []
    server = await harness.serve(functools.partial(handler, averages))
    client = await server.connect()
    await server.wait_connections(1)
    await client.aclose()
    await server.wait_connections(0)
    assert averages == []
