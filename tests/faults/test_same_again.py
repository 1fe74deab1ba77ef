"""The same seed makes the same faults in the same places, wherever and however bytes come.

What is expected is written down here, so it is the same on every backend and in every process.
"""

from __future__ import annotations

import hashlib
from random import Random

import pytest
from anyio import ConnectionFailed, create_task_group, current_time, sleep
from wire import open_another, open_wire

from harness.faults import Corrupt, Drop, Duplicate, Latency, LimitData, Slicer
from harness.transports.memory import MemoryTransport

plain = pytest.mark.harness(transports=["tcp", "unix", "memory"])
in_memory = pytest.mark.harness(transports=["memory"])

DATA = Random("some bytes").randbytes(50_000)

#: How bytes are cut into sends. What arrives of them is up to the kernel, and to AnyIO's streams.
CUTS = {"whole": [50_000], "small": [1, 700, 13], "random": Random(1).choices(range(1, 3000), k=50)}


def cut(data, sizes):
    at = number = 0
    while at < len(data):
        size = sizes[number % len(sizes)]
        yield data[at : at + size]
        at += size
        number += 1


def short(data):
    return hashlib.sha256(data).hexdigest()[:12]


BYTES = {
    "Corrupt": lambda: Corrupt(0.01),
    "Corrupt by ?": lambda: Corrupt(0.3, b"?"),
    "Drop": lambda: Drop(0.5, average_size=100),
    "Duplicate": lambda: Duplicate(0.5, average_size=100),
}
#: What becomes of the bytes: upstream and downstream by the seed 1, upstream by the seed 2.
MADE = {
    "Corrupt": ("d66900e5ca7b", "3205c4f7c408", "b9f9cf028ee5"),
    "Corrupt by ?": ("81a327ada342", "0fd56a84dff5", "45913055d433"),
    "Drop": ("94a6b59f0bb0", "94dfa29810df", "1e13c337e454"),
    "Duplicate": ("6ab61f73cce3", "317ed48ab01e", "7369faee78f8"),
}


async def made_of_bytes(harness, toxic, sizes, *, seed, direction, transport=None):
    wire = await open_wire(harness, seed=seed, transport=transport)
    wire.proxy.add(BYTES[toxic](), direction="both")
    for data in cut(DATA, sizes):
        await wire.send(direction, data)
    await wire.send_eof(direction)
    await wire.arrivals[direction].over.wait()
    return short(wire.arrivals[direction].data)


