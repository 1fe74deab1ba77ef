"""Every chunk is decoded by itself; a character of two bytes lies across two of them."""

from __future__ import annotations

import codecs
import functools

import pytest
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"^E +UnicodeDecodeError: 'utf-8' codec", r"^> .*chunk\.decode\(\)"]


async def buggy(texts: list[str], stream: ByteStream) -> None:
    text = ""
    async for chunk in stream:
        text += chunk.decode()
    texts.append(text)


async def correct(texts: list[str], stream: ByteStream) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    text = ""
    async for chunk in stream:
        text += decoder.decode(chunk)
    texts.append(text + decoder.decode(b"", final=True))


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_a_character_in_two_pieces(harness: Harness, handler) -> None:
    texts: list[str] = []
    server = await harness.serve(functools.partial(handler, texts))
    client = await server.connect()
    await server.wait_connections(1)
    for byte in "né".encode():
        await client.send(bytes([byte]))
        await harness.settle()
    await client.aclose()
    await server.wait_connections(0)
    assert texts == ["né"]
