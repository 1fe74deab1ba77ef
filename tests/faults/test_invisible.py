"""Without toxics nobody notices a proxy: bytes, ends, breaks, refusals, back-pressure."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import anyio
import pytest
from anyio import BrokenResourceError, ConnectionFailed, EndOfStream, Event
from anyio.abc import SocketAttribute
from echoing import echo
from plain import (
    ENDED,
    LINGER,
    REFUSED,
    RESET,
    Recorder,
    Server,
    attempt,
    below_tls,
    close_with_reset,
    connect,
    context_of,
    end_of,
    in_thread,
)

from harness.conformance.contract import tasks
from harness.conformance.exchange import duplex
from harness.faults import Freeze, Latency, Toxic
from harness.faults.closing import lowest
from harness.settling import settle

#: Transports that an outside client can use.
SOCKETS = ["tcp", "unix", "tls"]

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="says what Linux does")


async def receive_all(stream):
    return b"".join([data async for data in stream])


class Handed:
    """A handler that hands its stream over to the test, which then has both sides."""

    def __init__(self):
        self.send, self.receive = anyio.create_memory_object_stream(1)

    async def __call__(self, stream):
        await self.send.send(stream)
        await anyio.sleep_forever()  # the test closes it

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.send.close()
        self.receive.close()


@pytest.fixture
async def proxied(harness):
    """A proxy, and a function that makes pairs: the client's stream, and the server's."""
    with Handed() as handed:
        proxy = await harness.proxy(await harness.serve(handed, grace=0))

        async def pair():
            return await proxy.connect(), await handed.receive.receive()

        yield proxy, pair


# Ends


@pytest.mark.harness(transports=["tcp", "unix", "memory"])
@pytest.mark.parametrize("first", ["client", "server"])
async def test_each_direction_ends_by_itself(proxied, first):
    proxy, pair = proxied
    client, accepted = await pair()
    one, other = (client, accepted) if first == "client" else (accepted, client)
    await one.send(b"question")
    await one.send_eof()
    assert await receive_all(other) == b"question"
    (connection,) = proxy.connections
    for _ in range(100):
        await other.send(b"x" * 1000)
    await other.send_eof()
    assert await receive_all(one) == b"x" * 100_000
    await proxy.wait_connections(0)
    counts = [connection.bytes_upstream, connection.bytes_downstream]
    assert counts == ([8, 100_000] if first == "client" else [100_000, 8])


@pytest.mark.harness(transports=["tls"])
@pytest.mark.parametrize("first", ["client", "server"])
async def test_below_tls_each_direction_ends_by_itself_too(proxied, first):
    """AnyIO's TLS makes no use of it; what is sent after that goes below it here."""
    proxy, pair = proxied
    client, accepted = await pair()
    one, other = (client, accepted) if first == "client" else (accepted, client)
    await one.send(b"question")
    await lowest(one).send_eof()
    assert await receive_all(other) == b"question"
    assert len(proxy.connections) == 1
    for _ in range(100):
        await lowest(other).send(b"x" * 1000)
    await lowest(other).send_eof()
    assert await receive_all(lowest(one)) == b"x" * 100_000
    await proxy.wait_connections(0)


@pytest.mark.parametrize("first", ["client", "server"])
async def test_a_close_is_an_end(proxied, first):
    proxy, pair = proxied
    client, accepted = await pair()
    one, other = (client, accepted) if first == "client" else (accepted, client)
    await one.send(b"the last words")
    await one.aclose()
    assert await receive_all(other) == b"the last words"
    await other.aclose()
    await proxy.wait_connections(0)


# Breaks


