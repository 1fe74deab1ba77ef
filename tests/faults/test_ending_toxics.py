"""Toxics that stall, cut off or refuse connections: how, when, and what still arrives."""

from __future__ import annotations

import pytest
from anyio import (
    BrokenResourceError,
    ConnectionFailed,
    EndOfStream,
    connect_tcp,
    connect_unix,
    create_task_group,
    current_time,
    sleep,
)
from wire import open_another, open_wire

from harness.faults import (
    Blackhole,
    Freeze,
    HalfClose,
    Latency,
    LimitData,
    Refuse,
    ResetPeer,
    SlowAccept,
    Timeout,
)

both = pytest.mark.parametrize("direction", ["upstream", "downstream"])
plain = pytest.mark.harness(transports=["tcp", "unix", "memory"])
in_memory = pytest.mark.harness(transports=["memory"])


def other(direction):
    return "upstream" if direction == "downstream" else "downstream"


def reset(harness):
    """What a reset looks like: a unix socket has none."""
    return "end" if harness.transport.name == "unix" else "reset"


# Timeout


@both
async def test_a_timeout_stalls_and_ends_the_connection(harness, virtual_clock, direction):
    wire = await open_wire(harness)
    wire.proxy.add(Timeout(30), direction=direction)
    await sleep(1)
    await wire.send(direction, b"never")
    await wire.send(other(direction), b"at once")
    await wire.arrivals[direction].over.wait()
    await wire.arrivals[other(direction)].over.wait()
    assert wire.got(direction) == []
    assert wire.end(direction) == wire.end(other(direction)) == (30, "end")
    assert wire.got(other(direction)) == [(1, b"at once")]
    await wire.proxy.wait_connections(0)


@both
async def test_traffic_does_not_restart_the_clock(harness, virtual_clock, direction):
    wire = await open_wire(harness)
    wire.proxy.add(Timeout(30), direction=direction)
    for _ in range(58):
        await sleep(0.5)
        await wire.send(direction, b"x" * 100)
    await wire.arrivals[direction].over.wait()
    assert wire.end(direction) == (30, "end")
    assert wire.got(direction) == []


@plain
@both
async def test_a_timeout_that_is_taken_away_loses_nothing(harness, virtual_clock, direction):
    wire = await open_wire(harness)
    timeout = wire.proxy.add(Timeout(30), direction=direction)
    await wire.send(direction, b"one ")
    await sleep(20)
    await wire.send(direction, b"two")
    await sleep(9.5)
    timeout.remove()
    await harness.settle()
    assert wire.got(direction) == [(29.5, b"one two")]
    await wire.send_eof(direction)
    await wire.arrivals[direction].over.wait()
    await sleep(60)
    assert wire.end(direction) == (29.5, "end")
    assert len(wire.proxy.connections) == 1  # the other direction goes on


@plain
async def test_a_timeout_holds_the_end_back_too(harness, virtual_clock):
    wire = await open_wire(harness, Timeout(5))
    await wire.send_eof("downstream")
    await wire.arrivals["downstream"].over.wait()
    assert wire.end("downstream") == (5, "end")


async def test_a_timeout_without_a_time_never_ends(harness, virtual_clock):
    wire = await open_wire(harness)
    timeout = wire.proxy.add(Timeout())
    await wire.send("downstream", b"late")
    await sleep(86400)
    assert len(wire.proxy.connections) == 1
    timeout.remove()
    await harness.settle()
    assert wire.got("downstream") == [(86400, b"late")]


@plain
@pytest.mark.parametrize(("before", "after", "ends"), [(None, 50, 50), (30, 50, 50), (30, 5, 10)])
async def test_a_timeout_with_another_time(harness, virtual_clock, before, after, ends):
    """It counts from the moment that the toxic acted on, and what is held stays so."""
    wire = await open_wire(harness)
    timeout = wire.proxy.add(Timeout(before))
    await wire.send("downstream", b"held")
    await sleep(10)
    timeout.update(after=after)
    await sleep(ends - 10)
    await harness.settle()
    assert wire.end("downstream") == (ends, "end")
    assert wire.got("downstream") == []


# Blackhole


@both
async def test_a_blackhole_loses_bytes_unnoticed(harness, virtual_clock, direction):
    wire = await open_wire(harness)
    wire.proxy.add(Blackhole(), direction=direction)
    for _ in range(100):
        await wire.send(direction, b"x" * 65536)  # nobody waits
    await sleep(3600)
    assert wire.got(direction) == []
    assert wire.end(direction) is None
    await wire.send(other(direction), b"hello")
    await harness.settle()
    assert wire.got(other(direction)) == [(3600, b"hello")]


