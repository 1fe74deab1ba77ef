"""What a test can do with a proxy: look at its connections, end them, take it down and up."""

from __future__ import annotations

import socket

import anyio
import pytest
from anyio import BrokenResourceError, ConnectionFailed, EndOfStream
from anyio.abc import SocketAttribute
from echoing import echo, is_answered
from plain import (
    ENDED,
    REFUSED,
    RESET,
    attempt,
    connect,
    context_of,
    end_of,
    in_thread,
)

from harness import open_harness
from harness.conformance.contract import tasks
from harness.faults import Drop, Freeze, Latency, Refuse, SlowAccept, Toxic, Transform
from harness.settling import settle

#: Transports that an outside client can use.
SOCKETS = ["tcp", "unix", "tls"]


class Noting:
    """Echoes, and notes how each of its connections ends."""

    def __init__(self):
        self.endings = []

    async def __call__(self, stream):
        try:
            async for data in stream:
                await stream.send(data)
        except BrokenResourceError:
            self.endings.append(RESET)
        else:
            self.endings.append(ENDED)


def reset_of(transport):
    """What RST looks like: a unix socket has none."""
    return ENDED if transport == "unix" else RESET


async def ending(stream):
    try:
        async for _ in stream:
            pass
    except BrokenResourceError:
        return RESET
    return ENDED


# Connections


async def test_connections_are_the_live_ones(harness):
    proxy = await harness.proxy(await harness.serve(echo, expect=BrokenResourceError))
    assert not proxy.connections
    clients = [await proxy.connect() for _ in range(3)]
    first, second, third = proxy.connections
    assert [each.id for each in proxy.connections] == [1, 2, 3]
    for client, connection in zip(clients, proxy.connections, strict=True):
        local = client.extra(SocketAttribute.local_address)
        expected = local if isinstance(local, tuple) else None
        assert connection.client_address == expected
        assert await is_answered(client, b"x" * connection.id)
    if harness.transport.name != "tls":
        assert [each.bytes_upstream for each in proxy.connections] == [1, 2, 3]
        assert [each.bytes_downstream for each in proxy.connections] == [1, 2, 3]
    await clients[1].aclose()
    while len(proxy.connections) > 2:
        await anyio.lowlevel.checkpoint()
    assert proxy.connections == [first, third]
    await first.reset()
    assert proxy.connections == [third]
    assert await ending(clients[0]) == reset_of(harness.transport.name)
    await third.disconnect()
    assert not proxy.connections
    assert await ending(clients[2]) == ENDED
    await (await proxy.connect()).aclose()
    assert proxy.accepted == 4
    for gone in (first, second, third):
        await gone.reset()  # it is over


async def test_counts_are_right_at_every_moment(harness):
    """Whoever has received something finds it counted."""
    proxy = await harness.proxy(await harness.serve(echo))
    client = await proxy.connect()
    (connection,) = proxy.connections
    for count in range(1, 200):
        up, down = connection.bytes_upstream, connection.bytes_downstream
        assert await is_answered(client)
        if harness.transport.name == "tls":
            assert connection.bytes_upstream > up
            assert connection.bytes_downstream > down
        else:
            assert (connection.bytes_upstream, connection.bytes_downstream) == (count, count)


async def test_wait_connections(harness):
    proxy = await harness.proxy(await harness.serve(echo))
    await proxy.wait_connections(0)
    reached = []

    async def wait(n):
        await proxy.wait_connections(n)
        reached.append(n)

    async with anyio.create_task_group() as group:
        for n in (1, 3):
            group.start_soon(wait, n)
        await settle()
        assert reached == []
        clients = [await proxy.connect()]
        await settle()
        assert reached == [1]
        clients += [await proxy.connect() for _ in range(2)]
    assert reached == [1, 3]
    async with anyio.create_task_group() as group:
        group.start_soon(wait, 0)
        await settle()
        for client in clients:
            assert reached == [1, 3]
            await client.aclose()
    assert reached == [1, 3, 0]


@pytest.mark.harness(transports=SOCKETS)
async def test_wait_connections_sees_outside_clients(harness):
    proxy = await harness.proxy(await harness.serve(echo))

    def connect_three():
        return [connect(proxy.address) for _ in range(3)]

    async with anyio.create_task_group() as group:
        group.start_soon(proxy.wait_connections, 3)
        clients = await in_thread(connect_three)
    assert len(proxy.connections) == 3
    for client in clients:
        client.close()
    await proxy.wait_connections(0)


