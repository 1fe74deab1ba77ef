"""A worker thread runs in a copy of the context: what it sets there is gone when it returns."""

from __future__ import annotations

from contextvars import ContextVar

import pytest
from anyio import to_thread
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"^E +LookupError: <ContextVar name='locale'", r"^> .*locale\.get\(\)"]

locale: ContextVar[bytes] = ContextVar("locale")


def load_locale(name: bytes) -> bytes:
    """Reads files, so it is called in a thread."""
    locale.set(name.lower())
    return name.lower()


async def buggy(stream: ByteStream) -> None:
    await to_thread.run_sync(load_locale, await stream.receive())
    await stream.send(locale.get())


async def correct(stream: ByteStream) -> None:
    locale.set(await to_thread.run_sync(load_locale, await stream.receive()))
    await stream.send(locale.get())


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_locale(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"DE")
    assert await client.receive() == b"de"
