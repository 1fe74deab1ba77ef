"""The handler takes its banner from a configuration that need not have one: a crash on connect."""

from __future__ import annotations

import pytest
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"^E +KeyError: 'banner'", r'^> .*CONFIGURATION\["banner"\]']

CONFIGURATION: dict[str, bytes] = {}


async def buggy(stream: ByteStream) -> None:
    await stream.send(CONFIGURATION["banner"])


async def correct(stream: ByteStream) -> None:
    await stream.send(CONFIGURATION.get("banner", b"ready"))


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_banner(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    assert await client.receive() == b"ready"