@plain
@pytest.mark.parametrize("sizes", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("toxic", BYTES)
async def test_the_same_bytes_are_hit(harness, toxic, sizes):
    made = (
        await made_of_bytes(harness, toxic, sizes, seed=1, direction="upstream"),
        await made_of_bytes(harness, toxic, sizes, seed=1, direction="downstream"),
        await made_of_bytes(harness, toxic, sizes, seed=2, direction="upstream"),
    )
    assert made == MADE[toxic]
    assert len({*made, short(DATA)}) == 4


@in_memory
@pytest.mark.parametrize("chunking_seed", [1, 2])
@pytest.mark.parametrize("toxic", BYTES)
async def test_however_they_are_received(harness, toxic, chunking_seed):
    transport = MemoryTransport(chunking_seed=chunking_seed)
    made = await made_of_bytes(
        harness, toxic, CUTS["whole"], seed=1, direction="upstream", transport=transport
    )
    assert made == MADE[toxic][0]


@in_memory
@pytest.mark.parametrize("toxic", BYTES)
async def test_whatever_the_other_direction_and_other_connections_do(harness, toxic):
    one = await open_wire(harness, seed=1)
    two = await open_another(harness, one.server, one.proxy, one.ends)
    one.proxy.add(BYTES[toxic](), direction="both")
    random = Random(5)

    async def send(wire, direction):
        for data in cut(DATA, CUTS["random"]):
            await wire.send(direction, data)
            if random.random() < 0.5:
                await harness.settle()

    async with create_task_group() as tasks:
        for wire in (one, two):
            for direction in ("upstream", "downstream"):
                tasks.start_soon(send, wire, direction)
    await harness.settle()
    made = [
        short(wire.arrivals[direction].data)
        for wire in (one, two)
        for direction in ("upstream", "downstream")
    ]
    assert made[:2] == [*MADE[toxic][:2]]
    assert len(set(made)) == 4


#: How long the pieces are, by seed.
PIECES = {
    1: [6515, 3361, 4787, 1433, 6728, 5962, 1182, 5719, 2890, 4069, 1932, 2290, 1419, 1566, 147],
    2: [4531, 4596, 5065, 1979, 3494, 6992, 6787, 1587, 1742, 2618, 4199, 5109, 1301],
}


@plain
@pytest.mark.parametrize("sizes", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("seed", PIECES)
async def test_the_stream_is_cut_at_the_same_places(harness, virtual_clock, sizes, seed):
    wire = await open_wire(harness, Slicer(4000, 3000, delay=1), seed=seed)
    for data in cut(DATA, sizes):
        await wire.send("downstream", data)
    await sleep(60)
    assert wire.arrivals["downstream"].data == DATA
    assert [when for when, _ in wire.got("downstream")] == [*range(len(PIECES[seed]))]
    assert [len(data) for _, data in wire.got("downstream")] == PIECES[seed]


#: When what is sent each second arrives, by the seeds 1 and 2.
DELAYS = {
    "uniform": (
        [0.614322, 2.460623, 3.06504, 4.054177, 5.326906, 6.439406, 7.031127, 8.409365],
        [0.952454, 1.663648, 2.871767, 3.596411, 5.416757, 6.086198, 7.411656, 7.674927],
    ),
    "normal": (
        [1.458737, 2.157158, 2.577815, 3.414708, 5.289163, 6.268828, 6.53256, 8.982877],
        [0.581016, 2.597929, 2.890792, 4.291732, 6.279458, 6.279458, 7.34361, 8.054453],
    ),
    "exponential": (
        [1.060701, 3.617291, 3.617291, 4.403917, 5.876959, 7.401783, 7.401783, 9.200455],
        [1.301154, 2.089353, 3.232422, 4.05069, 6.242995, 6.441183, 8.213257, 8.213257],
    ),
    "pareto": (
        [1.020649, 2.969683, 3.159913, 4.154509, 5.397172, 6.772998, 7.143603, 8.613108],
        [1.111171, 2.030689, 3.083799, 4.017186, 5.645127, 6.170974, 7.622649, 8.033097],
    ),
}


@plain
@pytest.mark.parametrize("sizes", [[3], [1], [2, 1]], ids=str)
@pytest.mark.parametrize("distribution", DELAYS)
async def test_delays_are_the_same(harness, virtual_clock, distribution, sizes):
    """Three bytes each second: those that come at one time are late by the same delay."""
    for seed, expected in zip((1, 2), DELAYS[distribution], strict=True):
        start = current_time()
        latency = Latency(1, jitter=0.5, distribution=distribution)
        wire = await open_wire(harness, latency, seed=seed)
        for _ in range(8):
            for data in cut(b"abc", sizes):
                await wire.send("downstream", data)
                await harness.settle()
            await sleep(1)
        await sleep(60)
        came = [round(when - start, 6) for when, data in wire.got("downstream") for _ in data]
        assert came == [when for when in expected for _ in range(3)]


#: Which connections are hit, of 20, by seed.
HIT = {
    1: [1, 2, 3, 5, 7, 8, 16, 18, 19],
    2: [3, 4, 6, 8, 10, 11, 12, 17, 18, 19],
}


HIT_BELOW_TLS = {
    1: [4, 8, 10, 13, 14, 16, 17, 18],
    2: [2, 3, 6, 10, 11, 14, 15, 17, 18],
}
#: By the seed 1. As what is sent is longer below TLS, these are others than without it.
DELAYS_BELOW_TLS = [0.614322, 2.347497, 3.48483, 4.355424, 5.262747, 5.74567, 7.013608, 7.774358]


@plain
@pytest.mark.parametrize("seed", HIT)
async def test_the_same_connections_are_hit(harness, seed):
    proxy = await harness.proxy(
        await harness.serve(lambda stream: stream.send(b"hello")), seed=seed
    )
    proxy.add(Corrupt(1, b"?"), toxicity=0.5)
    hit = []
    for number in range(1, 21):
        async with await proxy.connect() as client:
            if await client.receive() == b"?????":
                hit.append(number)
    assert hit == HIT[seed]


@pytest.mark.harness(transports=["tls"])
@pytest.mark.parametrize("seed", HIT)
async def test_the_same_connections_are_hit_below_tls(harness, seed):
    """The bytes differ each time, but not which connections a toxic acts on."""
    proxy = await harness.proxy(
        await harness.serve(lambda stream: stream.send(b"hello")), seed=seed
    )
    proxy.add(LimitData(0), toxicity=0.5)
    hit = []
    for number in range(1, 21):
        try:
            await (await proxy.connect()).aclose()
        except ConnectionFailed:
            hit.append(number)
    assert hit == HIT_BELOW_TLS[seed]


@pytest.mark.harness(transports=["tls"])
async def test_delays_are_the_same_below_tls(harness, virtual_clock):
    """One for what came at one time, by the seed and the place in the stream of TLS."""
    wire = await open_wire(harness, seed=1)
    wire.proxy.add(Latency(1, jitter=0.5))
    start = current_time()
    for _ in range(8):
        await wire.send("downstream", b"abc")
        await sleep(1)
    await sleep(60)
    came = [when - start for when, _ in wire.got("downstream")]
    assert came == sorted(came)
    assert [round(when, 6) for when in came] == DELAYS_BELOW_TLS


@in_memory
async def test_each_toxic_of_a_proxy_chooses_for_itself(harness):
    """Two that are alike do not hit the same bytes."""
    wire = await open_wire(harness, Corrupt(0.1, b"\0"), Corrupt(0.1, b"\1"), seed=1)
    await wire.send("downstream", b"x" * 50_000)
    await harness.settle()
    data = wire.arrivals["downstream"].data
    assert 4000 < data.count(b"\0") < 5000  # a tenth, but for what the second one has hit
    assert 4500 < data.count(b"\1") < 5500


@in_memory
async def test_proxies_of_one_test_choose_for_themselves_and_again_the_same(harness):
    """Without a seed of their own, by that of the harness and their number."""
    server = await harness.serve(lambda stream: stream.receive())
    proxies = [await harness.proxy(server) for _ in range(3)]
    assert len({proxy.seed for proxy in proxies}) == 3
    assert all(proxy.seed.startswith(f"{harness.seed}/") for proxy in proxies)
    assert (await harness.proxy(server, seed=7)).seed == "7"
