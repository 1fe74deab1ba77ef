"""AnyIO's streams, through our transports, and our own: every check on every one of them."""

import functools
from contextlib import suppress

import pytest
from anyio import BrokenResourceError, EndOfStream
from differences import CHECKS, NOT_PROMISED
from known import held_to, known_of

from harness.conformance.contract import Waiting, tasks
from harness.conformance.exchange import MORE_THAN_FITS, blocked_send
from harness.settling import settle

ALL = ["tcp", "tcp6", "unix", "tls", "memory"]


@pytest.mark.harness(transports=ALL)
@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_what_a_stream_promises(check, harness, request):
    known = known_of("streams", check, harness.transport.name)
    await held_to(request, known, functools.partial(check, harness.pair))


@pytest.mark.harness(transports=["memory"])
async def test_virtual_time_changes_nothing(harness, virtual_clock):
    for check in CHECKS:
        await check(harness.pair)


# What is not promised


@pytest.mark.harness(transports=["tcp"])
async def test_an_accepted_stream_reads_ahead(harness):
    client, _ = await harness.pair()
    async with tasks() as group:
        send = functools.partial(client.send, bytes(MORE_THAN_FITS))
        sending = await Waiting.begin(group, send, "send()")
        for _ in range(1000):  # a transport that reads and writes is no task, and nobody sees it
            if sending.over:
                break
            await settle()
        seen = "it takes them all" if sending.over else "the sender waits"
    assert seen == NOT_PROMISED["read_ahead"].seen[harness.backend]


@pytest.mark.harness(transports=["tcp"])
async def test_how_a_close_with_unread_bytes_looks(harness):
    first, second = await harness.pair()
    await first.send(b"unread")
    await settle()
    await second.aclose()
    await settle()
    with pytest.raises((EndOfStream, BrokenResourceError)) as caught:
        await first.receive()
    assert caught.type.__name__ == NOT_PROMISED["unread"].seen[harness.backend]


@pytest.mark.harness(transports=["tcp"])
async def test_what_eof_does_to_a_blocked_send(harness):
    client, accepted = await harness.pair()
    async with tasks() as group:
        sending = await blocked_send(group, accepted)
        await accepted.send_eof()
        count = 0
        with suppress(BrokenResourceError):
            async for data in client:
                count += len(data)
        await settle()
        if sending.error is None:
            assert count == MORE_THAN_FITS
            seen = "the end comes after all bytes"
        else:
            assert count < MORE_THAN_FITS
            seen = f"the end comes at once, and `send` raises {type(sending.error).__name__}"
    assert seen == NOT_PROMISED["eof_in_send"].seen[harness.backend]
