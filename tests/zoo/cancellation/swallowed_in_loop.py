"""``except BaseException`` in a loop: the handler lives on whatever happens, cancellation included.

In the wild: https://github.com/IBM/mcp-context-forge/pull/2941
"""

from __future__ import annotations

import pytest
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"still running|did not stop", r"handler of server 'buggy'", r"swallowed_in_loop\.py:\d+"]
#: The event loop cannot end any more, so the process does.
ALONE = True


async def buggy(stream: ByteStream) -> None:
    while True:
        try:
            number = int(await stream.receive())
            await stream.send(str(number + 1).encode())
        except BaseException:  # a bad line must not end the connection
            pass


async def correct(stream: ByteStream) -> None:
    async for line in stream:
        try:
            number = int(line)
        except ValueError:
            continue
        await stream.send(str(number + 1).encode())


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_bad_lines_are_ignored(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"one")
    await harness.settle()
    await client.send(b"1")
    assert await client.receive() == b"2"