# Ending all of them


@pytest.mark.parametrize("end", ["disconnect_all", "reset_all", "disable"])
@pytest.mark.parametrize("moment", ["idle", "held back", "unread", "half closed"])
async def test_both_sides_see_the_end(harness, end, moment):
    """Also who has sent what the proxy has not read, which the kernel would make a reset of."""
    transport = harness.transport.name
    if moment == "half closed" and transport == "tls":
        pytest.skip("TLS has no half close here")
    handler = Noting()
    server = await harness.serve(handler)
    proxy = await harness.proxy(server)
    clients = [await proxy.connect() for _ in range(3)]
    for client in clients:
        assert await is_answered(client)
    if moment != "idle":
        proxy.add(Freeze(), direction="both")
    for client in clients:
        if moment == "held back":
            await client.send(b"lost")
        elif moment == "unread":
            for _ in range(13):  # 64 KiB are taken by the toxic, and 8 KiB wait for it
                await client.send(b"x" * 8192)
                await settle()
        elif moment == "half closed":
            await client.send_eof()
    await settle()
    await getattr(proxy, end)()
    assert not proxy.connections
    expected = reset_of(transport) if end == "reset_all" else ENDED
    for client in clients:
        seen = await ending(client)
        # What is unread breaks a unix socket, in place of an RST.
        assert seen == (RESET if end == "reset_all" and moment == "unread" else expected)
    await server.wait_connections(0)
    assert handler.endings == [expected] * 3


@pytest.mark.parametrize("end", ["disconnect_all", "reset_all"])
async def test_right_after_connect(harness, end):
    handler = Noting()
    server = await harness.serve(handler)
    proxy = await harness.proxy(server)
    expected = reset_of(harness.transport.name) if end == "reset_all" else ENDED
    for number in range(1, 201):
        client = await proxy.connect()
        assert [connection.id for connection in proxy.connections] == [number]
        await getattr(proxy, end)()
        assert not proxy.connections
        assert await ending(client) == expected
        await client.aclose()
    await server.wait_connections(0)


@pytest.mark.parametrize("whose", ["a client of the harness", "an outside client"])
async def test_a_toxic_right_after_connect(harness, whose):
    """It acts on that connection, from its first byte on, before the proxy has heard of it."""
    transport = harness.transport.name
    if whose == "an outside client" and transport == "memory":
        pytest.skip("nobody outside can reach it")

    async def greet(stream):
        await stream.send(b"hello")
        await stream.receive()

    async def look(proxy, toxic):
        """The first connection that comes now, with ``toxic`` added right after it."""
        if whose == "an outside client":
            with connect(proxy.address) as sock:
                proxy.add(toxic, direction="both")
                await proxy.wait_connections(1)
                (connection,) = proxy.connections
                await connection._settled.wait()
                if transport == "tls":
                    sock.sendall(b"nothing that a server of TLS answers to")
                while not connection.fired:
                    await anyio.lowlevel.checkpoint()
        else:
            stream = await proxy._connect_below_tls()
            proxy.add(toxic, direction="both")
            (connection,) = proxy.connections
            if transport == "tls":
                await stream.send(b"nothing that a server of TLS answers to")
            while not connection.fired:
                await anyio.lowlevel.checkpoint()
            await anyio.aclose_forcefully(stream)
        return connection

    server = await harness.serve(greet, expect=(BrokenResourceError, EndOfStream))
    for toxic in (Freeze(), Drop(1), Latency(3600)):
        proxy = await harness.proxy(server)
        connection = await look(proxy, toxic)
        assert connection.fired[type(toxic).__name__]
        assert connection.bytes_downstream == 0
        await proxy.reset_all()