@both
async def test_a_blackhole_with_a_time_ends_the_connection(harness, virtual_clock, direction):
    wire = await open_wire(harness)
    wire.proxy.add(Blackhole(30), direction=direction)
    for _ in range(58):
        await sleep(0.5)
        await wire.send(direction, b"x")
    await wire.arrivals[direction].over.wait()
    assert wire.end(direction) == (30, "end")
    assert wire.got(direction) == []


@plain
@both
async def test_after_a_blackhole_lost_bytes_stay_lost(harness, virtual_clock, direction):
    wire = await open_wire(harness)
    await wire.send(direction, b"before ")
    await harness.settle()
    blackhole = wire.proxy.add(Blackhole(30), direction=direction)
    await wire.send(direction, b"lost ")
    await sleep(5)
    blackhole.remove()
    await wire.send(direction, b"after")
    await sleep(60)
    assert wire.got(direction) == [(0, b"before "), (5, b"after")]
    assert wire.end(direction) is None


@plain
@both
async def test_after_a_blackhole_comes_the_end(harness, virtual_clock, direction):
    wire = await open_wire(harness)
    blackhole = wire.proxy.add(Blackhole(), direction=direction)
    await wire.send(direction, b"lost ")
    await wire.send_eof(direction)
    await sleep(60)
    assert wire.end(direction) is None
    blackhole.remove()
    await wire.arrivals[direction].over.wait()
    assert wire.end(direction) == (60, "end")


# ResetPeer


@both
async def test_a_reset_of_a_live_connection(harness, virtual_clock, direction):
    wire = await open_wire(harness)
    await wire.send(direction, b"hello")
    await harness.settle()
    wire.proxy.add(ResetPeer(), direction=direction)
    for each in ("upstream", "downstream"):
        await wire.arrivals[each].over.wait()
        assert wire.end(each) == (0, reset(harness))
    assert wire.got(direction) == [(0, b"hello")]
    await wire.proxy.wait_connections(0)


@plain
@both
async def test_a_reset_after_a_while(harness, virtual_clock, direction):
    wire = await open_wire(harness)
    wire.proxy.add(ResetPeer(2.5), direction=direction)
    for _ in range(3):
        await wire.send(direction, b"x")
        await sleep(1)
    for each in ("upstream", "downstream"):
        assert wire.end(each) == (2.5, reset(harness))
    assert wire.got(direction) == [(0, b"x"), (1, b"x"), (2, b"x")]


@plain
@both
async def test_a_reset_after_so_many_bytes(harness, virtual_clock, direction):
    wire = await open_wire(harness)
    wire.proxy.add(ResetPeer(after_bytes=10), direction=direction)
    await wire.send(direction, b"0123")
    await sleep(1)
    await wire.send(direction, b"456789abcdef")
    for each in ("upstream", "downstream"):
        await wire.arrivals[each].over.wait()
        assert wire.end(each) == (1, reset(harness))
    assert wire.got(direction) == [(0, b"0123"), (1, b"456789")]


@plain
async def test_a_reset_after_exactly_so_many_bytes(harness, virtual_clock):
    """It waits for no byte more."""
    wire = await open_wire(harness, ResetPeer(after_bytes=10))
    await wire.send("downstream", b"0123456789")
    await wire.arrivals["downstream"].over.wait()
    assert wire.end("downstream") == (0, reset(harness))
    assert wire.arrivals["downstream"].data == b"0123456789"


@plain
async def test_a_reset_so_long_after_so_many_bytes(harness, virtual_clock):
    wire = await open_wire(harness, ResetPeer(2, after_bytes=3))
    await sleep(5)
    await wire.send("downstream", b"ab")
    await sleep(5)
    await wire.send("downstream", b"cd")
    await sleep(1)
    await wire.send("downstream", b"ef")
    await wire.arrivals["downstream"].over.wait()
    assert wire.got("downstream") == [(5, b"ab"), (10, b"c")]
    assert wire.end("downstream") == (12, reset(harness))


@plain
@pytest.mark.parametrize("after", [0, 2])
async def test_a_reset_after_no_bytes_waits_for_none(harness, virtual_clock, after):
    wire = await open_wire(harness)
    wire.proxy.add(ResetPeer(after, after_bytes=0))
    await wire.arrivals["downstream"].over.wait()
    assert wire.end("downstream") == (after, reset(harness))


