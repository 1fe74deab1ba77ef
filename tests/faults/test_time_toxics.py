"""Toxics that take time: how long, to the last digit, in virtual time."""

from __future__ import annotations

import pytest
from anyio import create_task_group, current_time, fail_after, move_on_after, sleep
from wire import Ends, open_another, open_wire

from harness.faults import Bandwidth, Freeze, Latency, Slicer, SlowAccept, SlowClose

both = pytest.mark.parametrize("direction", ["upstream", "downstream"])
#: where the bytes on the way are those that were sent
plain = pytest.mark.harness(transports=["tcp", "unix", "memory"])
in_memory = pytest.mark.harness(transports=["memory"])


# Latency


@both
async def test_every_byte_and_the_end_are_late_by_the_delay(harness, virtual_clock, direction):
    wire = await open_wire(harness)
    wire.proxy.add(Latency(0.25), direction=direction)
    await wire.send(direction, b"one")
    await sleep(0.125)
    await wire.send(direction, b"two")
    await sleep(1)
    await wire.send_eof(direction)
    await wire.arrivals[direction].over.wait()
    assert wire.got(direction) == [(0.25, b"one"), (0.375, b"two")]
    assert wire.end(direction) == (1.375, "end")


@both
async def test_the_other_direction_is_not_late(harness, virtual_clock, direction):
    wire = await open_wire(harness)
    wire.proxy.add(Latency(5), direction="upstream" if direction == "downstream" else "downstream")
    await wire.send(direction, b"now")
    await sleep(1)
    assert wire.got(direction) == [(0, b"now")]


@both
async def test_the_throughput_is_not_divided_by_a_delay(harness, virtual_clock, direction):
    """Fifty runs of bytes that are sent at once arrive at once, all late by the delay."""
    wire = await open_wire(harness)
    wire.proxy.add(Latency(0.25), direction=direction)
    sent = b""
    for number in range(50):
        run = b"%04d" % number * 500
        await wire.send(direction, run)
        sent += run
        await harness.settle()
    assert current_time() == 0
    await sleep(1)
    assert wire.got(direction) == [(0.25, sent)]


@plain
async def test_much_is_on_its_way_at_once(harness, virtual_clock):
    """Thirty times what a socket holds, in one delay, and not in thirty."""
    wire = await open_wire(harness, Latency(1.5))
    data = bytes(range(256)) * 256 * 30
    with fail_after(1):
        await wire.send("downstream", data)
    await sleep(2)
    assert wire.got("downstream") == [(1.5, data)]


@in_memory
async def test_a_long_way_is_not_endlessly_long(harness, virtual_clock):
    wire = await open_wire(harness, Latency(10))
    sent = 0
    with move_on_after(5):
        while True:
            await wire.send("downstream", b"x" * 65536)
            sent += 65536
    # Latency's own, the server's and the proxy's buffers, and what the proxy has in its hands
    assert Latency.capacity <= sent <= Latency.capacity + 4 * 65536
    await sleep(60)
    assert len(wire.arrivals["downstream"].data) >= sent


@both
@pytest.mark.parametrize("number", [2, 5])
async def test_delays_add_up(harness, virtual_clock, direction, number):
    wire = await open_wire(harness)
    for _ in range(number):
        wire.proxy.add(Latency(0.25), direction=direction)
    await wire.send(direction, b"hello")
    await sleep(10)
    assert wire.got(direction) == [(0.25 * number, b"hello")]


async def test_both_ways_are_twice_as_long(harness, virtual_clock):
    async def echo(stream):
        async for data in stream:
            await stream.send(data)

    proxy = await harness.proxy(await harness.serve(echo))
    client = await proxy.connect()
    proxy.add(Latency(0.25), direction="both")
    await client.send(b"hello")
    assert await client.receive() == b"hello"
    assert current_time() == 0.5


async def test_a_delay_is_exactly_itself_at_any_time_of_day(harness, virtual_clock):
    wire = await open_wire(harness)
    wire.proxy.add(Latency(0.1))
    await sleep(0.7)
    for _ in range(20):
        sent = current_time()
        await wire.send("downstream", b"x")
        await sleep(0.3)
        assert wire.got("downstream")[-1] == (sent + 0.1, b"x")


