"""A toxic of one's own is one class with one method; and what is told of toxics that have fired."""

from __future__ import annotations

import asyncio

import pytest
from anyio import ConnectionFailed, Event, current_time, sleep
from wire import Ends, open_another, open_wire

from harness import open_harness
from harness.faults import (
    AfterBytes,
    Bandwidth,
    Blackhole,
    Corrupt,
    Drop,
    Duplicate,
    During,
    Freeze,
    HalfClose,
    Latency,
    LimitData,
    Refuse,
    ResetPeer,
    Slicer,
    SlowAccept,
    SlowClose,
    Timeout,
    Toxic,
    Transform,
)

both = pytest.mark.parametrize("direction", ["upstream", "downstream"])
plain = pytest.mark.harness(transports=["tcp", "unix", "memory"])
in_memory = pytest.mark.harness(transports=["memory"])


class Upper(Toxic):
    async def transfer(self, data, link):
        await link.send(data.upper())


class Cut(Toxic):
    """Ends the stream after a line."""

    async def transfer(self, data, link):
        line, end, _ = data.partition(b"\n")
        await link.send(line + end)
        if end:
            await link.send_eof()
            await link.send(b"goes nowhere")


class Postscript(Toxic):
    async def finish(self, link):
        await link.send(b" PS")
        await link.pause(2)
        await link.send_eof()


class Heartbeat(Toxic):
    """Says something each second."""

    def __init__(self, word, seconds):
        self.word = word
        self.seconds = seconds

    async def watch(self, link):
        while await link.pause(self.seconds):
            await link.send(self.word)


class EveryOther(Toxic):
    """Refuses every other connection."""

    def __init__(self):
        self.count = 0

    async def accept(self, connection):
        self.count += 1
        if self.count % 2 == 0:
            raise ConnectionRefusedError(f"number {self.count}")


@plain
@both
async def test_transfer(harness, direction):
    wire = await open_wire(harness)
    wire.proxy.add(Upper(), direction=direction)
    await wire.send(direction, b"hello")
    await wire.send_eof(direction)
    await wire.arrivals[direction].over.wait()
    assert wire.arrivals[direction].data == b"HELLO"


@plain
@both
async def test_the_end_of_the_stream_from_transfer(harness, direction):
    wire = await open_wire(harness)
    wire.proxy.add(Cut(), direction=direction)
    for _ in range(3):
        await wire.send(direction, b"one\ntwo\n" + b"x" * 100_000)
    await harness.settle()
    assert wire.end(direction) is not None
    assert wire.arrivals[direction].data == b"one\n"
    assert wire.connection.fired["Cut"] >= 3


@plain
@both
async def test_nothing_blocks_after_an_end_of_its_own(harness, direction):
    """What comes after it goes nowhere, also through toxics behind it, and nobody has to wait."""
    wire = await open_wire(harness)
    cut = wire.proxy.add(Cut(), direction=direction)
    wire.proxy.add(Latency(0), direction=direction)
    await wire.send(direction, b"one\n")
    for _ in range(20):
        await wire.send(direction, b"x" * 100_000)
    cut.remove()
    for _ in range(20):
        await wire.send(direction, b"x" * 100_000)
    await wire.send_eof(direction)
    await harness.settle()
    assert wire.arrivals[direction].data == b"one\n"
    assert wire.end(direction) is not None


@plain
async def test_finish(harness, virtual_clock):
    wire = await open_wire(harness, Postscript())
    await wire.send("downstream", b"hello")
    await wire.send_eof("downstream")
    await wire.arrivals["downstream"].over.wait()
    assert wire.got("downstream") == [(0, b"hello PS")]
    assert wire.end("downstream") == (2, "end")


@plain
async def test_watch(harness, virtual_clock):
    wire = await open_wire(harness)
    await sleep(0.5)
    heartbeat = wire.proxy.add(Heartbeat(b".", 1))
    await wire.send("downstream", b"hello")
    await sleep(2.75)
    heartbeat.update(word=b"!")  # begins anew
    await sleep(2.5)
    heartbeat.remove()
    await sleep(60)
    assert wire.got("downstream") == [
        (0.5, b"hello"),
        (1.5, b"."),
        (2.5, b"."),
        (4.25, b"!"),
        (5.25, b"!"),
    ]


@plain
async def test_watch_in_a_window(harness, virtual_clock):
    wire = await open_wire(harness)
    wire.proxy.add(Heartbeat(b".", 1), when=[During(2, 5), AfterBytes(3)])
    await sleep(1)
    await wire.send("downstream", b"abc")
    await sleep(60)
    assert wire.got("downstream") == [(1, b"abc"), (3, b"."), (4, b".")]


