"""A session enters a task group in ``start()`` and leaves it in ``stop()``, which nobody calls."""

from __future__ import annotations

import anyio
import pytest
from anyio import EndOfStream, create_task_group
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"(?i)cancel scope", r"task_group_never_left\.py"]
NEEDS = "leaks"


class Session:
    async def start(self) -> None:
        self.task_group = create_task_group()
        await self.task_group.__aenter__()
        self.task_group.start_soon(anyio.sleep_forever)

    async def stop(self) -> None:
        self.task_group.cancel_scope.cancel()
        await self.task_group.__aexit__(None, None, None)


async def buggy(stream: ByteStream) -> None:
    session = Session()
    await session.start()
    await stream.send(await stream.receive())


async def correct(stream: ByteStream) -> None:
    session = Session()
    await session.start()
    try:
        await stream.send(await stream.receive())
    finally:
        await session.stop()


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_session(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"hello")
    assert await client.receive() == b"hello"
    with pytest.raises(EndOfStream):
        await client.receive()
