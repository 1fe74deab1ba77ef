"""A cancelled read is taken for the end of the upload, and half a file is stored as a whole one."""

from __future__ import annotations

import functools

import pytest
from anyio import EndOfStream
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"^E +AssertionError: half an upload was stored", r"b'half of '"]


async def buggy(files: list[bytes], stream: ByteStream) -> None:
    upload = b""
    try:
        while True:
            upload += await stream.receive()
    except BaseException:  # the client is done
        pass
    files.append(upload)


async def correct(files: list[bytes], stream: ByteStream) -> None:
    upload = b""
    try:
        while True:
            upload += await stream.receive()
    except EndOfStream:
        pass
    files.append(upload)


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_a_dropped_upload(harness: Harness, handler) -> None:
    files: list[bytes] = []
    server = await harness.serve(functools.partial(handler, files))
    client = await server.connect()
    await client.send(b"half of ")
    await server.wait_connections(1)
    await harness.settle()
    await server.drop_connections()
    assert files == [], "half an upload was stored"
