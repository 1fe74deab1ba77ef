"""Of a proxy nothing is left: no descriptor, no task, no file, whatever a test has done with it.

The leak check of the harness looks at each of these tests, and here they also count themselves.
"""

from __future__ import annotations

import os

import anyio
import pytest
from anyio import BrokenResourceError, ConnectionFailed, EndOfStream
from echoing import echo, is_answered
from plain import connect, end_of, in_thread

from harness import open_harness
from harness.conformance.contract import tasks
from harness.conformance.exchange import ignoring_end
from harness.descriptors import open_descriptors
from harness.faults import Freeze, Latency, SlowAccept
from harness.settling import settle

SOCKETS = ["tcp", "unix", "tls"]


class Left:
    """What there is in the process and in the event loop, to be compared."""

    def __init__(self):
        self.descriptors = set(open_descriptors().items())
        self.tasks = {task.id for task in anyio.get_running_tasks()}

    def __eq__(self, other):
        return self.descriptors == other.descriptors and self.tasks == other.tasks

    def __repr__(self):
        names = {fd: where_to(fd) for fd, _ in self.descriptors}
        return f"<{names}, {len(self.tasks)} tasks>"


def where_to(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return "?"


async def warm_up(transport):
    """What an event loop opens once, at its first connection, is not a proxy's."""
    async with open_harness(transport=transport) as harness:
        client = await (await harness.serve(echo)).connect()
        assert await is_answered(client)


async def test_after_disabling_and_enabling(harness):
    proxy = await harness.proxy(await harness.serve(echo))
    async with await proxy.connect() as client:
        assert await is_answered(client)
    await proxy.wait_connections(0)
    await settle()
    before = Left()
    for _ in range(20):
        clients = [await proxy.connect() for _ in range(3)]
        for client in clients:
            assert await is_answered(client)
        await proxy.disable()
        for client in clients:
            await client.aclose()
        with pytest.raises(ConnectionFailed):
            await proxy.connect()
        await proxy.enable()
    await settle()
    now = Left()
    assert len(now.descriptors) == len(before.descriptors)
    assert len(now.tasks) == len(before.tasks)


@pytest.mark.parametrize("end", ["disconnect_all", "reset_all", "disable", "close", "leave"])
async def test_after_the_end_of_a_harness(harness, end):
    await warm_up(harness.transport.name)
    await settle()
    before = Left()
    async with open_harness(transport=harness.transport.name) as inner:
        server = await inner.serve(echo, expect=BrokenResourceError)
        proxy = await inner.proxy(await inner.proxy(server))
        clients = [await proxy.connect() for _ in range(10)]
        for client in clients:
            assert await is_answered(client)
        if end == "close":
            for client in clients:
                await client.aclose()
        elif end != "leave":
            await getattr(proxy, end)()
        address = proxy.address
    await settle()
    assert Left() == before
    if isinstance(address, str):
        assert not await anyio.Path(address).parent.exists()


@pytest.mark.parametrize("toxic", [None, SlowAccept(0.001)], ids=["no toxic", "slow accept"])
async def test_after_a_connect_that_was_cancelled(harness, toxic):
    """At every moment of it; and what the proxy has begun meanwhile comes to its end."""
    server = await harness.serve(echo, expect=BrokenResourceError)
    proxy = await harness.proxy(server, *([] if toxic is None else [toxic]))
    async with await proxy.connect() as client:
        assert await is_answered(client)
    await proxy.wait_connections(0)
    await server.wait_connections(0)
    await settle()
    before = Left()
    cancelled = connected = 0
    for turns in range(60):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:

                async def cancel(turns=turns, scope=scope):
                    for _ in range(turns):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()

                group.start_soon(cancel)
                await (await proxy.connect()).aclose()
                connected += 1
                group.cancel_scope.cancel()
        cancelled += scope.cancelled_caught
    assert cancelled
    await proxy.wait_connections(0)
    await server.wait_connections(0)
    await settle()
    now = Left()
    assert len(now.descriptors) == len(before.descriptors)
    assert len(now.tasks) == len(before.tasks)
    async with await proxy.connect() as client:
        assert await is_answered(client)


@pytest.mark.harness(transports=SOCKETS)
async def test_after_outside_clients_that_go_at_once(harness):
    """Some before they are accepted, some with RST, some with bytes on their way."""
    server = await harness.serve(echo, expect=(BrokenResourceError, EndOfStream))
    proxy = await harness.proxy(server)
    before = None
    for turn in range(3):

        def come_and_go(turn=turn):
            for number in range(50):
                with connect(proxy.address) as sock:
                    if number % 3 == 1:
                        sock.sendall(b"x" * 1000)
                    elif number % 3 == 2:
                        sock.shutdown(1)
                        end_of(sock)

        await in_thread(come_and_go)
        await proxy.disconnect_all()
        await server.wait_connections(0)
        await settle()
        now = Left()
        assert before is None or len(now.tasks) == len(before.tasks)
        before = now
    assert not proxy.connections


# Each of these ends with live connections, in another state; that nothing is left is looked at then


async def live_connections(harness, *toxics, count=3):
    server = await harness.serve(echo, expect=BrokenResourceError)
    proxy = await harness.proxy(server)
    clients = [await proxy.connect() for _ in range(count)]
    for client in clients:
        assert await is_answered(client)
    for toxic in toxics:
        proxy.add(toxic, direction="both")
    return proxy, clients


async def test_ends_while_they_are_idle(harness):
    await live_connections(harness, count=20)


async def test_ends_while_they_are_disabled(harness):
    proxy, _ = await live_connections(harness)
    await proxy.disable()


async def test_ends_while_bytes_are_held_back(harness):
    _, clients = await live_connections(harness, Latency(1000), Freeze())
    for client in clients:
        await client.send(b"x" * 1000)
    await settle()


async def test_ends_while_everybody_sends(harness):
    _, clients = await live_connections(harness)

    async def send(client):
        while True:
            await ignoring_end(client.send, b"x" * 65536)
            await anyio.lowlevel.checkpoint()

    for client in clients:
        harness.task_group.start_soon(send, client)
    await settle(turns=100)


@pytest.mark.harness(transports=["tcp", "unix", "memory"])
async def test_ends_while_they_are_half_closed(harness):
    proxy, clients = await live_connections(harness, Freeze())
    for client in clients:
        await client.send_eof()
    await settle()
    assert len(proxy.connections) == 3


async def test_ends_while_somebody_connects(harness):
    proxy, _ = await live_connections(harness)
    proxy.add(SlowAccept(1000))
    for _ in range(3):
        harness.task_group.start_soon(proxy.connect)
    await proxy.wait_connections(6)


async def test_ends_while_nobody_has_noticed(harness):
    """The last thing in the test is the first step of a connection."""
    server = await harness.serve(echo)
    proxy = await harness.proxy(server)
    harness.task_group.start_soon(proxy.connect)
    await anyio.lowlevel.checkpoint()


@pytest.mark.harness(transports=SOCKETS)
async def test_ends_with_outside_clients(harness):
    proxy = await harness.proxy(await harness.serve(echo))
    socks = [connect(proxy.address) for _ in range(10)]
    for sock in socks:
        sock.close()


async def test_ends_with_a_chain(harness):
    proxy, _ = await live_connections(harness)
    outer = await harness.proxy(await harness.proxy(proxy))
    for _ in range(3):
        assert await is_answered(await outer.connect())


async def test_ends_in_the_middle_of_disable(harness):
    proxy, _ = await live_connections(harness)
    async with tasks() as group:
        group.start_soon(proxy.disable)
        await anyio.lowlevel.checkpoint()


def test_nothing_is_left_of_a_test_that_fails_or_crashes(pytester, run_pytest, backend):
    pytester.makepyfile("""
        import anyio, pytest

        async def echo(stream):
            async for data in stream:
                if data == b"crash":
                    raise LookupError("crashed")
                await stream.send(data)

        @pytest.mark.parametrize("end", ["fail", "crash", "skip", "time out"])
        async def test_it(harness, end):
            proxy = await harness.proxy(await harness.serve(echo))
            clients = [await proxy.connect() for _ in range(3)]
            if end == "crash":
                await clients[1].send(b"crash")
                await anyio.sleep_forever()
            elif end == "skip":
                pytest.skip("no")
            elif end == "time out":
                with anyio.fail_after(0):
                    await anyio.sleep_forever()
            assert not clients

        async def test_next(harness):
            pass
    """)
    result = run_pytest(f"--harness-backends={backend}", "-W", "error")
    result.assert_outcomes(failed=12, skipped=4, passed=4)
    result.stdout.no_fnmatch_line("*leak*")