@plain
@both
@pytest.mark.parametrize("distribution", ["uniform", "normal", "exponential", "pareto"])
async def test_jitter_keeps_the_order(harness, virtual_clock, direction, distribution):
    wire = await open_wire(harness, seed=3)
    wire.proxy.add(Latency(1, jitter=0.75, distribution=distribution), direction=direction)
    start = {}
    for number in range(40):
        byte = bytes([number])
        start[byte] = current_time()
        await wire.send(direction, byte)
        await sleep(0.5)
    await wire.send_eof(direction)
    await wire.arrivals[direction].over.wait()
    arrivals = wire.arrivals[direction]
    assert arrivals.data == bytes(range(40))
    late = {
        byte: when - start[bytes([byte])] for when, data in wire.got(direction) for byte in data
    }
    assert len({round(each, 6) for each in late.values()}) > 5
    # What is behind another one that is later comes with that; the rest comes in its own time.
    match distribution:
        case "uniform":
            assert all(each >= 0.25 for each in late.values())
            assert any(each < 1 for each in late.values())
            assert max(late.values()) <= 1.75
        case "normal":
            assert all(each >= 0 for each in late.values())
            assert any(each < 1 for each in late.values())
        case "exponential" | "pareto":
            assert all(each >= 1 for each in late.values())
            assert any(each > 1.25 for each in late.values())


@in_memory
@pytest.mark.parametrize(
    ("distribution", "mean", "least", "most"),
    [
        ("uniform", 0, -1, 1),
        ("normal", 0, -5, 5),
        ("exponential", 1, 0, 12),
        ("pareto", 0.5, 0, 20),
    ],
)
async def test_a_distribution_is_what_it_is_called(
    harness, virtual_clock, distribution, mean, least, most
):
    """Each run has an own delay, as none is still on its way when the next one is sent."""
    wire = await open_wire(harness, Latency(100, jitter=1, distribution=distribution), seed=1)
    late = []
    for _ in range(500):
        sent = current_time()
        await wire.send("downstream", b"x")
        await sleep(200)
        late.append(wire.got("downstream")[-1][0] - sent - 100)
    assert len(wire.got("downstream")) == 500
    assert least <= min(late) < mean < max(late) <= most
    assert sum(late) / len(late) == pytest.approx(mean, abs=0.1)


@in_memory
async def test_a_distribution_of_ones_own(harness, virtual_clock):
    factors = iter([1, -1, 0, -100, 0.5])
    latency = Latency(1, jitter=0.5, distribution=lambda random: next(factors))
    wire = await open_wire(harness, latency)
    late = []
    for _ in range(4):
        sent = current_time()
        await wire.send("downstream", b"x")
        await sleep(10)
        late.append(wire.got("downstream")[-1][0] - sent)
    assert late == [1.5, 0.5, 1, 0]
    sent = current_time()
    await wire.send_eof("downstream")
    await wire.arrivals["downstream"].over.wait()
    assert wire.end("downstream") == (sent + 1.25, "end")


@both
async def test_no_delay_is_none(harness, virtual_clock, direction):
    wire = await open_wire(harness)
    wire.proxy.add(Latency(0), direction=direction)
    await wire.send(direction, b"hello")
    await sleep(1)
    assert wire.got(direction) == [(0, b"hello")]
    assert not wire.connection.fired


# Bandwidth


