"""Toxics that come, change and go while bytes flow: nothing is lost, and nothing overtakes."""

from __future__ import annotations

from random import Random

import pytest
from anyio import create_task_group, current_time, sleep
from anyio.lowlevel import checkpoint
from wire import open_another, open_wire

from harness.faults import (
    AfterBytes,
    AfterPattern,
    Bandwidth,
    During,
    Freeze,
    Latency,
    Slicer,
    SlowClose,
    Timeout,
    Toxic,
    Transform,
)
from harness.transports.memory import MemoryTransport

both = pytest.mark.parametrize("direction", ["upstream", "downstream"])
in_memory = pytest.mark.harness(transports=["memory"])
plain = pytest.mark.harness(transports=["tcp", "unix", "memory"])

A_DAY = 86400.0


async def as_it_is(data):
    await checkpoint()
    return data


class Chaos:
    """Adds, changes and takes away toxics that keep every byte, at random moments.

    :param pause: waits for so many seconds, at most
    """

    def __init__(self, wire, random, pause):
        self.wire = wire
        self.random = random
        self.pause = pause
        self.actives = []

    def toxic(self):
        random = self.random
        makers = [
            lambda: Latency(random.uniform(0, 2)),
            lambda: Latency(random.uniform(0, 2), jitter=random.uniform(0, 2)),
            lambda: Latency(0.1, jitter=0.1, distribution="pareto"),
            lambda: Bandwidth(random.choice([500, 5000, 1e6])),
            lambda: Slicer(random.randint(50, 500), random.randint(0, 49), random.uniform(0, 0.1)),
            lambda: Slicer(100),
            Freeze,
            lambda: SlowClose(random.uniform(0, 5)),
            lambda: Timeout(A_DAY),
            lambda: Timeout(),
            lambda: Transform(as_it_is),
            Toxic,
        ]
        return random.choice(makers)()

    def triggers(self):
        random = self.random
        start = random.uniform(0, 2)
        return random.choice(
            [
                (),
                (),
                AfterBytes(random.randrange(5000)),
                AfterPattern(b"7\n"),
                During(start, start + random.uniform(0.1, 2)),
                [AfterBytes(random.randrange(5000)), AfterPattern(b"7\n"), During(start)],
            ]
        )

    def changes(self, toxic):
        random = self.random
        match toxic:
            case Latency():
                return {"delay": random.uniform(0, 3), "jitter": random.choice([0, 1])}
            case Bandwidth():
                return {"rate": random.choice([100, 3000, 1e6])}
            case Slicer():
                return {"average_size": random.randint(50, 500), "delay": random.uniform(0, 0.1)}
            case SlowClose():
                return {"delay": random.uniform(0, 5)}
            case Timeout():
                return {"after": random.choice([None, A_DAY])}
        return {}

    def step(self):
        random, proxy, actives = self.random, self.wire.proxy, self.actives
        moves = ["add", "add", "update", "update", "remove", "remove", "freeze", "thaw"]
        match random.choice(moves):
            case "add" if len(actives) < 6:
                direction = random.choice(["upstream", "downstream", "both"])
                toxic, when = self.toxic(), self.triggers()
                actives.append(proxy.add(toxic, direction=direction, when=when))
            case "update" if actives:
                active = random.choice(actives)
                active.update(**self.changes(active.toxic))
            case "remove" if actives:
                actives.pop(random.randrange(len(actives))).remove()
            case "freeze":
                proxy.freeze()
            case "thaw":
                proxy.thaw()

    async def run(self, steps):
        for _ in range(steps):
            if self.random.random() < 0.6:
                await sleep(self.random.choice([0, self.random.uniform(0, self.pause)]))
            self.step()
        self.wire.proxy.thaw()
        for active in list(self.actives):
            if isinstance(active.toxic, (Freeze, Timeout)) or self.random.random() < 0.7:
                active.remove()
                await sleep(self.random.choice([0, self.random.uniform(0, self.pause)]))
            elif isinstance(active.toxic, Bandwidth):
                active.update(rate=1e9)


def numbered(count):
    return b"".join(b"%06d\n" % number for number in range(count))


