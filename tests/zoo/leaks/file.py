"""A file is opened for each upload and closed if the upload is complete."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"leaked (file|fd|descriptor).*upload", r"created at .*file\.py:\d+ in buggy: .*open_file"]
NEEDS = "leaks"

uploads: list[Any] = []


async def buggy(path: Path, stream: ByteStream) -> None:
    file = await anyio.open_file(path / "upload", "wb")
    uploads.append(file)
    async for chunk in stream:
        await file.write(chunk)
        if chunk.endswith(b"."):
            await file.aclose()
            return


async def correct(path: Path, stream: ByteStream) -> None:
    async with await anyio.open_file(path / "upload", "wb") as file:
        uploads.append(file)
        async for chunk in stream:
            await file.write(chunk)
            if chunk.endswith(b"."):
                return


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_the_client_leaves(harness: Harness, handler, tmp_path: Path) -> None:
    server = await harness.serve(functools.partial(handler, tmp_path))
    client = await server.connect()
    await client.send(b"half")
    await server.wait_connections(1)
    await client.aclose()
    await server.wait_connections(0)