@plain
@both
@pytest.mark.parametrize(("size", "rate"), [(1000, 1000), (3333, 700), (60_000, 8000), (1, 3)])
async def test_bytes_take_their_time(harness, virtual_clock, direction, size, rate):
    wire = await open_wire(harness)
    wire.proxy.add(Bandwidth(rate), direction=direction)
    data = bytes(range(256)) * (size // 256) + b"!" * (size % 256)
    await wire.send(direction, data)
    await wire.send_eof(direction)
    await wire.arrivals[direction].over.wait()
    assert wire.arrivals[direction].data == data
    assert wire.got(direction)[-1][0] == size / rate
    assert wire.end(direction) == (size / rate, "end")


@in_memory
async def test_bytes_come_in_steps_and_none_too_early(harness, virtual_clock):
    wire = await open_wire(harness, Bandwidth(1000))
    await wire.send("downstream", b"x" * 1030)
    await sleep(5)
    came = 0
    for when, data in wire.got("downstream"):
        came += len(data)
        assert when == came / 1000
        assert len(data) <= 50
    assert came == 1030


@plain
async def test_an_idle_link_saves_nothing(harness, virtual_clock):
    wire = await open_wire(harness, Bandwidth(100))
    await wire.send("downstream", b"x" * 50)
    await sleep(60)
    assert wire.got("downstream")[-1][0] == 0.5
    await wire.send("downstream", b"y" * 200)
    await sleep(60)
    assert wire.got("downstream")[-1][0] == 62
    assert wire.got("downstream")[10] == (60.05, b"y" * 5)


@in_memory
async def test_a_link_that_cannot_send_saves_nothing(harness, virtual_clock):
    """Whoever has not read for a minute gets the rest at the rate, and not at once."""
    wire = await open_wire(harness, Bandwidth(64_000), collect=["upstream"])
    async with create_task_group() as tasks:
        tasks.start_soon(wire.send, "downstream", b"x" * 6 * 64_000)
        await sleep(60)
        # The client's own buffer is full of the first 65536 bytes. The next step is of 3200.
        arrivals = wire.arrivals["downstream"]
        harness.task_group.start_soon(arrivals.collect, wire.sender["upstream"])
    await sleep(60)
    came = 0
    for when, data in wire.got("downstream"):
        came += len(data)
        assert when == pytest.approx(60 + (came - 68_736) / 64_000)
    assert came == 6 * 64_000


@in_memory
async def test_a_rate_holds_over_many_runs(harness, virtual_clock):
    wire = await open_wire(harness, Bandwidth(1000))
    for _ in range(100):
        await wire.send("downstream", b"x" * 10)
        await harness.settle()
    await sleep(60)
    assert wire.got("downstream")[-1][0] == 1
    assert len(wire.arrivals["downstream"].data) == 1000


@in_memory
async def test_each_connection_has_a_rate_of_its_own(harness, virtual_clock):

    one = await open_wire(harness, Bandwidth(100))
    two = await open_another(harness, one.server, one.proxy, one.ends)
    await one.send("downstream", b"x" * 100)
    await two.send("downstream", b"x" * 100)
    await sleep(5)
    assert one.got("downstream")[-1][0] == two.got("downstream")[-1][0] == 1


@in_memory
async def test_another_rate_from_now_on(harness, virtual_clock):
    """150 bytes: 50 at 100 a second, 20 and a half at 10, and the others at 1000."""
    wire = await open_wire(harness)
    bandwidth = wire.proxy.add(Bandwidth(100))
    await wire.send("downstream", b"x" * 150)
    await sleep(0.5)
    bandwidth.update(rate=10)
    await sleep(2.05)
    assert wire.arrivals["downstream"].data == b"x" * 70
    bandwidth.update(rate=1000)
    await sleep(5)
    assert wire.got("downstream")[-1][0] == pytest.approx(2.55 + 0.0795)
    assert len(wire.arrivals["downstream"].data) == 150


# Slicer


@plain
@both
async def test_pieces_and_a_pause_after_each(harness, virtual_clock, direction):
    wire = await open_wire(harness)
    wire.proxy.add(Slicer(4, delay=0.25), direction=direction)
    await wire.send(direction, b"abcdefghij")
    await sleep(5)
    await wire.send(direction, b"klmn")  # the first two of these belong to the last piece
    await wire.send_eof(direction)
    await wire.arrivals[direction].over.wait()
    assert wire.got(direction) == [
        (0, b"abcd"),
        (0.25, b"efgh"),
        (0.5, b"ij"),
        (5, b"kl"),
        (5.25, b"mn"),
    ]
    assert wire.end(direction) == (5.25, "end")


@in_memory
async def test_pieces_vary_as_much_as_they_may(harness, virtual_clock):
    wire = await open_wire(harness, Slicer(10, size_variation=9, delay=1), seed=5)
    data = bytes(range(250)) * 8
    await wire.send("downstream", data)
    await sleep(1000)
    assert wire.arrivals["downstream"].data == data
    sizes = [len(run) for _, run in wire.got("downstream")][:-1]
    assert set(sizes) == set(range(1, 20))
    assert sum(sizes) / len(sizes) == pytest.approx(10, abs=1)
    assert [when for when, _ in wire.got("downstream")] == list(range(len(sizes) + 1))


@in_memory
async def test_pieces_without_a_pause(harness):
    """Each piece is a send of its own; who receives late sees them as one."""
    sent = []

    class Note(Latency):
        async def transfer(self, data, link):
            sent.append(data)
            await link.send(data)

    wire = await open_wire(harness, Slicer(3), Note(0))
    await wire.send("downstream", b"abcdefgh")
    await harness.settle()
    assert sent == [b"abc", b"def", b"gh"]
    assert wire.arrivals["downstream"].data == b"abcdefgh"


# SlowClose


@both
async def test_only_the_end_is_late(harness, virtual_clock, direction):
    wire = await open_wire(harness)
    wire.proxy.add(SlowClose(3), direction=direction)
    await wire.send(direction, b"hello")
    await sleep(1)
    await wire.send_eof(direction)
    await wire.arrivals[direction].over.wait()
    assert wire.got(direction) == [(0, b"hello")]
    assert wire.end(direction) == (4, "end")


@plain
@both
async def test_slow_ends_add_up_with_latency(harness, virtual_clock, direction):
    wire = await open_wire(harness)
    wire.proxy.add(Latency(0.5), direction=direction)
    wire.proxy.add(SlowClose(3), direction=direction)
    wire.proxy.add(SlowClose(1), direction=direction)
    await wire.send_eof(direction)
    await wire.arrivals[direction].over.wait()
    assert wire.end(direction) == (4.5, "end")


# SlowAccept


async def test_a_connection_takes_its_time(harness, virtual_clock):
    async def greet(stream):
        await stream.send(b"hello")

    proxy = await harness.proxy(await harness.serve(greet), SlowAccept(2.5))
    async with await proxy.connect() as client:
        assert current_time() == 2.5
        assert await client.receive() == b"hello"
        assert current_time() == 2.5
        assert proxy.connections[0].fired == {"SlowAccept": 1}


async def test_a_connection_that_takes_its_time_in_real_time_has_done_so_once(harness):
    async def greet(stream):
        await stream.send(b"hello")

    proxy = await harness.proxy(await harness.serve(greet), SlowAccept(0.001))
    async with await proxy.connect() as client:
        assert await client.receive() == b"hello"
        assert proxy.connections[0].fired == {"SlowAccept": 1}


@pytest.mark.harness(transports=["tcp", "unix"])
async def test_a_client_of_another_kind_waits_for_its_answer(harness, virtual_clock):
    """The kernel accepts at once; what is sent lies there."""
    from anyio import connect_tcp, connect_unix

    async def echo(stream):
        async for data in stream:
            await stream.send(data)

    server = await harness.serve(echo)
    proxy = await harness.proxy(server, SlowAccept(2.5))
    if harness.transport.name == "unix":
        client = await connect_unix(proxy.path)
    else:
        client = await connect_tcp(proxy.host, proxy.port)
    async with client:
        await client.send(b"hello")
        assert current_time() == server.accepted == 0
        assert await client.receive() == b"hello"
        assert current_time() == 2.5


@plain
async def test_slow_accept_that_is_taken_away(harness, virtual_clock):
    async def connect():
        async with await proxy.connect():
            connected.append(current_time())

    connected = []
    proxy = await harness.proxy(await harness.serve(Ends(), grace=0))
    slow = proxy.add(SlowAccept(60))
    async with create_task_group() as tasks:
        tasks.start_soon(connect)
        await sleep(2)
        slow.remove()
        await sleep(1)
        assert connected == [2]


@plain
async def test_slow_accept_that_becomes_faster(harness, virtual_clock):
    async def connect():
        async with await proxy.connect():
            connected.append(current_time())

    connected = []
    proxy = await harness.proxy(await harness.serve(Ends(), grace=0))
    slow = proxy.add(SlowAccept(60))
    async with create_task_group() as tasks:
        tasks.start_soon(connect)
        await sleep(2)
        slow.update(delay=5)
    assert connected == [5]


# Freeze


@both
async def test_nothing_gets_through_and_nothing_is_lost(harness, virtual_clock, direction):
    wire = await open_wire(harness)
    frozen = wire.proxy.add(Freeze(), direction=direction)
    await wire.send(direction, b"one ")
    await sleep(1)
    await wire.send(direction, b"two")
    await wire.send_eof(direction)
    await sleep(3600)
    assert wire.got(direction) == []
    assert wire.end(direction) is None
    frozen.remove()
    await wire.arrivals[direction].over.wait()
    assert wire.got(direction) == [(3601, b"one two")]
    assert wire.end(direction) == (3601, "end")


@plain
async def test_a_frozen_link_lets_the_sender_wait(harness, virtual_clock):
    wire = await open_wire(harness)
    wire.proxy.freeze()
    sent = []
    runs = 20 if harness.transport.name == "memory" else 250

    async def send():
        for number in range(runs):
            await wire.send("downstream", bytes([number]) * 65536)
            sent.append(current_time())

    async with create_task_group() as tasks:
        tasks.start_soon(send)
        await sleep(3600)
        assert len(sent) < runs
        assert set(sent) == {0}
        wire.proxy.thaw()
    assert set(sent) == {0, 3600}
    await harness.settle()
    assert wire.got("downstream") == [(3600, b"".join(bytes([n]) * 65536 for n in range(runs)))]


async def test_freeze_and_thaw_of_a_proxy(harness, virtual_clock):
    wire = await open_wire(harness)
    wire.proxy.freeze()
    wire.proxy.freeze()
    await wire.send("upstream", b"question")
    await wire.send("downstream", b"answer")
    await sleep(5)
    assert wire.got("upstream") == wire.got("downstream") == []
    wire.proxy.thaw()
    wire.proxy.thaw()
    await harness.settle()
    assert wire.got("upstream") == [(5, b"question")]
    assert wire.got("downstream") == [(5, b"answer")]
