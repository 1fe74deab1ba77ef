"""A helper process is started for each client, and nobody ends it."""

from __future__ import annotations

import sys

import anyio
import pytest
from anyio.abc import ByteStream, Process

from harness import Harness

FOUND = [r"leaked (sub)?process", r"created at .*subprocess\.py:\d+ in buggy: .*open_process"]
NEEDS = "leaks"
#: A loop of uvloop that has a living child process hangs when it is closed.
ALONE = True

#: Copies its input, and so ends with this process at the latest.
COPY = [
    sys.executable,
    "-S",
    "-c",
    "import os\nwhile data := os.read(0, 100): os.write(1, data)",
]

helpers: list[Process] = []


async def exchange(helper: Process, stream: ByteStream) -> None:
    assert helper.stdin is not None
    assert helper.stdout is not None
    await helper.stdin.send(await stream.receive())
    await stream.send(await helper.stdout.receive())


async def buggy(stream: ByteStream) -> None:
    helper = await anyio.open_process(COPY, stderr=None)
    helpers.append(helper)
    await exchange(helper, stream)


async def correct(stream: ByteStream) -> None:
    async with await anyio.open_process(COPY, stderr=None) as helper:
        await exchange(helper, stream)
        helper.terminate()


@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize("handler", [buggy, correct])
async def test_copy(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"hello")
    assert await client.receive() == b"hello"
    await server.wait_connections(0)