@plain
async def test_a_reset_that_is_put_off_and_taken_away(harness, virtual_clock):
    wire = await open_wire(harness)
    reset_peer = wire.proxy.add(ResetPeer(10, after_bytes=2))
    await wire.send("downstream", b"abcd")
    await sleep(9)
    reset_peer.update(after=20)
    await sleep(9)
    assert wire.end("downstream") is None
    reset_peer.update(after_bytes=3)
    await harness.settle()
    assert wire.got("downstream") == [(0, b"ab"), (18, b"c")]
    reset_peer.remove()
    await sleep(60)
    assert wire.got("downstream") == [(0, b"ab"), (18, b"cd")]
    assert wire.end("downstream") is None


@plain
async def test_a_reset_that_comes_sooner(harness, virtual_clock):
    wire = await open_wire(harness)
    reset_peer = wire.proxy.add(ResetPeer(100))
    await sleep(9)
    reset_peer.update(after=10)
    await wire.arrivals["downstream"].over.wait()
    assert wire.end("downstream") == (10, reset(harness))


# LimitData


@plain
@both
@pytest.mark.parametrize(("runs", "limit"), [([16], 10), ([4, 12], 10), ([10], 10), ([5, 5], 10)])
async def test_a_limit_cuts_exactly(harness, virtual_clock, direction, runs, limit):
    wire = await open_wire(harness)
    wire.proxy.add(LimitData(limit), direction=direction)
    data = bytes(range(sum(runs)))
    at = 0
    for size in runs:
        await wire.send(direction, data[at : at + size])
        at += size
        await harness.settle()
    for each in ("upstream", "downstream"):
        await wire.arrivals[each].over.wait()
        assert wire.end(each)[0] == 0
    assert wire.arrivals[direction].data == data[:limit]
    assert wire.end(direction) == (0, "end")
    await wire.proxy.wait_connections(0)


@plain
async def test_one_byte_below_the_limit_nothing_happens(harness, virtual_clock):
    wire = await open_wire(harness, LimitData(10))
    await wire.send("downstream", b"123456789")
    await wire.send("upstream", b"x" * 100)
    await sleep(60)
    assert wire.end("downstream") is None
    await wire.send_eof("downstream")
    await sleep(60)
    assert wire.end("downstream") == (60, "end")
    assert wire.end("upstream") is None
    assert not wire.connection.fired


@plain
@both
async def test_a_limit_of_nothing_ends_at_once(harness, virtual_clock, direction):
    wire = await open_wire(harness)
    wire.proxy.add(LimitData(0), direction=direction)
    for each in ("upstream", "downstream"):
        await wire.arrivals[each].over.wait()
        assert wire.end(each) == (0, "end")


async def test_a_limit_of_nothing_for_new_connections(harness):
    if harness.transport.name == "tls":
        pytest.skip("the handshake needs bytes")
    server = await harness.serve(lambda stream: stream.receive(), expect=EndOfStream)
    proxy = await harness.proxy(server, LimitData(0))
    client = await proxy.connect()
    with pytest.raises(EndOfStream):
        await client.receive()
    await proxy.wait_connections(0)


@plain
@both
async def test_what_is_late_behind_a_limit_arrives(harness, virtual_clock, direction):
    wire = await open_wire(harness)
    wire.proxy.add(LimitData(10), direction=direction)
    wire.proxy.add(Latency(2), direction=direction)
    await wire.send(direction, b"0123456789abcdef")
    for each in ("upstream", "downstream"):
        await wire.arrivals[each].over.wait()
        assert wire.end(each) == (2, "end")
    assert wire.got(direction) == [(2, b"0123456789")]


@plain
async def test_a_limit_that_is_raised_and_one_that_has_been_passed(harness, virtual_clock):
    wire = await open_wire(harness)
    limit = wire.proxy.add(LimitData(10))
    await wire.send("downstream", b"01234567")
    await sleep(1)
    limit.update(limit=20)
    await wire.send("downstream", b"89abcdef")
    await sleep(1)
    assert wire.arrivals["downstream"].data == b"0123456789abcdef"
    limit.update(limit=12)
    await wire.arrivals["downstream"].over.wait()
    assert wire.end("downstream") == (2, "end")


@in_memory
async def test_a_limit_that_is_taken_away_while_its_last_bytes_wait(harness, virtual_clock):
    wire = await open_wire(harness, collect=["upstream"])
    limit = wire.proxy.add(LimitData(100_000))
    async with create_task_group() as tasks:
        tasks.start_soon(wire.send, "downstream", b"x" * 300_000)
        await sleep(1)  # nobody reads: the client's buffer is full, and the rest has to wait
        limit.remove()
        arrivals = wire.arrivals["downstream"]
        harness.task_group.start_soon(arrivals.collect, wire.sender["upstream"])
    await sleep(1)
    assert arrivals.data == b"x" * 300_000
    assert arrivals.end is None