async def stream(wire, direction, random, data, pause):
    while data:
        size = random.choice([1, 10, 1000, 10_000, 100_000])
        await wire.send(direction, data[:size])
        data = data[size:]
        if random.random() < 0.3:
            await sleep(random.uniform(0, pause))


async def stream_and_end(wire, direction, *args):
    await stream(wire, direction, *args)
    await wire.send_eof(direction)


async def survive(wire, random, *, count, steps, pause, send=stream_and_end):
    sent = {direction: numbered(random.randrange(count)) for direction in wire.arrivals}
    async with create_task_group() as tasks:
        for direction, data in sent.items():
            tasks.start_soon(send, wire, direction, Random(random.random()), data, pause)
        tasks.start_soon(Chaos(wire, random, pause).run, steps)
    for direction, data in sent.items():
        arrivals = wire.arrivals[direction]
        if send is stream:
            while len(arrivals.data) < len(data):
                assert arrivals.end is None
                await sleep(1)
            assert arrivals.data == data
            continue
        await arrivals.over.wait()
        assert arrivals.data == data
        assert arrivals.end[1] == "end"


@in_memory
@pytest.mark.parametrize(
    "seeds", [range(first, first + 20) for first in range(0, 200, 20)], ids=str
)
async def test_nothing_is_lost_and_nothing_overtakes(harness, virtual_clock, monkeypatch, seeds):
    for seed in seeds:
        random = Random(seed)
        with monkeypatch.context() as patch:
            if random.random() < 0.5:  # queues that are often full
                patch.setattr(Toxic, "capacity", random.choice([1, 200, 3000]))
                patch.setattr(Latency, "capacity", random.choice([1, 5000]))
            transport = MemoryTransport(
                capacity=random.choice([100, 1000, 65536]),
                chunking_seed=random.choice([None, seed]),
            )
            try:
                wire = await open_wire(harness, seed=seed, transport=transport)
                await survive(wire, random, count=2000, steps=60, pause=0.5)
                await wire.proxy.wait_connections(0)
            except BaseException as exc:
                exc.args = (f"seed {seed}", *exc.args)
                raise


@plain
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_nor_by_a_real_kernel(harness, virtual_clock, seed):
    wire = await open_wire(harness, seed=seed)
    await survive(wire, Random(seed), count=20_000, steps=100, pause=0.5)
    await wire.proxy.wait_connections(0)


@pytest.mark.harness(transports=["tls"])
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_nor_below_tls(harness, virtual_clock, seed):
    """Which would notice each byte; the connection stays open, as TLS has no half-close here."""
    wire = await open_wire(harness, seed=seed)
    await survive(wire, Random(seed), count=20_000, steps=100, pause=0.5, send=stream)
    assert len(wire.proxy.connections) == 1


# One change each


@in_memory
async def test_a_toxic_goes_whose_queue_is_full_and_whose_sender_waits(harness, virtual_clock):
    wire = await open_wire(harness)
    frozen = wire.proxy.add(Freeze())
    data = numbered(100_000)
    async with create_task_group() as tasks:
        tasks.start_soon(wire.send, "downstream", data)
        await sleep(1)
        assert wire.sender["downstream"].connection.waiting == "send"
        frozen.remove()
    await harness.settle()
    assert wire.got("downstream") == [(1, data)]


@plain
async def test_a_toxic_that_has_gone_leaves_nothing_running(harness):
    wire = await open_wire(harness)
    active = wire.proxy.add(Timeout(A_DAY))
    await harness.settle()
    running = harness.dump()
    assert running.count("- Timeout(after=86400.0), downstream") == 1
    assert running.count("- Timeout(after=86400.0) beside, downstream") == 1
    active.remove()
    await harness.settle()
    running = harness.dump()
    assert "Timeout" not in running