@in_memory
async def test_watch_ends_with_its_toxic_whatever_it_waits_for(harness):
    told = Event()

    class OnEvent(Toxic):
        async def watch(self, link):
            await told.wait()
            await link.reset()

    wire = await open_wire(harness)
    active = wire.proxy.add(OnEvent())
    await harness.settle()
    active.remove()
    await harness.settle()
    told.set()
    await harness.settle()
    assert wire.end("downstream") is None
    wire.proxy.add(OnEvent())
    await wire.arrivals["downstream"].over.wait()
    assert wire.end("downstream")[1] == "reset"


@in_memory
async def test_what_watch_sends_is_sent_whole(harness, virtual_clock):
    """Taken away in the middle of a send that has to wait, it loses nothing, and mixes nothing."""
    letters = b"x" * 50_000
    wire = await open_wire(harness, Heartbeat(b"<" + b"y" * 50_000 + b">", 1), collect=["upstream"])
    harness.task_group.start_soon(wire.send, "downstream", letters)
    await sleep(1.5)
    wire.proxy.toxics[0].remove()
    await sleep(1)
    arrivals = wire.arrivals["downstream"]
    harness.task_group.start_soon(arrivals.collect, wire.sender["upstream"])
    await harness.settle()
    assert arrivals.data == letters + b"<" + b"y" * 50_000 + b">"


@plain
async def test_accept(harness):
    every_other = EveryOther()
    proxy = await harness.proxy(await harness.serve(Ends(), grace=0), every_other)
    for number in range(1, 6):
        if number % 2:
            await proxy.connect()
        else:
            with pytest.raises(ConnectionFailed, match=f"connection {number}: number {number}"):
                await proxy.connect()
    assert every_other.count == 5
    assert [connection.id for connection in proxy.connections] == [1, 3, 5]


@plain
async def test_what_a_link_tells(harness, virtual_clock):
    seen = []

    class Look(Toxic):
        async def transfer(self, data, link):
            assert link.acts
            told = (link.direction, link.connection.id, link.offset, link.arrived, link.began)
            seen.append((*told, data))
            await link.send(data)

    one = await open_wire(harness)
    await one.send("upstream", b"before")
    await sleep(1)
    one.proxy.add(Latency(0.5), direction="both")
    one.proxy.add(Look(), direction="both")
    await sleep(1)
    two = await open_another(harness, one.server, one.proxy, one.ends)
    for wire in (one, two):
        for direction in ("upstream", "downstream"):
            for data in (b"abc", b"de"):
                await wire.send(direction, data)
                await sleep(1)
    assert seen == [
        ("upstream", 1, 0, 2.5, 1, b"abc"),
        ("upstream", 1, 3, 3.5, 1, b"de"),
        ("downstream", 1, 0, 4.5, 1, b"abc"),
        ("downstream", 1, 3, 5.5, 1, b"de"),
        ("upstream", 2, 0, 6.5, 2, b"abc"),
        ("upstream", 2, 3, 7.5, 2, b"de"),
        ("downstream", 2, 0, 8.5, 2, b"abc"),
        ("downstream", 2, 3, 9.5, 2, b"de"),
    ]


@plain
async def test_what_pauses_return(harness, virtual_clock):
    told = []

    class Pauses(Toxic):
        def __init__(self, seconds):
            self.seconds = seconds

        async def transfer(self, data, link):
            told.append((await link.pause(self.seconds), link.acts, current_time()))
            told.append((await link.pause_until(4), link.acts, current_time()))
            await link.hold()
            told.append((await link.pause(1), link.acts, current_time()))
            told.append((await link.pause(0), link.acts, current_time()))
            await link.hold()
            await link.send(data)

    wire = await open_wire(harness)
    pauses = wire.proxy.add(Pauses(2))
    await wire.send("downstream", b"hello")
    await sleep(3)
    pauses.update(seconds=5)
    await sleep(2)
    pauses.update(seconds=6)
    await sleep(2)
    pauses.remove()
    await sleep(1)
    assert told == [(True, True, 2), (False, True, 3), (False, False, 7), (False, False, 7)]
    assert wire.got("downstream") == [(7, b"hello")]


@plain
async def test_what_it_keeps_on_itself_belongs_to_one_direction_of_one_connection(harness):
    class Count(Toxic):
        def __init__(self):
            self._seen = 0

        async def transfer(self, data, link):
            self._seen += len(data)
            await link.send(b"%d " % self._seen)

    one = await open_wire(harness)
    two = await open_another(harness, one.server, one.proxy, one.ends)
    one.proxy.add(Count(), direction="both")
    for _ in range(3):
        for wire in (one, two):
            for direction in ("upstream", "downstream"):
                await wire.send(direction, b"abc")
        await harness.settle()
    for wire in (one, two):
        for direction in ("upstream", "downstream"):
            assert wire.arrivals[direction].data == b"3 6 9 "


