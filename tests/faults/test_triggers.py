"""When a toxic acts: on which connections, from which byte, in which seconds."""

from __future__ import annotations

import pytest
from anyio import ConnectionFailed, current_time, sleep
from wire import open_another, open_wire

from harness import open_harness
from harness.faults import (
    AfterBytes,
    AfterPattern,
    Bandwidth,
    Blackhole,
    During,
    FirstConnections,
    Freeze,
    Latency,
    OnConnection,
    Refuse,
    ResetPeer,
    SlowAccept,
    SlowClose,
    Timeout,
    Transform,
    Trigger,
)

both = pytest.mark.parametrize("direction", ["upstream", "downstream"])
plain = pytest.mark.harness(transports=["tcp", "unix", "memory"])
in_memory = pytest.mark.harness(transports=["memory"])


def upper():
    return Transform(bytes.upper)


async def arrives(wire, *runs, direction="downstream"):
    """What becomes of some runs of bytes, each of which has arrived before the next is sent."""
    for run in runs:
        await wire.send(direction, run)
        await wire.harness.settle()
    return wire.arrivals[direction].data


# Toxicity


async def hit(harness, seed, toxicity, count=40):
    """Which connections of a proxy a toxic acts on."""

    async def handler(stream):
        await stream.send(b"hello")

    proxy = await harness.proxy(await harness.serve(handler), seed=seed)
    proxy.add(upper(), toxicity=toxicity)
    hit = []
    for _ in range(count):
        async with await proxy.connect() as client:
            hit.append(await client.receive() == b"HELLO")
    return hit


@plain
@pytest.mark.parametrize(("toxicity", "expected"), [(0, {False}), (1, {True}), (1.0, {True})])
async def test_all_connections_or_none(harness, toxicity, expected):
    assert set(await hit(harness, 1, toxicity, 10)) == expected


@in_memory
async def test_a_share_of_the_connections_that_follows_from_the_seed(harness):
    first = await hit(harness, 1, 0.5)
    assert 10 < sum(first) < 30
    assert await hit(harness, 1, 0.5) == first
    assert await hit(harness, 2, 0.5) != first
    few = await hit(harness, 1, 0.2)
    assert 0 < sum(few) < sum(first)


@in_memory
async def test_what_was_rolled_stays(harness):
    """It is not rolled again when the toxic is changed or another one comes, nor by direction."""
    wire = await open_wire(harness, seed=3)
    wires = [wire] + [
        await open_another(harness, wire.server, wire.proxy, wire.ends) for _ in range(9)
    ]
    active = wire.proxy.add(upper(), toxicity=0.5, direction="both")
    hit = None
    for _ in range(5):
        for direction in ("upstream", "downstream"):
            before = [len(each.arrivals[direction].data) for each in wires]
            after = [await arrives(each, b"abc", direction=direction) for each in wires]
            now = [data[size:] == b"ABC" for data, size in zip(after, before, strict=True)]
            assert hit in (None, now)
            hit = now
        active.update(function=bytes.upper)
        wire.proxy.add(Latency(0))
    assert {True, False} == set(hit)


# On which connections


async def hit_through(proxy, count):
    """Which of so many connections have their answer in upper case."""
    hit = []
    for number in range(1, count + 1):
        async with await proxy.connect() as client:
            if await client.receive() == b"HELLO":
                hit.append(number)
    return hit


@plain
@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        (OnConnection(1), [1]),
        (OnConnection(3), [3]),
        (FirstConnections(1), [1]),
        (FirstConnections(3), [1, 2, 3]),
        ([FirstConnections(3), OnConnection(2)], [2]),
        ([FirstConnections(3), OnConnection(4)], []),
        ((FirstConnections(3), FirstConnections(2)), [1, 2]),
        ((), [1, 2, 3, 4]),
    ],
)
async def test_connections_by_number(harness, trigger, expected):
    server = await harness.serve(lambda stream: stream.send(b"hello"))
    proxy = await harness.proxy(server)
    proxy.add(upper(), when=trigger)
    assert await hit_through(proxy, 4) == expected


