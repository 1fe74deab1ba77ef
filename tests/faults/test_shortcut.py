"""The shorter way through TCP streams: that it is taken, and that nobody notices it."""

from __future__ import annotations

import contextlib

import anyio
import pytest
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream
from anyio.lowlevel import checkpoint
from echoing import echo

from harness.faults import Freeze, Slicer
from harness.faults import shortcut as module
from harness.faults.shortcut import AsyncioShortcut, Shortcut, shortcut

pytestmark = pytest.mark.harness(transports=["tcp"])

DATA = bytes(range(256)) * 4096

#: more than the kernel has room for
MUCH = 32 * DATA


async def receive(stream, count):
    data = b""
    while len(data) < count:
        data += await stream.receive(count - len(data))
    return data


def streams_of(proxy):
    (connection,) = proxy.connections
    return [path._source for path in connection._paths.values()]


class Turns:
    """How often another task has had a turn."""

    def __init__(self, group):
        self.count = 0
        group.start_soon(self._take)

    async def begin(self):
        while not self.count:
            await checkpoint()
        self.count = 0

    async def _take(self):
        while True:
            await checkpoint()
            self.count += 1


async def two_ways(harness):
    """A client, its way, another's way, and that other one: what a proxy stands between."""
    client, source = await harness.pair()
    sink, server = await harness.pair()
    return client, shortcut(source._stream), shortcut(sink._stream), server


async def test_it_is_taken_where_there_is_one(harness):
    """Fails when AnyIO's streams have changed so that there is none any more."""
    proxy = await harness.proxy(await harness.serve(echo))
    await proxy.connect()
    assert all(isinstance(stream, Shortcut) for stream in streams_of(proxy))


@pytest.mark.harness(backends=["trio"])
async def test_without_it_trio_gives_a_turn_for_all_that_has_not_blocked(harness):
    """Fails when AnyIO's streams on trio have become as short, so that it is not needed there."""
    client, server = (stream._stream for stream in await harness.pair())
    async with anyio.create_task_group() as group:
        turns = Turns(group)
        await turns.begin()
        for _ in range(8):
            await client.send(b"x")
        assert turns.count >= 7  # one may be to come, as trio shuffles
        await turns.begin()
        for _ in range(8):
            await server.receive(1)
        assert turns.count >= 7
        group.cancel_scope.cancel()


@pytest.mark.harness(transports=["unix", "memory"])
async def test_other_streams_stay_what_they_are(harness):
    for stream in await harness.pair():
        assert shortcut(stream) is stream


async def test_all_bytes_come_in_order(harness):
    proxy = await harness.proxy(await harness.serve(echo))
    client = await proxy.connect()
    async with anyio.create_task_group() as group:
        group.start_soon(client.send, DATA)
        assert await receive(client, len(DATA)) == DATA
    (connection,) = proxy.connections
    assert connection.bytes_upstream == connection.bytes_downstream == len(DATA)


async def test_bytes_from_before_are_not_lost(harness):
    """Those that AnyIO has read already when the proxy takes the stream over."""
    client, server = await harness.pair()
    await client.send(b"hello")
    assert await server.receive(2) == b"he"
    taken = shortcut(server._stream)
    assert await taken.receive() == b"llo"
    await client.send(b"more")
    assert await taken.receive(1) == b"m"
    assert await taken.receive() == b"ore"


async def test_bytes_from_before_are_passed_on_first(harness):
    client, server = await harness.pair()
    await client.send(b"hello")
    assert await server.receive(2) == b"he"
    await client.send(b" more")
    sink, end = await harness.pair()
    source, sink = shortcut(server._stream), shortcut(sink._stream)
    async with anyio.create_task_group() as group:
        group.start_soon(source.pass_on, sink, lambda count: True)
        assert await receive(end, 8) == b"llo more"
        group.cancel_scope.cancel()


@pytest.mark.harness(backends=["trio"])
async def test_others_get_a_turn_for_each_piece(harness):
    """Also where there is always more to read, and always room for it."""
    client, source, sink, _ = await two_ways(harness)
    raw = client.extra(anyio.abc.SocketAttribute.raw_socket)
    with contextlib.suppress(BlockingIOError):
        while True:
            raw.send(DATA)
    pieces = 0

    def goes_on(count):
        nonlocal pieces
        pieces += count > 0
        return pieces < 8

    async with anyio.create_task_group() as group:
        turns = Turns(group)
        await turns.begin()
        with anyio.move_on_after(5):
            await source.pass_on(sink, goes_on)
        assert 1 < pieces <= turns.count + 1  # one may be to come, as trio shuffles
        group.cancel_scope.cancel()


async def test_a_stream_that_is_closed_raises_what_it_raises(harness):
    _, source, sink, _ = await two_ways(harness)
    await source.aclose()
    assert await source.pass_on(sink, lambda count: True) == b""
    with pytest.raises(ClosedResourceError):
        await source.receive()