@in_memory
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
async def test_three_go_one_after_the_other(harness, virtual_clock, order):
    wire = await open_wire(harness)
    actives = [wire.proxy.add(Freeze()) for _ in range(3)]
    data = numbered(100_000)
    async with create_task_group() as tasks:
        tasks.start_soon(wire.send, "downstream", data)
        for number, which in enumerate(order):
            await sleep(1)
            assert wire.got("downstream") == []
            actives[which].remove()
            await wire.send("upstream", b"%d" % number)
    await wire.send_eof("downstream")
    await wire.arrivals["downstream"].over.wait()
    assert wire.got("downstream") == [(3, data)]
    assert wire.end("downstream") == (3, "end")
    assert wire.got("upstream") == [(1, b"0"), (2, b"1"), (3, b"2")]


@in_memory
async def test_a_toxic_comes_while_a_send_waits(harness, virtual_clock):
    """What was on its way goes before it; what comes later goes through it."""
    wire = await open_wire(harness, collect=["upstream"])
    data = numbered(100_000)
    async with create_task_group() as tasks:
        tasks.start_soon(wire.send, "downstream", data)
        await sleep(1)
        wire.proxy.add(Latency(10))
        arrivals = wire.arrivals["downstream"]
        harness.task_group.start_soon(arrivals.collect, wire.sender["upstream"])
    await sleep(60)
    assert arrivals.data == data
    (now, before), (later, _) = arrivals.runs
    assert (now, later) == (1, 11)
    assert 65536 <= len(before) <= 3 * 65536  # the client's buffer, and what the proxy had in hand


@plain
async def test_a_toxic_goes_after_the_end_has_come_in(harness, virtual_clock):
    wire = await open_wire(harness)
    slow = wire.proxy.add(SlowClose(100))
    latency = wire.proxy.add(Latency(50))
    await wire.send("downstream", b"hello")
    await wire.send_eof("downstream")
    await sleep(10)
    slow.remove()
    await sleep(10)
    assert wire.got("downstream") == []
    latency.remove()
    await wire.arrivals["downstream"].over.wait()
    assert wire.got("downstream") == [(20, b"hello")]
    assert wire.end("downstream") == (20, "end")
    slow.remove()  # again, and nothing happens


@plain
async def test_a_toxic_comes_after_the_end_has_come_in(harness, virtual_clock):
    wire = await open_wire(harness)
    wire.proxy.add(SlowClose(100))
    await wire.send_eof("downstream")
    await sleep(10)
    wire.proxy.add(Latency(50))
    await wire.arrivals["downstream"].over.wait()
    assert wire.end("downstream") == (150, "end")


@plain
async def test_a_toxic_comes_while_a_connection_ends(harness):
    wire = await open_wire(harness)
    await wire.sender["upstream"].aclose()
    await wire.sender["downstream"].aclose()
    while wire.proxy.connections:
        wire.proxy.add(Latency(0)).remove()
        await checkpoint()
    assert not wire.proxy.toxics


@plain
@pytest.mark.parametrize(("delay", "arrives"), [(8, [8, 9]), (3, [5, 5]), (4.5, [5, 5.5])])
async def test_latency_that_changes(harness, virtual_clock, delay, arrives):
    """What waits is as late as it would have been, and is not lost if that was earlier."""
    wire = await open_wire(harness)
    latency = wire.proxy.add(Latency(6))
    await wire.send("downstream", b"a")
    await sleep(1)
    await wire.send("downstream", b"b")
    await sleep(4)
    latency.update(delay=delay)
    await sleep(60)
    got = [when for when, data in wire.got("downstream") for _ in data]
    assert got == arrives
    assert wire.arrivals["downstream"].data == b"ab"


@plain
async def test_a_slow_end_that_changes(harness, virtual_clock):
    wire = await open_wire(harness)
    slow = wire.proxy.add(SlowClose(10))
    await sleep(5)
    await wire.send_eof("downstream")
    await sleep(5)
    slow.update(delay=20)
    await sleep(10)
    assert wire.end("downstream") is None
    slow.update(delay=16)
    await sleep(2)
    assert wire.end("downstream") == (21, "end")


@plain
async def test_pieces_that_change(harness, virtual_clock):
    wire = await open_wire(harness)
    slicer = wire.proxy.add(Slicer(3, delay=10))
    await wire.send("downstream", b"abcdefghijkl")
    await sleep(4)
    slicer.update(delay=1)  # a pause that is over since 3 s
    await sleep(0.5)
    slicer.update(average_size=5)
    await sleep(60)
    assert wire.got("downstream") == [(0, b"abc"), (4, b"def"), (5, b"ghijk"), (6, b"l")]