# HalfClose


@plain
@both
async def test_a_half_close_ends_one_direction(harness, virtual_clock, direction):
    wire = await open_wire(harness)
    wire.proxy.add(HalfClose(2), direction=direction)
    await wire.send(direction, b"before")
    await sleep(5)
    await wire.send(direction, b"lost")
    await wire.send(other(direction), b"hello")
    await sleep(5)
    assert wire.got(direction) == [(0, b"before")]
    assert wire.end(direction) == (2, "end")
    assert wire.got(other(direction)) == [(5, b"hello")]
    assert wire.end(other(direction)) is None
    await wire.send_eof(other(direction))
    await wire.arrivals[other(direction)].over.wait()
    assert wire.end(other(direction)) == (10, "end")
    await wire.proxy.wait_connections(0)


@plain
async def test_a_half_close_at_once(harness, virtual_clock):
    wire = await open_wire(harness, HalfClose())
    await harness.settle()
    assert wire.end("downstream") == (0, "end")
    assert wire.end("upstream") is None


@in_memory
async def test_a_half_close_comes_after_what_is_being_sent(harness, virtual_clock):
    """The receiver is slow: all that came before the end arrives, and then the end."""
    wire = await open_wire(harness, HalfClose(5), collect=["upstream"])
    data = bytes(range(256)) * 1024
    async with create_task_group() as tasks:
        tasks.start_soon(wire.send, "downstream", data)
        await sleep(60)
        wire.proxy.add(Latency(0))
        await sleep(1)
        arrivals = wire.arrivals["downstream"]
        harness.task_group.start_soon(arrivals.collect, wire.sender["upstream"])
    await arrivals.over.wait()
    assert arrivals.end == (61, "end")
    # In its buffer, in the proxy's hands
    assert len(arrivals.data) >= 2 * 65536
    assert data.startswith(arrivals.data)


@plain
async def test_a_half_close_with_latency_behind_it(harness, virtual_clock):
    wire = await open_wire(harness, HalfClose(2), Latency(3))
    await sleep(1)
    await wire.send("downstream", b"before")
    await sleep(1.5)
    await wire.send("downstream", b"lost")
    await wire.arrivals["downstream"].over.wait()
    assert wire.got("downstream") == [(4, b"before")]
    assert wire.end("downstream") == (5, "end")


@in_memory
async def test_a_half_close_that_is_taken_away_while_it_waits_to_send_it(harness, virtual_clock):
    """The end has been passed on; to take it back would leave the stream without any."""
    wire = await open_wire(harness)
    half_close = wire.proxy.add(HalfClose(1))
    wire.proxy.add(Freeze())
    for _ in range(3):
        await wire.send("downstream", b"x" * 65536)
        await harness.settle()
    await sleep(2)
    half_close.remove()
    wire.proxy.remove(wire.proxy.toxics[-1])
    await wire.arrivals["downstream"].over.wait()
    assert wire.end("downstream") == (2, "end")
    assert len(wire.arrivals["downstream"].data) >= 65536


# Refuse


async def test_refused_connections(harness):
    wire = await open_wire(harness)
    with wire.proxy.toxic(Refuse()):
        for number in (2, 3):
            with pytest.raises(ConnectionFailed, match=f"refuses connection {number}: Refuse"):
                await wire.proxy.connect()
        await wire.send("upstream", b"live ones go on")
        await harness.settle()
        assert wire.arrivals["upstream"].data == b"live ones go on"
    await open_another(harness, wire.server, wire.proxy, wire.ends)
    assert wire.server.accepted == 2
    assert wire.proxy.accepted == 4


@pytest.mark.harness(transports=["tcp", "unix"])
async def test_a_refused_client_of_another_kind_is_reset(harness):
    server = await harness.serve(lambda stream: stream.receive())
    proxy = await harness.proxy(server, Refuse())
    if harness.transport.name == "unix":
        client = await connect_unix(proxy.path)
    else:
        client = await connect_tcp(proxy.host, proxy.port)
    async with client:
        expected = EndOfStream if harness.transport.name == "unix" else BrokenResourceError
        with pytest.raises(expected):
            await client.receive()
    assert server.accepted == 0


@plain
async def test_refused_after_a_while(harness, virtual_clock):
    server = await harness.serve(lambda stream: stream.receive(), expect=EndOfStream)
    proxy = await harness.proxy(server, SlowAccept(3), Refuse(), SlowAccept(100))
    with pytest.raises(ConnectionFailed):
        await proxy.connect()
    assert current_time() == 3