@pytest.mark.harness(transports=SOCKETS)
@pytest.mark.parametrize("end", ["disconnect_all", "reset_all", "disable"])
@pytest.mark.parametrize("where", ["in a thread", "in this one"])
async def test_right_after_an_outside_client_has_connected(harness, end, where):
    """The kernel has accepted it, and the proxy has not heard of it yet."""
    proxy = await harness.proxy(await harness.serve(echo, expect=BrokenResourceError))
    expected = reset_of(harness.transport.name) if end == "reset_all" else ENDED
    for number in range(1, 201):
        if where == "in a thread":
            sock = await in_thread(connect, proxy.address)
        else:
            sock = connect(proxy.address)
        with sock:
            await getattr(proxy, end)()
            assert proxy.accepted == number
            assert not proxy.connections
            sock.setblocking(False)  # it has been told already
            assert end_of(sock) == expected
        if end == "disable":
            await proxy.enable()


@pytest.mark.harness(transports=SOCKETS)
async def test_many_outside_clients_have_just_connected(harness):
    proxy = await harness.proxy(await harness.serve(echo, expect=BrokenResourceError))
    socks = [connect(proxy.address) for _ in range(100)]
    await proxy.reset_all()
    assert proxy.accepted == 100
    for sock in socks:
        with sock:
            sock.setblocking(False)
            assert end_of(sock) == reset_of(harness.transport.name)


@pytest.mark.harness(transports=["memory"])
async def test_many_clients_in_memory_have_just_connected(harness):
    proxy = await harness.proxy(await harness.serve(echo, expect=BrokenResourceError))
    streams = [await proxy._endpoint.connect() for _ in range(100)]
    await proxy.reset_all()
    assert proxy.accepted == 100
    for stream in streams:
        assert await ending(stream) == RESET
        await stream.aclose()


async def test_clients_that_connect_all_the_time_do_not_hold_it_up(harness):
    proxy = await harness.proxy(await harness.serve(echo, expect=BrokenResourceError))

    async def come_and_go():
        while True:
            try:
                await (await proxy.connect()).aclose()
            except (BrokenResourceError, EndOfStream, ConnectionFailed):
                await anyio.lowlevel.checkpoint()

    async with tasks() as group:
        for _ in range(10):
            group.start_soon(come_and_go)
        for _ in range(10):
            await proxy.reset_all()


# Down and up


@pytest.mark.parametrize("seen_by", ["a client of the harness", "an outside client"])
async def test_down_and_up_again(harness, seen_by):
    if seen_by == "an outside client" and harness.transport.name == "memory":
        pytest.skip("nobody outside can reach it")
    proxy = await harness.proxy(await harness.serve(echo))
    address = proxy.address
    for number in range(20):
        client = await proxy.connect()
        assert await is_answered(client)
        await proxy.disable()
        assert "disabled" in repr(proxy)
        assert await ending(client) == ENDED
        await client.aclose()
        assert not proxy.connections
        for _ in range(3):
            if seen_by == "an outside client":
                assert await in_thread(attempt, address) == REFUSED
            else:
                with pytest.raises(ConnectionFailed, match="is disabled"):
                    await proxy.connect()
        await proxy.disable()
        await proxy.enable()
        await proxy.enable()
        assert proxy.address == address
        if seen_by == "an outside client":

            def ask():
                with connect(address, context_of(proxy)) as sock:
                    sock.sendall(b"x")
                    return sock.recv(1)

            assert await in_thread(ask) == b"x"
        assert proxy.accepted == (number + 1) * (2 if seen_by == "an outside client" else 1)


async def test_down_and_up_while_clients_connect(harness):
    """Each of them is served or refused; none waits for ever."""
    proxy = await harness.proxy(await harness.serve(echo, expect=BrokenResourceError))
    seen = {"served": 0, "refused": 0, "ended": 0}

    async def connect_again_and_again():
        while True:
            try:
                async with await proxy.connect() as client:
                    seen["served" if await is_answered(client) else "wrong"] += 1
            except ConnectionFailed:
                seen["refused"] += 1
            except (EndOfStream, BrokenResourceError):
                seen["ended"] += 1
            await anyio.lowlevel.checkpoint()

    async with tasks() as group:
        for _ in range(5):
            group.start_soon(connect_again_and_again)
        for turns in range(30):
            await proxy.disable()
            served = seen["served"]
            await proxy.enable()
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
        await proxy.enable()
        while seen["served"] == served:
            await anyio.lowlevel.checkpoint()
    assert seen["refused"]


