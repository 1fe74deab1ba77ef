"""Through a proxy without toxics a stream keeps its promises, and breaks those it breaks itself."""

from __future__ import annotations

import functools

import anyio
import pytest
from differences import CHECKS, Difference
from known import held_to, known_of

#: What differs by nature: a proxy's clients and servers have the proxy as their peer.
ADDRESSES = Difference(
    "streams",
    "typed_attributes",
    ("*",),
    "*",
    "the peer's address is that of the proxy, on both sides",
)


@pytest.fixture
async def proxied_pair(harness):
    """Makes pairs: the client's stream through a proxy, and the one its server was given."""
    arrivals, arrived = anyio.create_memory_object_stream(1)

    async def hand_over(stream):
        await arrivals.send(stream)
        await anyio.sleep_forever()  # whoever has it closes it

    proxy = await harness.proxy(await harness.serve(hand_over, grace=0))

    async def make_pair():
        return await proxy.connect(), await arrived.receive()

    with arrivals, arrived:
        yield make_pair


@pytest.mark.harness(transports=["tcp", "unix", "tls", "memory"])
@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_what_a_proxied_stream_promises(check, harness, proxied_pair, request):
    known = known_of("streams", check, harness.transport.name)
    if check.name == ADDRESSES.check:
        assert known is None
        known = ADDRESSES
    await held_to(request, known, functools.partial(check, proxied_pair))