@plain
async def test_a_change_leaves_what_it_counts(harness):
    """Only what is changed is set, on live connections, whatever parameters its class takes."""

    class Count(Toxic):
        def __init__(self, first_letter):
            self.letter = first_letter
            self.seen = 0

        async def transfer(self, data, link):
            self.seen += 1
            await link.send(self.letter * self.seen)

    wire = await open_wire(harness)
    count = wire.proxy.add(Count(b"a"))
    for letter in (b"a", b"b", b"b", b"c"):
        count.update(letter=letter)
        await wire.send("downstream", b"x")
        await harness.settle()
    assert wire.arrivals["downstream"].data == b"abbbbbcccc"


@in_memory
async def test_an_empty_send_is_none(harness):
    class Empty(Toxic):
        async def transfer(self, data, link):
            await link.send(b"")
            await link.send(data)
            await link.send(b"")

    wire = await open_wire(harness, Empty())
    await wire.send("downstream", b"hello")
    await harness.settle()
    assert wire.arrivals["downstream"].data == b"hello"
    assert not wire.connection.fired


@in_memory
@pytest.mark.parametrize("where", ["transfer", "finish", "watch", "accept"])
async def test_what_it_raises_is_told_and_ends_the_connection(harness, where):
    class Broken(Toxic):
        pass

    async def method(self, *args):
        raise LookupError("my own")

    setattr(Broken, where, method)

    async def use():
        async with open_harness(transport="memory") as harness:
            server = await harness.serve(lambda stream: stream.send(b"abc"))
            proxy = await harness.proxy(server, Broken())
            client = await proxy.connect()
            await client.receive()
            await sleep(60)

    with pytest.raises(LookupError, match="my own"):
        await use()


@in_memory
@pytest.mark.harness(transports=["memory"])
async def test_a_toxic_that_would_do_nothing(harness):
    class Typo(Toxic):
        async def tranfser(self, data, link):
            await link.send(data)

    class Sync(Toxic):
        def transfer(self, data, link):
            return link.send(data)

    proxy = await harness.proxy(await harness.serve(lambda stream: stream.send(b"abc")))
    with pytest.raises(TypeError, match="Typo overrides none of transfer, finish, watch, accept"):
        proxy.add(Typo())
    with pytest.raises(TypeError, match=r"Sync\.transfer has to be async: write `async def`"):
        proxy.add(Sync())
    assert await (await proxy.connect()).receive() == b"abc"


@pytest.mark.harness(transports=["memory"])
async def test_a_toxic_whose_arguments_become_something_else_is_changed_as_it_is(harness):
    class Says(Toxic):
        def __init__(self, word, end):
            self.word = word.encode()
            self.end = end

        async def transfer(self, data, link):
            await link.send(data + self.word + self.end)

    proxy = await harness.proxy(await harness.serve(lambda stream: stream.send(b"abc")))
    proxy.add(Says("d", b".")).update(end=b"!")
    assert await (await proxy.connect()).receive() == b"abcd!"


@pytest.mark.harness(transports=["memory"])
@pytest.mark.parametrize("capacity", [0, -1, None, "1"])
async def test_room_for_nothing(capacity, harness):
    class Full(Toxic):
        async def transfer(self, data, link):
            await link.send(data)

    Full.capacity = capacity
    proxy = await harness.proxy(await harness.serve(lambda stream: stream.send(b"abc")))
    with pytest.raises(ValueError, match=r"Full\.capacity has to be a whole number of bytes, 1 or"):
        proxy.add(Full())


@pytest.mark.harness(backends=["asyncio", "uvloop"], transports=["memory"])
async def test_a_function_that_is_cancelled_from_within_fails_the_test(harness):
    """On trio nothing but a scope can cancel."""

    async def function(data):
        task = asyncio.ensure_future(asyncio.sleep(10))
        task.cancel()
        await task

    async def use():
        async with open_harness(transport="memory") as harness:
            server = await harness.serve(lambda stream: stream.send(b"abc"))
            proxy = await harness.proxy(server, Transform(function))
            await (await proxy.connect()).receive()

    with pytest.raises(RuntimeError, match="the function of a Transform was cancelled from within"):
        await use()


