"""The end of very many connections, and the garbage collector."""

from __future__ import annotations

import gc

import pytest
from anyio import Event, get_cancelled_exc_class

from harness import DidNotStop, garbage, open_harness
from harness.core import MANY
from harness.garbage import fewer_collections


@pytest.fixture
def threshold():
    before = gc.get_threshold()
    gc.set_threshold(7, 3, 2)
    yield (7, 3, 2)
    gc.set_threshold(*before)


async def linger(stream):
    async with stream:
        async for _ in stream:
            pass


def test_young_garbage_is_collected(threshold, monkeypatch):
    monkeypatch.setattr(garbage, "YOUNG", 1000)
    collected = []
    with fewer_collections():
        gc.callbacks.append(lambda phase, info: collected.append(info["generation"]))
        kept = [[] for _ in range(100_000)]
        gc.callbacks.pop()
    assert kept
    assert set(collected) <= {0, 1}
    assert 0 in collected
    assert gc.get_threshold() == threshold


def test_what_is_off_stays_off():
    before = gc.get_threshold()
    gc.set_threshold(0)
    try:
        with fewer_collections():
            assert gc.get_threshold()[0] == 0
        assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*before)


@pytest.mark.parametrize("largest", [100_000_000, 2**31 - 1])
def test_what_is_large_is_not_made_too_large(largest):
    before = gc.get_threshold()
    gc.set_threshold(largest, 10, 10)
    try:
        with fewer_collections():
            assert gc.get_threshold()[0] >= largest
        assert gc.get_threshold() == (largest, 10, 10)
    finally:
        gc.set_threshold(*before)


def test_blocks_that_overlap(threshold):
    first, second = fewer_collections(), fewer_collections()
    first.__enter__()
    meanwhile = gc.get_threshold()
    second.__enter__()
    assert gc.get_threshold() == meanwhile
    first.__exit__(None, None, None)
    assert gc.get_threshold() == meanwhile
    second.__exit__(None, None, None)
    assert gc.get_threshold() == threshold


def test_what_somebody_else_sets_meanwhile_stays(threshold):
    with fewer_collections():
        gc.set_threshold(5, 5, 5)
    assert gc.get_threshold() == (5, 5, 5)


@pytest.mark.parametrize("connections", [MANY - 1, MANY])
async def test_what_the_project_has_set_is_so_afterwards(anyio_backend, threshold, connections):
    meanwhile = []

    async def handle(stream):
        try:
            await linger(stream)
        finally:
            meanwhile.append(gc.get_threshold())

    async with open_harness(transport="memory") as harness:
        server = await harness.serve(handle)
        for _ in range(connections):
            await server.connect()
        await server.wait_connections(connections)
    assert gc.get_threshold() == threshold
    assert len(meanwhile) == connections
    assert (set(meanwhile) == {threshold}) is (connections < MANY)


async def test_whoever_has_connected(anyio_backend, threshold):
    """Clients that are not the harness's count by the connections that it has accepted."""
    meanwhile = set()

    async def handle(stream):
        try:
            await linger(stream)
        finally:
            meanwhile.add(gc.get_threshold())

    async with open_harness(transport="memory") as harness:
        server = await harness.serve(handle)
        network = harness.transport.network
        clients = [network.connect(server.address) for _ in range(MANY)]
        await server.wait_connections(MANY)
    assert len(clients) == MANY
    assert len(meanwhile) == 1
    assert threshold not in meanwhile


async def test_who_is_waited_for_is_collected_behind_as_ever(anyio_backend, threshold):
    meanwhile = []

    async def finish(stream):
        await begun.wait()
        meanwhile.append(gc.get_threshold())

    async def handle(stream):
        try:
            await linger(stream)
        finally:
            begun.set()

    begun = Event()
    async with open_harness(transport="memory", grace=60) as harness:
        idle, busy = await harness.serve(handle), await harness.serve(finish)
        for _ in range(MANY):
            await idle.connect()
        await busy.connect()
        await busy.wait_connections(1)
    assert meanwhile == [threshold]


async def test_also_if_a_handler_does_not_stop(anyio_backend, threshold):
    from anyio import CancelScope, sleep_forever

    async def stay(stream):
        with CancelScope(shield=True):
            await sleep_forever()

    with pytest.raises(DidNotStop):
        async with open_harness(transport="memory", cancel_timeout=0, grace=0) as harness:
            server = await harness.serve(linger)
            stubborn = await harness.serve(stay)
            for _ in range(MANY):
                await server.connect()
            await stubborn.connect()
            await stubborn.wait_connections(1)
    assert gc.get_threshold() == threshold


async def test_cancellations_go_with_their_handlers(anyio_backend):
    """On trio, a nursery that is told of them keeps them all, with the frames that they left.

    In memory: over tcp, a frame of AnyIO's refers to each (anyio/_backends/_trio.py,
    ``_TrioSocketMixin._convert_socket_error``).
    """
    cancelled = get_cancelled_exc_class()

    def alive():
        return sum(issubclass(type(each), cancelled) for each in gc.get_objects())

    gc.collect()
    before, enabled = alive(), gc.isenabled()
    gc.disable()
    try:
        async with open_harness(transport="memory") as harness:
            server = await harness.serve(linger)
            for _ in range(30):
                await server.connect()
            await server.wait_connections(30)
        assert alive() - before < 10
    finally:
        if enabled:
            gc.enable()