@plain
async def test_what_is_changed_is_checked(harness):
    proxy = await harness.proxy(await harness.serve(lambda stream: stream.receive()))
    latency = proxy.add(Latency(1, jitter=0.5))
    with pytest.raises(ValueError, match="Latency: delay has to be 0 or more, not -1"):
        latency.update(delay=-1)
    with pytest.raises(AttributeError, match="has no 'rate' to change, only delay, jitter, dist"):
        latency.update(delay=2, rate=1)
    assert (latency.toxic.delay, latency.toxic.jitter) == (1, 0.5)
    latency.update(delay=3)
    assert (latency.toxic.delay, latency.toxic.jitter) == (3, 0.5)


async def test_a_toxic_that_was_changed_is_still_known(harness):
    proxy = await harness.proxy(await harness.serve(lambda stream: stream.receive()))
    latency = Latency(1)
    active = proxy.add(latency)
    active.update(delay=2)
    assert active.toxic is not latency
    assert latency.delay == 1
    proxy.remove(latency)
    assert not proxy.toxics
    with pytest.raises(ValueError, match=r"Latency\(delay=1.*does not act in <Proxy"):
        proxy.remove(latency)


async def test_a_change_is_for_new_connections_too(harness, virtual_clock):
    wire = await open_wire(harness)
    latency = wire.proxy.add(Latency(5))
    latency.update(delay=1)
    if harness.transport.name == "tls":
        await wire.proxy.connect()
        assert current_time() >= 1
        assert current_time() % 1 == 0
        return
    other = await open_another(harness, wire.server, wire.proxy, wire.ends)
    await other.send("downstream", b"hello")
    await sleep(10)
    assert other.got("downstream") == [(1, b"hello")]


# aiomisc's names


@both
async def test_slowdown(harness, virtual_clock, direction):
    """What is read from the client is on its way upstream."""
    wire = await open_wire(harness)
    delays = {"read_delay": 2} if direction == "upstream" else {"write_delay": 2}
    with wire.proxy.slowdown(**delays):
        for each in ("upstream", "downstream"):
            await wire.send(each, b"hello")
        await sleep(1)
        for each in ("upstream", "downstream"):
            await wire.send(each, b"again")
        await sleep(1.5)
    await sleep(10)
    other = "upstream" if direction == "downstream" else "downstream"
    assert wire.got(other) == [(0, b"hello"), (1, b"again")]
    assert wire.got(direction) == [(2, b"hello"), (2.5, b"again")]
    assert not wire.proxy.toxics


async def test_slowdowns_in_one_another(harness, virtual_clock):
    wire = await open_wire(harness)
    with wire.proxy.slowdown(1, 2):
        with pytest.raises(LookupError), wire.proxy.slowdown(write_delay=3):
            await wire.send("downstream", b"slow")
            await sleep(5)
            raise LookupError
        await wire.send("downstream", b"faster")
        await sleep(10)
    assert wire.got("downstream") == [(5, b"slow"), (7, b"faster")]


async def test_content_processors(harness):
    if harness.transport.name == "tls":
        pytest.skip("bytes are processed below TLS")
    wire = await open_wire(harness)

    async def backwards(data):
        await checkpoint()
        return data[::-1]

    async def exchange():
        for direction in ("upstream", "downstream"):
            await wire.send(direction, b"abc")
        await harness.settle()
        return [wire.arrivals[each].data[-3:] for each in ("upstream", "downstream")]

    wire.proxy.set_content_processors(read=bytes.upper, write=backwards)
    assert await exchange() == [b"ABC", b"cba"]
    wire.proxy.set_content_processors(None, bytes.title)
    assert await exchange() == [b"abc", b"Abc"]
    wire.proxy.set_content_processors()
    assert await exchange() == [b"abc", b"abc"]
    with pytest.raises(TypeError, match="Transform: function has to be callable, not 'x'"):
        wire.proxy.set_content_processors(read=bytes.upper, write="x")
    assert await exchange() == [b"abc", b"abc"]
