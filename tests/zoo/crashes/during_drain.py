"""The client has its receipt and the test is over; only then the handler writes, and fails."""

from __future__ import annotations

import functools
import json

import anyio
import pytest
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"^E +TypeError: Object of type bytes is not JSON serializable", r"json\.dumps"]


async def buggy(journal: list[str], stream: ByteStream) -> None:
    message = await stream.receive()
    await stream.send(b"accepted")
    # A long line is not encoded in the event loop.
    journal.append(await anyio.to_thread.run_sync(json.dumps, {"message": message}))


async def correct(journal: list[str], stream: ByteStream) -> None:
    message = await stream.receive()
    await stream.send(b"accepted")
    journal.append(await anyio.to_thread.run_sync(json.dumps, {"message": message.decode()}))


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_receipt(harness: Harness, handler) -> None:
    server = await harness.serve(functools.partial(handler, []))
    client = await server.connect()
    await client.send(b"hello")
    assert await client.receive() == b"accepted"
