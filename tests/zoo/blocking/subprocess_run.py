"""``subprocess.run`` in a handler waits for the program and lets nobody else run."""

from __future__ import annotations

import subprocess
import sys

import anyio
import pytest
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"blocked the event loop for", r"subprocess_run\.py:\d+ in buggy: .*subprocess\.run\("]
NEEDS = "blocking"

PROGRAM = [sys.executable, "-S", "-c", "import time; time.sleep(0.4); print('converted')"]


async def buggy(stream: ByteStream) -> None:
    await stream.receive()
    converted = subprocess.run(PROGRAM, capture_output=True)  # noqa: ASYNC221
    await stream.send(converted.stdout)


async def correct(stream: ByteStream) -> None:
    await stream.receive()
    converted = await anyio.run_process(PROGRAM)
    await stream.send(converted.stdout)


@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize("handler", [buggy, correct])
async def test_conversion(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"image")
    assert (await client.receive()).strip() == b"converted"
