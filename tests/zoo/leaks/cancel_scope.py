"""A time limit is entered by hand, and left only if all goes well."""

from __future__ import annotations

import pytest
from anyio import CancelScope, EndOfStream, current_time
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"(?i)cancel scope", r"cancel_scope\.py"]
NEEDS = "leaks"


async def buggy(stream: ByteStream) -> None:
    limit = CancelScope(deadline=current_time() + 60)
    limit.__enter__()
    request = await stream.receive()
    if request == b"quit":
        return
    await stream.send(request)
    limit.__exit__(None, None, None)


async def correct(stream: ByteStream) -> None:
    with CancelScope(deadline=current_time() + 60):
        request = await stream.receive()
        if request == b"quit":
            return
        await stream.send(request)


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_quit(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"quit")
    with pytest.raises(EndOfStream):
        await client.receive()