@pytest.mark.parametrize("call", ["disable", "enable", "reset_all", "disconnect_all"])
async def test_a_cancelled_call_does_no_harm(harness, call):
    """At each of its moments; then the proxy is up or down, and can be either."""
    proxy = await harness.proxy(await harness.serve(echo, expect=BrokenResourceError))
    for turns in range(30):
        if call == "enable":
            await proxy.disable()
        else:
            client = await proxy.connect()
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(getattr(proxy, call))
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
        await proxy.enable()
        assert "disabled" not in repr(proxy)
        async with await proxy.connect() as again:
            assert await is_answered(again)
        if call != "enable":
            await client.aclose()
        await proxy.wait_connections(0)


class Waiting(Toxic):
    """Keeps connections from reaching the server, for as long as it is there."""

    async def accept(self, connection):
        await anyio.sleep_forever()


@pytest.mark.parametrize("end", ["disable", "reset_all", "disconnect_all"])
async def test_an_end_before_the_server_is_reached(harness, end):
    proxy = await harness.proxy(await harness.serve(echo), Waiting())
    refused = []

    async def connect_in_vain():
        with pytest.raises(ConnectionFailed, match="ended connection 1 before it reached"):
            await proxy.connect()
        refused.append(True)

    async with anyio.create_task_group() as group:
        group.start_soon(connect_in_vain)
        await proxy.wait_connections(1)
        await getattr(proxy, end)()
    assert refused


# At the same time as others


@pytest.mark.harness(transports=SOCKETS)
async def test_ones_own_connection_among_others(harness):
    """`connect()` tells of its own connection, however many others come meanwhile."""
    proxy = await harness.proxy(await harness.serve(echo))
    number = 0
    for _ in range(50):
        others = [connect(proxy.address) for _ in range(3)]
        with proxy.toxic(RefuseNumber(number + 4)), pytest.raises(ConnectionFailed) as caught:
            await proxy.connect()
        assert f"refuses connection {number + 4}:" in str(caught.value)
        with proxy.toxic(RefuseNumber(number + 5)):
            others.append(connect(proxy.address))
            async with await proxy.connect() as client:
                last = proxy.connections[-1]
                assert last.id == number + 6
                if harness.transport.name != "tls":
                    assert await is_answered(client)
                    assert last.bytes_downstream == 1
        number += 6
        for other in others:
            other.close()
        await proxy.wait_connections(0)


class RefuseNumber(Refuse):
    def __init__(self, number):
        self.number = number

    async def accept(self, connection):
        if connection.id == self.number:
            await super().accept(connection)


# Within a test


@pytest.mark.parametrize("how", ["direct", "proxied"])
async def test_a_busy_handler_has_its_grace(harness, how, virtual_clock):
    """It finishes after the end of the block, and its answer still goes through."""
    log = []

    async def work(stream):
        data = await stream.receive()
        log.append("asked")
        await anyio.sleep(1)
        await stream.send(data)
        log.append("answered")

    async with open_harness(transport=harness.transport.name, grace=60) as inner:
        server = await inner.serve(work)
        target = server if how == "direct" else await inner.proxy(server)
        client = await target.connect()
        await client.send(b"x")
        while not log:
            await anyio.lowlevel.checkpoint()
    assert log == ["asked", "answered"]
    assert virtual_clock.now == 1


@pytest.mark.parametrize("how", ["direct", "proxied"])
async def test_an_idle_handler_costs_no_grace(harness, how, virtual_clock):
    async with open_harness(transport=harness.transport.name, grace=60) as inner:
        server = await inner.serve(echo)
        target = server if how == "direct" else await inner.proxy(await inner.proxy(server))
        clients = [await target.connect() for _ in range(3)]
        for client in clients:
            assert await is_answered(client)
    assert virtual_clock.now == 0


async def test_a_crash_behind_a_proxy(harness):
    async def crash(stream):
        await stream.receive()
        raise LookupError("the handler crashed")

    with pytest.raises(LookupError, match="the handler crashed"):
        async with open_harness(transport=harness.transport.name) as inner:
            proxy = await inner.proxy(await inner.serve(crash))
            client = await proxy.connect()
            await client.send(b"x")
            await client.receive()


