"""A ``break`` out of ``async for`` leaves the generator at its ``yield``, and its cleanup undone.

In the wild: https://github.com/python-trio/trio/issues/265
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"leaked async generator: .*lines", r"async_generator\.py:\d+ in lines"]
NEEDS = "leaks"

generators: list[Any] = []


async def lines(stream: ByteStream) -> AsyncIterator[bytes]:
    buffer = b""
    try:
        async for chunk in stream:
            *complete, buffer = (buffer + chunk).split(b"\n")
            for line in complete:
                yield line
    finally:
        await stream.send(b"bye")


async def buggy(stream: ByteStream) -> None:
    generators.append(lines(stream))
    async for line in generators[-1]:
        if line == b"quit":
            break


async def correct(stream: ByteStream) -> None:
    generators.append(lines(stream))
    async with aclosing(generators[-1]) as each:
        async for line in each:
            if line == b"quit":
                break


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_quit(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"quit\n")
    await harness.settle()
    await server.wait_connections(0)
