"""``socket.getaddrinfo`` for a list of hosts, on each request and in the event loop."""

from __future__ import annotations

import socket

import pytest
from anyio import to_thread
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"blocked the event loop for", r"resolver\.py:\d+ in resolve_all: .*getaddrinfo"]
NEEDS = "blocking"

#: Taken from the files of this machine, without a network; what makes it slow is their number.
ALLOWED = ["localhost"] * 60_000


def resolve_all(hosts: list[str]) -> set[object]:
    return {socket.getaddrinfo(host, 80)[0][4] for host in hosts}


async def buggy(stream: ByteStream) -> None:
    await stream.receive()
    await stream.send(b"%d" % len(resolve_all(ALLOWED)))


async def correct(stream: ByteStream) -> None:
    await stream.receive()
    await stream.send(b"%d" % len(await to_thread.run_sync(resolve_all, ALLOWED[:100])))


@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize("handler", [buggy, correct])
async def test_allow_list(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"who?")
    assert await client.receive() == b"1"