@plain
async def test_refused_by_number(harness):
    proxy = await harness.proxy(await harness.serve(lambda stream: stream.send(b"hello")))
    proxy.add(Refuse(), when=[FirstConnections(3), OnConnection(2)])
    await proxy.connect()
    with pytest.raises(ConnectionFailed):
        await proxy.connect()
    await proxy.connect()


# From which byte


@plain
@both
@pytest.mark.parametrize(
    ("count", "runs", "expected"),
    [
        (0, [b"abcdef"], b"ABCDEF"),
        (4, [b"abcdef"], b"abcdEF"),
        (4, [b"abcd", b"ef"], b"abcdEF"),
        (4, [b"a", b"b", b"c", b"d", b"e", b"f"], b"abcdEF"),
        (6, [b"abcdef"], b"abcdef"),
        (7, [b"abcdef", b"ghi"], b"abcdefgHI"),
    ],
)
async def test_after_so_many_bytes(harness, direction, count, runs, expected):
    wire = await open_wire(harness)
    wire.proxy.add(upper(), direction=direction, when=AfterBytes(count))
    assert await arrives(wire, *runs, direction=direction) == expected


@in_memory
@both
@pytest.mark.parametrize(
    ("pattern", "runs", "expected"),
    [
        (b"cd", [b"abcdef"], b"abcdEF"),
        (b"cd", [b"abc", b"def"], b"abcdEF"),
        (b"bcde", [b"ab", b"c", b"d", b"ef"], b"abcdeF"),
        (b"cd", [b"abcd", b"ef"], b"abcdEF"),
        (b"d", [b"abcd", b"ef"], b"abcdEF"),
        (b"a", [b"a", b"b", b"a", b"b"], b"aBAB"),
        (b"aab", [b"aaab", b"aab"], b"aaabAAB"),
        (b"aab", [b"a", b"a", b"a", b"b", b"c"], b"aaabC"),
        (b"cx", [b"abc", b"def", b"cx", b"y"], b"abcdefcxY"),
        (b"xy", [b"abcdef"], b"abcdef"),
    ],
)
async def test_after_a_pattern(harness, direction, pattern, runs, expected):
    wire = await open_wire(harness)
    wire.proxy.add(upper(), direction=direction, when=AfterPattern(pattern))
    assert await arrives(wire, *runs, direction=direction) == expected


