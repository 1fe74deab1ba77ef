"""A ``finally`` uses a name that the ``try`` has not come to bind."""

from __future__ import annotations

import functools

import pytest
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"^E +UnboundLocalError: .*'name'", r"^> .*online\.remove\(name\)"]


def check_login(line: bytes) -> str:
    if line != b"alice:secret":
        raise PermissionError
    return "alice"


async def buggy(online: set[str], stream: ByteStream) -> None:
    try:
        name = check_login(await stream.receive())
        online.add(name)
        await stream.send(b"welcome")
    except PermissionError:
        await stream.send(b"denied")
    finally:
        online.remove(name)


async def correct(online: set[str], stream: ByteStream) -> None:
    try:
        name = check_login(await stream.receive())
    except PermissionError:
        await stream.send(b"denied")
        return
    online.add(name)
    try:
        await stream.send(b"welcome")
    finally:
        online.remove(name)


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_wrong_password(harness: Harness, handler) -> None:
    online: set[str] = set()
    server = await harness.serve(functools.partial(handler, online))
    client = await server.connect()
    await client.send(b"alice:guess")
    assert await client.receive() == b"denied"
    await server.wait_connections(0)
    assert not online