@pytest.mark.parametrize("sent", ["text", None, 5])
async def test_only_bytes_are_sent(harness, sent):
    class Text(Toxic):
        async def transfer(self, data, link):
            await link.send(sent)

    async def use():
        async with open_harness(transport="memory") as harness:
            server = await harness.serve(lambda stream: stream.send(b"abc"))
            proxy = await harness.proxy(server, Text(), Latency(1))
            await (await proxy.connect()).receive()

    with pytest.raises(TypeError, match=f"takes bytes, not {sent!r}"):
        await use()


# What has fired


async def exchange(wire, seconds):
    """Three runs of bytes each way, and the end."""
    for _ in range(3):
        for direction in ("upstream", "downstream"):
            await wire.send(direction, b"abcd")
        await sleep(1)
    for direction in ("upstream", "downstream"):
        await wire.send_eof(direction)
    await sleep(seconds)


NOTHING = {}


@plain
@pytest.mark.parametrize(
    ("toxic", "fired"),
    [
        (Toxic(), NOTHING),
        (Latency(0.5), {"Latency": 4}),  # three runs and the end
        (Latency(0), NOTHING),
        (Bandwidth(100), {"Bandwidth": 3}),
        (Slicer(2), {"Slicer": 3}),
        (Slicer(2, delay=0.1), {"Slicer": 3}),
        (Slicer(4), NOTHING),
        (SlowClose(5), {"SlowClose": 1}),
        (Freeze(), {"Freeze": 1}),  # the others wait behind the first
        (Timeout(), {"Timeout": 1}),
        (Timeout(2.5), {"Timeout": 2}),  # it has held bytes, and ended the connection
        (Blackhole(), {"Blackhole": 4}),
        (Blackhole(2.5), {"Blackhole": 4}),  # three runs, and the connection
        (ResetPeer(2.5), {"ResetPeer": 1}),
        (ResetPeer(60), NOTHING),
        (ResetPeer(after_bytes=12), {"ResetPeer": 1}),
        (ResetPeer(60, after_bytes=6), {"ResetPeer": 1}),
        (LimitData(12), {"LimitData": 1}),
        (LimitData(10), {"LimitData": 1}),
        (LimitData(13), NOTHING),
        (LimitData(0), {"LimitData": 1}),
        (HalfClose(1.5), {"HalfClose": 2}),  # the end, and a run that is lost
        (HalfClose(60), NOTHING),
        (Corrupt(1), {"Corrupt": 3}),
        (Corrupt(0), NOTHING),
        (Drop(1), {"Drop": 3}),
        (Drop(0), NOTHING),
        (Duplicate(1, average_size=4), {"Duplicate": 3}),
        (Duplicate(0), NOTHING),
        (Transform(bytes.upper), {"Transform": 3}),
        (Transform(bytes.lower), NOTHING),
        (Upper(), {"Upper": 3}),
        (Heartbeat(b"x", 0.75), {"Heartbeat": 4}),
        (Postscript(), {"Postscript": 1}),
        (SlowAccept(1), NOTHING),  # on a live connection
    ],
    ids=repr,
)
async def test_what_has_fired_and_how_often(harness, virtual_clock, toxic, fired):
    wire = await open_wire(harness, seed=7)
    connection = wire.connection
    wire.proxy.add(toxic)
    if isinstance(toxic, (ResetPeer, LimitData, Timeout, Blackhole)):
        # Whoever goes on sending finds the connection broken: one side only listens.
        for _ in range(3):
            if wire.end("downstream") is None:
                await wire.send("downstream", b"abcd")
            await sleep(1)
        if wire.end("downstream") is None:
            await wire.send_eof("downstream")
        await sleep(10)
    else:
        await exchange(wire, 10)
    assert connection.fired == fired


@plain
async def test_those_of_one_class_and_both_directions_are_counted_together(harness, virtual_clock):
    wire = await open_wire(harness)
    connection = wire.connection
    wire.proxy.add(Latency(0.1), direction="both")
    wire.proxy.add(Latency(0.1))
    wire.proxy.add(Upper(), direction="upstream")
    await exchange(wire, 10)
    assert connection.fired == {"Latency": 12, "Upper": 3}
    assert repr(connection).endswith("12 B up, 12 B down, Latency, Upper fired>")


@plain
async def test_before_a_connection(harness, virtual_clock):
    class Slow(SlowAccept):
        pass

    proxy = await harness.proxy(await harness.serve(Ends(), grace=0), Slow(1), Slow(2))
    await proxy.connect()
    (connection,) = proxy.connections
    assert connection.fired == {"Slow": 2}
    proxy.add(Refuse())
    with pytest.raises(ConnectionFailed):
        await proxy.connect()
    assert connection.fired == {"Slow": 2}