@pytest.mark.parametrize("where", ["the client sees the end", "in the background", "the last line"])
def test_a_crash_behind_a_proxy_is_the_failure(pytester, run_pytest, backend, where):
    lines = {
        "the client sees the end": "await client.receive()",
        "in the background": "await anyio.sleep_forever()",
        "the last line": "pass",
    }
    pytester.makepyfile(f"""
        import anyio

        async def crash(stream):
            await stream.receive()
            raise LookupError("the handler crashed")

        async def test_it(harness):
            proxy = await harness.proxy(await harness.proxy(await harness.serve(crash)))
            client = await proxy.connect()
            await client.send(b"x")
            {lines[where]}

        async def test_next(harness):
            pass
    """)
    result = run_pytest(f"--harness-backends={backend}", "-W", "error")
    result.assert_outcomes(failed=4, passed=4)
    result.stdout.fnmatch_lines(
        ['*raise LookupError("the handler crashed")', "E * LookupError: the handler crashed"]
    )
    result.stdout.no_fnmatch_line("*ExceptionGroup*")
    result.stdout.no_fnmatch_line("*CancelledError*")


class BreaksItself(Exception): ...


@pytest.mark.parametrize("what", ["connect", "receive", "send", "send_eof", "aclose"])
async def test_a_stream_of_ones_own_that_raises_something_else(harness, what):
    """It is the test's failure, as itself, and everything is closed all the same."""

    class Odd(anyio.abc.ByteStream):
        def __init__(self, stream):
            self._stream = stream

        async def receive(self, max_bytes=65536):
            return await self._do("receive", max_bytes)

        async def send(self, item):
            await self._do("send", item)

        async def send_eof(self):
            await self._do("send_eof")

        async def aclose(self):
            await self._stream.aclose()
            if what == "aclose":
                raise BreaksItself

        async def _do(self, name, *args):
            if name == what:
                raise BreaksItself
            return await getattr(self._stream, name)(*args)

    class Way(anyio.abc.ByteStreamConnectable):
        async def connect(self):
            if what == "connect":
                raise BreaksItself
            return Odd(await server.connect())

    with pytest.raises(BreaksItself) as caught:
        async with open_harness(transport="memory") as inner:
            server = await inner.serve(echo, expect=BrokenResourceError)
            proxy = await inner.proxy(Way(), name="odd")
            client = await proxy.connect()
            await client.send(b"x")
            await client.send_eof()
            await anyio.sleep_forever()
    assert any("connection 1 of 'odd'" in note for note in caught.value.__notes__)


# What is wrong


@pytest.mark.harness(transports=["memory"])
async def test_bad_arguments(harness):
    server = await harness.serve(echo)
    proxy = await harness.proxy(server)
    for call, error, says in (
        (lambda: proxy.add(Latency), TypeError, "toxic has to be a .* not <class"),
        (lambda: proxy.add(None), TypeError, "toxic has to be a .* not None"),
        (lambda: proxy.add(Freeze(), direction="up"), ValueError, "direction has .* not 'up'"),
        (lambda: proxy.add(Freeze(), toxicity=2), ValueError, "toxicity has to be 0 to 1, not 2"),
        (lambda: proxy.add(Freeze(), when=5), TypeError, "when has to be a .* not 5"),
        (lambda: proxy.add(Freeze(), when=[5]), TypeError, "when has to be a .* not 5"),
        (lambda: proxy.remove(Freeze()), ValueError, "does not act in <Proxy"),
    ):
        with pytest.raises(error, match=says):
            call()
    for n, error in ((-1, ValueError), ("1", TypeError), (None, TypeError), (True, TypeError)):
        with pytest.raises(error, match=r"wait_connections\(\): n has to be"):
            await proxy.wait_connections(n)
    for arguments, options, error, says in (
        ((Latency,), {}, TypeError, "toxic has to be a harness.faults.Toxic"),
        ((), {"name": 5}, TypeError, "name must be a string, not 5"),
        ((), {"seed": 1.5}, TypeError, "seed must be an int or a string, not 1.5"),
    ):
        with pytest.raises(error, match=says):
            await harness.proxy(server, *arguments, **options)
    assert not proxy.toxics


