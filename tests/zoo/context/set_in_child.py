"""A context variable is set in a child task and expected in its parent.

In the wild: https://github.com/encode/starlette/issues/1081
"""

from __future__ import annotations

from contextvars import ContextVar

import pytest
from anyio import create_task_group
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"^E +LookupError: <ContextVar name='user'", r"^> .*user\.get\(\)"]

user: ContextVar[bytes] = ContextVar("user")


async def authenticate(stream: ByteStream) -> None:
    user.set(await stream.receive())


async def buggy(stream: ByteStream) -> None:
    async with create_task_group() as task_group:
        task_group.start_soon(authenticate, stream)
    await stream.send(b"hello " + user.get())


async def correct(stream: ByteStream) -> None:
    await authenticate(stream)
    await stream.send(b"hello " + user.get())


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_login(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"alice")
    assert await client.receive() == b"hello alice"