async def reset(stream, transport):
    """End a stream with RST."""
    if transport == "memory":
        await stream.reset()
        return
    raw = stream.extra(SocketAttribute.raw_socket)
    with socket.fromfd(raw.fileno(), raw.family, socket.SOCK_STREAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
    await anyio.aclose_forcefully(stream)


@pytest.mark.harness(transports=["tcp", "tls", "memory"])
@pytest.mark.parametrize("first", ["client", "server"])
async def test_a_reset_is_a_reset(harness, proxied, first):
    _, pair = proxied
    for _ in range(10):
        client, accepted = await pair()
        one, other = (client, accepted) if first == "client" else (accepted, client)
        await one.send(b"before")
        assert await other.receive() == b"before"
        await reset(one, harness.transport.name)
        with pytest.raises(BrokenResourceError):
            await other.receive()


@pytest.mark.harness(transports=["tcp", "tls"])
async def test_a_plain_client_is_told_of_a_reset(harness, proxied):
    proxy, _ = proxied

    async def break_it(stream):
        await stream.receive()
        await reset(stream, "tcp")

    proxy.set_upstream(await harness.serve(break_it))

    def ending():
        with connect(proxy.address, context_of(proxy)) as sock:
            sock.sendall(b"x")
            with below_tls(sock) as raw:
                return end_of(raw)

    for _ in range(20):
        assert await in_thread(ending) == RESET


@pytest.mark.harness(transports=["tcp", "tls"])
async def test_a_plain_server_is_told_of_a_reset(harness, proxied):
    """Between sockets in threads, with nothing of the proxy's event loop at either end."""
    proxy, _ = proxied
    recorder = Recorder()
    with Server(recorder) as server:
        proxy.set_upstream(server.address)

        def break_it():
            sock = connect(proxy.address)
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            close_with_reset(sock)
            return recorder.ending()

        for _ in range(20):
            assert await in_thread(break_it) == RESET
        await proxy.wait_connections(0)


@on_linux
@pytest.mark.harness(transports=["unix"])
async def test_a_unix_socket_that_breaks(proxied):
    """It has no RST, but a close with unread bytes is told to who sent them, and ends both sides.

    The other side sees a mere end: it has sent nothing that the proxy would not have read.
    """
    proxy, pair = proxied
    client, accepted = await pair()
    await client.send(b"unread")
    await settle()
    await accepted.aclose()
    with pytest.raises(EndOfStream):
        await client.receive()
    await proxy.wait_connections(0)


# Refusals


@pytest.mark.parametrize("server", ["never was", "stopped"])
async def test_a_server_that_refuses_is_seen_to(harness, server):
    behind = await harness.serve(echo)
    if server == "never was":
        await behind.stop()
    proxy = await harness.proxy(behind)
    if server == "stopped":
        await behind.stop()
    for number in range(1, 4):
        with pytest.raises(ConnectionFailed, match=f"refuses connection {number}: cannot connect"):
            await proxy.connect()
        assert not proxy.connections
    assert proxy.accepted == 3
    await behind.restart()
    async with await proxy.connect() as client:
        await client.send(b"x")
        assert await client.receive() == b"x"


@pytest.mark.harness(transports=["tcp", "tls"])
async def test_an_outside_client_sees_a_refusal_as_a_reset(harness):
    behind = await harness.serve(echo)
    proxy = await harness.proxy(behind)
    await behind.stop()
    for _ in range(50):
        assert await in_thread(attempt, proxy.address) in (RESET, REFUSED)
    for _ in range(50):
        with pytest.raises((BrokenResourceError, ConnectionFailed)):
            async with await anyio.connect_tcp(proxy.host, proxy.port) as client:
                await client.receive()
    await proxy.wait_connections(0)


class Gate(Toxic):
    """Lets a connection wait before the proxy connects to the server."""

    def __init__(self):
        self.open = Event()

    async def accept(self, connection):
        await self.open.wait()


@on_linux
@pytest.mark.harness(transports=["unix"])
@pytest.mark.parametrize("has_sent", [False, True])
async def test_what_an_outside_unix_client_sees_of_a_refusal(harness, has_sent):
    """The end of the stream; ``ECONNRESET`` if it has sent something, which nobody has read."""
    behind = await harness.serve(echo)
    await behind.stop()
    gate = Gate()
    proxy = await harness.proxy(behind, gate)

    with await in_thread(connect, proxy.address) as sock:
        if has_sent:
            sock.sendall(b"anybody there?")
        await proxy.wait_connections(1)
        gate.open.set()
        assert await in_thread(end_of, sock) == (RESET if has_sent else ENDED)
        with pytest.raises(BrokenPipeError):
            sock.sendall(b"x")


# Bytes


async def test_a_lot_both_ways(proxied):
    """In chunks of random length; what each side receives is compared byte by byte."""
    proxy, pair = proxied
    size = 64 * 1024 * 1024
    client, accepted = await pair()
    (connection,) = proxy.connections
    await duplex(client, accepted, size)
    if not hasattr(client, "transport_stream"):
        assert connection.bytes_upstream == connection.bytes_downstream == size


@pytest.mark.harness(timeout=300)  # a thousand handshakes of TLS take long
async def test_a_thousand_connections(harness):
    server = await harness.serve(echo)
    proxy = await harness.proxy(server)
    count = 1000
    clients = []

    async def connect_and_ask():
        client = await proxy.connect()
        message = b"%d" % len(clients)
        clients.append(client)
        await client.send(message)
        assert await client.receive() == message

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(connect_and_ask)
    assert len(proxy.connections) == proxy.accepted == count
    assert [connection.id for connection in proxy.connections] == list(range(1, count + 1))
    for client in clients[: count // 2]:
        await client.aclose()
    while len(proxy.connections) > count // 2:
        await anyio.lowlevel.checkpoint()
    for client in clients[count // 2 :]:
        await client.send(b"still")
        assert await client.receive() == b"still"
        await client.aclose()
    await proxy.wait_connections(0)


# Back-pressure

CHUNK = 64 * 1024


def kernel_buffers(transport):
    """Bytes that the sockets of one connection may hold in one direction, at the very most."""
    if transport == "memory":
        return 64 * 1024
    if transport == "unix":
        with socket.socket(socket.AF_UNIX) as some:
            return 2 * some.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    sizes = [Path(f"/proc/sys/net/ipv4/tcp_{each}mem") for each in "rw"]
    return sum(int(size.read_text().split()[2]) for size in sizes)


def in_hand(harness):
    """Bytes that a direction holds without a toxic: what one look at the socket brings."""
    reads_ahead = harness.backend != "trio" and harness.transport.name in ("tcp", "tls")
    return (256 if reads_ahead else 64) * 1024


class Sender:
    """Sends until it is stopped, and counts what has been taken."""

    def __init__(self, stream, most):
        self.stream = stream
        self.most = most
        self.count = 0

    async def run(self):
        while self.count <= self.most:
            await self.stream.send(b"x" * CHUNK)
            self.count += CHUNK

    async def until_it_waits(self):
        """Transports that read and write are no tasks, so one look at the tasks is not enough."""
        same = 0
        while same < 50:
            before = self.count
            await settle()
            same = same + 1 if self.count == before else 0


@on_linux
@pytest.mark.parametrize("direction", ["upstream", "downstream"])
@pytest.mark.parametrize(
    "toxic", [None, Latency(3600), Freeze()], ids=["no toxic", "latency", "freeze"]
)
async def test_a_sender_waits_for_who_does_not_read(harness, proxied, direction, toxic):
    proxy, pair = proxied
    client, accepted = await pair()
    sender, receiver = (client, accepted) if direction == "upstream" else (accepted, client)
    async with anyio.create_task_group() as group:  # from now on it does not read ahead
        group.start_soon(receiver.receive, 1)
        await settle()
        await sender.send(b"x")
    bound = 2 * kernel_buffers(harness.transport.name) + in_hand(harness) + CHUNK
    active = None
    if toxic is not None:
        active = proxy.add(toxic, direction=direction)
        bound += toxic.capacity + CHUNK
    async with tasks() as group:
        sending = Sender(sender, bound)
        group.start_soon(sending.run)
        await sending.until_it_waits()
        assert CHUNK < sending.count <= bound
        if active is not None:
            assert sending.count >= active.toxic.capacity
            active.remove()
        waiting = sending.count
        while sending.count <= waiting + CHUNK:  # it goes on as soon as somebody reads
            await receiver.receive()


@on_linux
@pytest.mark.harness(transports=["tcp", "tls"])
async def test_a_client_waits_that_sends_before_there_is_a_server(harness):
    """On asyncio and uvloop a stream that was accepted would read all of it."""
    gate = Gate()
    proxy = await harness.proxy(await harness.serve(echo), gate)
    bound = kernel_buffers(harness.transport.name) + in_hand(harness) + CHUNK
    async with await anyio.connect_tcp(proxy.host, proxy.port) as client, tasks() as group:
        sending = Sender(client, bound)
        group.start_soon(sending.run)
        await sending.until_it_waits()
        assert CHUNK < sending.count <= bound