@pytest.mark.harness(backends=["trio"])
async def test_a_false_alarm_is_nothing(harness, monkeypatch):
    """A socket may be called readable, and have nothing to read."""
    client, source, sink, server = await two_ways(harness)
    alarms = 3

    async def wait_readable(raw):
        nonlocal alarms
        alarms -= 1
        await (checkpoint() if alarms >= 0 else anyio.wait_readable(raw))

    monkeypatch.setattr(module, "wait_readable", wait_readable)
    async with anyio.create_task_group() as group:
        group.start_soon(source.pass_on, sink, lambda count: True)
        await harness.settle()
        await client.send(b"hello")
        assert await server.receive() == b"hello"
        group.cancel_scope.cancel()


async def test_what_finds_no_room_comes_before_all_that_comes_later(harness):
    """Nothing is lost and nothing overtakes it, whatever toxics come and go meanwhile."""
    goes_on, done, received = anyio.Event(), anyio.Event(), bytearray()

    async def receive_later(stream):
        await stream.receive()  # AnyIO's accepted streams read ahead until then
        await goes_on.wait()
        while len(received) < len(MUCH):
            received.extend(await stream.receive())
        done.set()

    proxy = await harness.proxy(await harness.serve(receive_later))
    client = await proxy.connect()
    (connection,) = proxy.connections
    await client.send(b"x")
    await harness.settle()
    async with anyio.create_task_group() as group:
        group.start_soon(client.send, MUCH)
        await harness.settle()
        given = connection.bytes_upstream
        assert 0 < given < len(MUCH)  # the server's side is full
        proxy.freeze()
        goes_on.set()
        await harness.settle()
        assert len(received) == given - 1  # what it had been given when that came, no more, no less
        with proxy.toxic(Slicer(5000), direction="upstream"):
            proxy.thaw()
            for _ in range(50):
                await checkpoint()
        await done.wait()
    assert received == MUCH
    assert connection.bytes_upstream == len(MUCH) + 1


async def test_toxics_come_and_go_while_bytes_flow(harness):
    """They see all that comes after them, and nothing of what came before."""
    proxy = await harness.proxy(await harness.serve(echo))
    client = await proxy.connect()
    for turn in range(3):
        message = b"%d" % turn
        await client.send(message)
        assert await client.receive() == message
        with proxy.toxic(Freeze(), direction="upstream"):
            await client.send(b"held")
            await harness.settle()
            assert proxy.connections[0].bytes_upstream == turn * 5 + 1
        assert await client.receive() == b"held"


async def test_the_end_comes_after_the_bytes(harness):
    async def send_all(stream):
        await stream.send(DATA)

    proxy = await harness.proxy(await harness.serve(send_all))
    client = await proxy.connect()
    assert await receive(client, len(DATA)) == DATA
    with pytest.raises(EndOfStream):
        await client.receive()


async def test_a_peer_that_goes_while_bytes_wait_for_it_breaks_the_connection(harness):
    """Also where nothing more comes from the other side, which would show it."""
    blocked = anyio.Event()

    async def send_much(stream):
        with pytest.raises(BrokenResourceError):
            while True:
                with anyio.move_on_after(0) as scope:
                    await stream.send(DATA)
                if scope.cancelled_caught:
                    blocked.set()
                    await stream.send(DATA)

    proxy = await harness.proxy(await harness.serve(send_much))
    client = await proxy.connect()
    await blocked.wait()
    await harness.settle()
    await anyio.aclose_forcefully(client)  # with unread bytes: RST
    await proxy.wait_connections(0)


async def test_a_sender_waits_where_nobody_receives(harness):
    never = anyio.Event()

    async def receive_once(stream):
        await stream.receive()  # AnyIO's accepted streams read ahead until then
        await never.wait()

    proxy = await harness.proxy(await harness.serve(receive_once))
    client = await proxy.connect()
    await client.send(b"x")
    sent = 0

    async def send_on():
        nonlocal sent
        while True:
            await client.send(DATA)
            sent += len(DATA)

    async with anyio.create_task_group() as group:
        group.start_soon(send_on)
        await harness.settle()
        before = sent
        await harness.settle()
        assert sent == before  # what the kernel has room for, and no more
        for stream in streams_of(proxy):
            if isinstance(stream, AsyncioShortcut):
                assert len(stream._reader.queue) <= 1
        group.cancel_scope.cancel()
    never.set()


async def test_what_it_waits_for_is_told_as_on_every_backend(harness):
    proxy = await harness.proxy(await harness.serve(echo), name="p")
    client = await proxy.connect()
    await harness.settle()
    host, port = client.extra(anyio.abc.SocketAttribute.local_address)
    assert f"waits to receive from {host}:{port}" in harness.dump()