@in_memory
@pytest.mark.parametrize(
    ("triggers", "expected"),
    [
        ([AfterBytes(4), AfterPattern(b"b")], b"abcdEFABC"),
        ([AfterPattern(b"b"), AfterBytes(4)], b"abcdEFABC"),
        ([AfterBytes(2), AfterPattern(b"cd")], b"abcdEFABC"),
        ([AfterPattern(b"fa"), AfterPattern(b"b")], b"abcdefaBC"),
        ([AfterBytes(1), AfterBytes(3)], b"abcDEFABC"),
        ([AfterPattern(b"b"), AfterBytes(100)], b"abcdefabc"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
async def test_after_both(harness, triggers, expected, size):
    """A trigger that has agreed is not asked again: the pattern does not come twice."""
    wire = await open_wire(harness)
    wire.proxy.add(upper(), when=triggers)
    runs = [expected.lower()[at : at + size] for at in range(0, 9, size)]
    assert await arrives(wire, *runs) == expected


@plain
@pytest.mark.parametrize("trigger", [AfterBytes(5), AfterPattern(b"lo")])
async def test_it_begins_with_the_last_of_these_bytes(harness, virtual_clock, trigger):
    """And waits for no other one."""
    wire = await open_wire(harness)
    wire.proxy.add(ResetPeer(3), when=trigger)
    await sleep(1)
    await wire.send("downstream", b"hello")
    await wire.arrivals["downstream"].over.wait()
    assert wire.arrivals["downstream"].data == b"hello"
    assert wire.end("downstream")[0] == 4


@plain
async def test_connections_and_directions_count_for_themselves(harness):
    one = await open_wire(harness)
    two = await open_another(harness, one.server, one.proxy, one.ends)
    one.proxy.add(upper(), direction="both", when=[AfterBytes(3), AfterPattern(b"b")])
    for wire in (one, two):
        for direction in ("upstream", "downstream"):
            assert await arrives(wire, b"ab", b"cd", direction=direction) == b"abcD"


@plain
async def test_on_a_live_connection_bytes_count_from_now_on(harness):
    wire = await open_wire(harness)
    await arrives(wire, b"abcdef")
    wire.proxy.add(upper(), when=AfterBytes(2))
    assert await arrives(wire, b"ghij") == b"abcdefghIJ"


@in_memory
async def test_the_end_of_a_stream_in_which_it_has_not_begun(harness, virtual_clock):
    wire = await open_wire(harness)
    wire.proxy.add(SlowClose(5), when=AfterBytes(3))
    await arrives(wire, b"ab")
    await wire.send_eof("downstream")
    await wire.arrivals["downstream"].over.wait()
    assert wire.end("downstream") == (0, "end")


@in_memory
async def test_a_toxic_before_it_changes_what_is_counted(harness):
    """Toxics see what those before them let through."""
    wire = await open_wire(harness)
    wire.proxy.add(Transform(lambda data: data * 2))
    wire.proxy.add(upper(), when=AfterBytes(5))
    assert await arrives(wire, b"abc", b"def") == b"abcabCDEFDEF"


# In which seconds


@plain
@both
async def test_from_then_on(harness, virtual_clock, direction):
    wire = await open_wire(harness)
    await sleep(10)
    wire.proxy.add(upper(), direction=direction, when=During(2))
    for _ in range(4):
        await wire.send(direction, b"a")
        await sleep(1)
    assert wire.got(direction) == [(10, b"a"), (11, b"a"), (12, b"A"), (13, b"A")]


@plain
async def test_until_then(harness, virtual_clock):
    wire = await open_wire(harness)
    wire.proxy.add(upper(), when=During(1, 3))
    for _ in range(5):
        await wire.send("downstream", b"a")
        await sleep(1)
    assert wire.arrivals["downstream"].data == b"aAAaa"


@in_memory
async def test_windows_that_overlap(harness, virtual_clock):
    wire = await open_wire(harness)
    wire.proxy.add(upper(), when=[During(1, 4), During(2, 6), During(0.5)])
    wire.proxy.add(Blackhole(), when=[During(1, 2), During(3, 4)])
    for _ in range(6):
        await wire.send("downstream", b"a")
        await sleep(1)
    assert wire.arrivals["downstream"].data == b"aaAAaa"


@plain
@pytest.mark.parametrize(
    "toxic", [Freeze(), Timeout(), Timeout(50), Latency(50), Bandwidth(1)], ids=repr
)
async def test_what_it_holds_at_its_end_goes_on(harness, virtual_clock, toxic):
    wire = await open_wire(harness)
    wire.proxy.add(toxic, when=During(1, 5.5))
    await wire.send("downstream", b"before ")
    await sleep(1)
    await wire.send("downstream", b"x" * 20)
    await sleep(2)
    await wire.send("downstream", b" then")
    await sleep(60)
    assert wire.got("downstream")[0] == (0, b"before ")
    assert wire.got("downstream")[-1][0] == 5.5
    assert wire.arrivals["downstream"].data == b"before " + b"x" * 20 + b" then"
    assert wire.end("downstream") is None


@plain
async def test_it_begins_in_the_middle_of_a_stall(harness, virtual_clock):
    """Bytes that another toxic holds come to this one when that lets them go on."""
    wire = await open_wire(harness)
    wire.proxy.add(Latency(3))
    wire.proxy.add(Freeze(), when=During(2, 10))
    await wire.send("downstream", b"a")
    await sleep(20)
    await wire.send("downstream", b"b")
    await sleep(20)
    assert wire.got("downstream") == [(10, b"a"), (23, b"b")]


@plain
async def test_two_stalls_one_after_the_other(harness, virtual_clock):
    wire = await open_wire(harness)
    wire.proxy.add(Freeze(), when=During(0, 5))
    wire.proxy.add(Freeze(), when=During(3, 8))
    await sleep(1)
    await wire.send("downstream", b"a")
    await wire.send_eof("downstream")
    await wire.arrivals["downstream"].over.wait()
    assert wire.got("downstream") == [(8, b"a")]
    assert wire.end("downstream") == (8, "end")


@plain
@pytest.mark.parametrize(
    ("window", "ends"),
    [(During(2, 10), 5), (During(2), 5), (During(2, 5), None), (During(2, 4), None)],
    ids=repr,
)
async def test_its_clock_begins_with_its_window(harness, virtual_clock, window, ends):
    """Three seconds from then; not at all, if that is not before the window's end."""
    wire = await open_wire(harness)
    wire.proxy.add(Timeout(3), when=window)
    await sleep(30)
    assert wire.end("downstream") == (None if ends is None else (ends, "end"))


@plain
async def test_a_window_counts_from_when_the_toxic_was_added(harness, virtual_clock):
    """And not from when a connection was made."""
    wire = await open_wire(harness)
    wire.proxy.add(Freeze(), when=During(5, 10))
    await sleep(7)
    other = await open_another(harness, wire.server, wire.proxy, wire.ends)
    await other.send("downstream", b"a")
    await sleep(60)
    assert other.got("downstream") == [(10, b"a")]


@plain
async def test_a_time_and_a_byte(harness, virtual_clock):
    """Bytes count from the beginning, and not from the window's."""
    wire = await open_wire(harness)
    wire.proxy.add(upper(), when=[AfterBytes(4), During(2)])
    for _ in range(3):
        await wire.send("downstream", b"abc")
        await sleep(1.5)
    assert wire.arrivals["downstream"].data == b"abcabcABC"


@plain
async def test_refused_for_a_while(harness, virtual_clock):
    proxy = await harness.proxy(await harness.serve(lambda stream: stream.send(b"hello")))
    proxy.add(Refuse(), when=During(1, 3))
    refused = []
    for second in range(5):
        try:
            await proxy.connect()
        except ConnectionFailed:
            refused.append(second)
        await sleep(1)
    assert refused == [1, 2]


@plain
async def test_slow_to_accept_for_a_while(harness, virtual_clock):
    proxy = await harness.proxy(await harness.serve(lambda stream: stream.send(b"hello")))
    proxy.add(SlowAccept(60), when=During(0, 3))
    await sleep(1)
    await proxy.connect()
    assert current_time() == 3
    await proxy.connect()
    assert current_time() == 3


@plain
async def test_before_any_byte_a_toxic_that_waits_for_one_refuses_nothing(harness):
    proxy = await harness.proxy(await harness.serve(lambda stream: stream.send(b"hello")))
    proxy.add(Refuse(), when=AfterBytes(1))
    await proxy.connect()
    proxy.add(Refuse(), when=AfterBytes(0))
    with pytest.raises(ConnectionFailed):
        await proxy.connect()


# A trigger of one's own


class EverySecond(Trigger):
    """On connections with even numbers, after the first new line, but for a minute only."""

    def covers(self, connection):
        return connection % 2 == 0

    def begins(self, data):
        return data.index(b"\n") if b"\n" in data else None

    def window(self):
        return (0, 60)


@plain
async def test_a_trigger_of_ones_own(harness, virtual_clock):
    one = await open_wire(harness)
    two = await open_another(harness, one.server, one.proxy, one.ends)
    one.proxy.add(upper(), when=EverySecond())
    assert await arrives(one, b"a\nb", b"c\nd") == b"a\nbc\nd"
    assert await arrives(two, b"ab", b"a\nb", b"c\nd") == b"aba\nBC\nD"
    await sleep(60)
    assert await arrives(two, b"e") == b"aba\nBC\nDe"


@in_memory
@pytest.mark.parametrize("at", [b"", b"abc"])
async def test_a_trigger_that_raises_fails_the_test_and_ends_the_connection(harness, at):
    class Broken(Trigger):
        def begins(self, data):
            if data == at:
                raise LookupError(data)

    async def use():
        async with open_harness(transport="memory") as harness:
            server = await harness.serve(lambda stream: stream.send(b"abc"))
            proxy = await harness.proxy(server)
            proxy.add(upper(), when=Broken())
            client = await proxy.connect()
            await client.receive()

    with pytest.raises(LookupError, match=str(at)):
        await use()
