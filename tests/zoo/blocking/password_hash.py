"""Passwords are hashed slowly on purpose, and here in the event loop."""

from __future__ import annotations

import hashlib

import pytest
from anyio import to_thread
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"blocked the event loop for", r"password_hash\.py:\d+ in slow_hash: .*pbkdf2_hmac"]
NEEDS = "blocking"


def slow_hash(password: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha512", password, b"salt", 400_000)


async def buggy(stream: ByteStream) -> None:
    await stream.send(slow_hash(await stream.receive()))


async def correct(stream: ByteStream) -> None:
    await stream.send(await to_thread.run_sync(slow_hash, await stream.receive()))


@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize("handler", [buggy, correct])
async def test_login(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"secret")
    assert len(await client.receive()) == 64