async def test_after_the_end(harness):
    async with open_harness(transport=harness.transport.name) as inner:
        server = await inner.serve(echo)
        proxy = await inner.proxy(server)
        active = proxy.add(Latency(0.001))
        client = await proxy.connect()
    assert not proxy.connections
    for call in (
        lambda: proxy.add(Freeze()),
        lambda: proxy.freeze(),
        lambda: proxy.set_upstream(server),
    ):
        with pytest.raises(RuntimeError, match="this harness is closed"):
            call()
    for function in (
        proxy.connect,
        proxy.enable,
        lambda: proxy.wait_connections(1),
        lambda: inner.proxy(server),
    ):
        with pytest.raises(RuntimeError, match="this harness is closed"):
            await function()
    for function in (proxy.disable, proxy.reset_all, proxy.disconnect_all):
        await function()
    await proxy.wait_connections(0)
    active.remove()
    proxy.thaw()
    assert str(proxy.address)
    assert repr(proxy)
    with pytest.raises((EndOfStream, BrokenResourceError, anyio.ClosedResourceError)):
        await client.receive()


@pytest.mark.harness(transports=SOCKETS)
async def test_its_address_is_free_after_the_end(harness):
    async with open_harness(transport=harness.transport.name) as inner:
        proxy = await inner.proxy(await inner.serve(echo))
        await proxy.disable()
        await proxy.enable()
        address = proxy.address
    assert await in_thread(attempt, address) == REFUSED
    if isinstance(address, tuple):
        with socket.socket() as again:
            again.bind(address)


@pytest.mark.harness(transports=["tcp", "unix", "memory"])
async def test_a_toxic_may_take_the_proxy_down(harness):
    """Its own connection ends with the others, and what it has asked for is done all the same."""

    async def down(data):
        await proxy.disable()
        return data

    proxy = await harness.proxy(await harness.serve(echo), Transform(down))
    client = await proxy.connect()
    await client.send(b"x")
    with pytest.raises((BrokenResourceError, EndOfStream)):
        await client.receive()
    await harness.settle()
    with pytest.raises(ConnectionFailed):
        await proxy.connect()
    await proxy.enable()
    for toxic in list(proxy.toxics):
        toxic.remove()
    assert await (await proxy.connect()).send(b"up") is None


@pytest.mark.harness(transports=["tcp", "memory"])
async def test_a_slow_accept_that_is_changed_goes_by_its_new_delay(harness, virtual_clock):
    proxy = await harness.proxy(await harness.serve(echo))
    slow = proxy.add(SlowAccept(1.0))

    async def connect_slowly():
        await proxy.connect()
        assert virtual_clock.now == 2.0

    async with anyio.create_task_group() as group:
        group.start_soon(connect_slowly)
        await anyio.sleep(0.9)
        slow.update(delay=2.0)
    (connection,) = proxy.connections
    assert "SlowAccept fired" in repr(connection)


@pytest.mark.harness(transports=["memory"])
async def test_freezing_again_after_its_toxic_was_taken_away(harness, virtual_clock):
    proxy = await harness.proxy(await harness.serve(echo))
    client = await proxy.connect()
    proxy.freeze()
    for toxic in list(proxy.toxics):
        toxic.remove()
    proxy.freeze()
    await client.send(b"x")
    with anyio.move_on_after(1) as scope:
        await client.receive()
    assert scope.cancelled_caught
    proxy.thaw()
    assert await client.receive() == b"x"


@pytest.mark.harness(transports=["memory"])
async def test_only_the_toxic_that_is_meant_is_taken_away(harness):
    class Equal(Drop):
        def __eq__(self, other):
            return isinstance(other, Equal)

        __hash__ = None

    proxy = await harness.proxy(await harness.serve(echo))
    one, other = Equal(0.5), Equal(0.5)
    proxy.add(one)
    left = proxy.add(other, direction="upstream")
    proxy.remove(one)
    assert list(proxy.toxics) == [left]


@pytest.mark.harness(transports=["tcp", "memory"])
async def test_the_report_of_what_runs_has_the_proxys_connections(harness):
    proxy = await harness.proxy(await harness.serve(echo), name="p")
    client = await proxy.connect()
    await client.send(b"hello")
    assert await client.receive() == b"hello"
    assert "  connection 1 of proxy 'p': 5 bytes up, 5 bytes down" in harness.dump()
    proxy.freeze()
    await client.send(b"x")
    await harness.settle()
    dump = harness.dump()
    assert "- Freeze(), upstream of connection 1 of proxy 'p'\n" in dump
    assert "- downstream of connection 1 of proxy 'p'\n" in dump
    assert "Freeze fired" in dump
