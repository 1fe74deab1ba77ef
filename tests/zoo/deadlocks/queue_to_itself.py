"""The one consumer of a queue puts a follow-up into it, and the queue has no room."""

from __future__ import annotations

import pytest
from anyio import create_memory_object_stream
from anyio.abc import ByteStream

from harness import Harness

FOUND = [
    r"(?i)time(d )?[- ]?out",
    r"queue_to_itself\.py:\d+ in buggy: await send\.send\(",
]
NEEDS = "timeout"


async def buggy(stream: ByteStream) -> None:
    send, receive = create_memory_object_stream[bytes](1)
    with send, receive:
        await send.send(await stream.receive())
        async for page in receive:
            await stream.send(page)
            for link in (page + b"1", page + b"2"):
                if len(link) < 4:
                    await send.send(link)


async def correct(stream: ByteStream) -> None:
    pages = [await stream.receive()]
    while pages:
        page = pages.pop(0)
        await stream.send(page)
        pages += [link for link in (page + b"1", page + b"2") if len(link) < 4]


@pytest.mark.parametrize("crawler", [buggy, correct])
async def test_crawl(harness: Harness, crawler) -> None:
    server = await harness.serve(crawler)
    client = await server.connect()
    await client.send(b"/a")
    received = b""
    async for pages in client:
        received += pages
    assert received == b"/a/a1/a2"
