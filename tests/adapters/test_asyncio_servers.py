"""Servers that were written for asyncio: protocols, and callbacks with a reader and a writer."""

from __future__ import annotations

import asyncio
from unittest import SkipTest

import anyio
import mains
import pytest
from anyio import BrokenResourceError, EndOfStream

from harness import Harness, open_harness
from harness.adapters import AsyncioProtocol, AsyncioStreams

MORE_THAN_FITS = bytes(range(256)) * 80_000


@pytest.fixture
def on_asyncio(harness: Harness):
    if harness.backend == "trio":
        pytest.skip("servers for asyncio")


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


async def receive_exactly(stream, size):
    received = bytearray()
    while len(received) < size:
        received += await stream.receive()
    return bytes(received)


# On another backend


@pytest.mark.parametrize(
    "shape",
    [AsyncioProtocol(Echo), AsyncioStreams(mains.OfAsyncio().handle)],
    ids=["Echo", "handle"],
)
async def test_on_trio_it_is_skipped(harness: Harness, shape):
    if harness.backend != "trio":
        server = await harness.serve(shape)
        assert server.name == shape.name
        return
    with pytest.raises(SkipTest, match=f"^{shape.name} is a server for asyncio, .* runs on trio$"):
        await harness.serve(shape)


# Callbacks


@pytest.mark.usefixtures("on_asyncio")
async def test_an_endless_client_loop(harness: Harness):
    """The question that is asked most: it is stopped at the end, with clients that stay."""
    server = await harness.serve(AsyncioStreams(mains.OfAsyncio().handle))
    clients = [await server.connect() for _ in range(3)]
    for client in clients:
        await client.send(b"hello")
        assert await client.receive() == b"hello"
    assert len(server.connections) == 3
    assert [connection.bytes_in for connection in server.connections] == [5, 5, 5]


@pytest.mark.usefixtures("on_asyncio")
async def test_an_idle_callback_has_no_grace(harness: Harness, virtual_clock):
    async with open_harness(transport=harness.transport.name, grace=60) as inner:
        server = await inner.serve(AsyncioStreams(mains.OfAsyncio().handle))
        await server.connect()
        await inner.settle()
    assert virtual_clock.now == 0


@pytest.mark.usefixtures("on_asyncio")
async def test_a_busy_callback_has_its_grace(harness: Harness, virtual_clock):
    async def answer_late(reader, writer):
        await reader.read(1)
        await asyncio.sleep(5)
        writer.write(b"late")
        writer.close()

    async with open_harness(transport=harness.transport.name, grace=60) as inner:
        client = await (await inner.serve(AsyncioStreams(answer_late))).connect()
        await client.send(b"x")
        await inner.settle()
    assert virtual_clock.now == 5


@pytest.mark.usefixtures("on_asyncio")
async def test_lines(harness: Harness):
    async def shout(reader, writer):
        async for line in reader:
            writer.write(line.upper())
            await writer.drain()
        writer.write(b"bye\n")
        writer.write_eof()

    kwargs = {"transport": "tcp"} if harness.transport.name == "tls" else {}
    server = await harness.serve(AsyncioStreams(shout), **kwargs)
    async with await server.connect() as client:
        await client.send(b"one\ntwo\n")
        assert await receive_exactly(client, 8) == b"ONE\nTWO\n"
        await client.send_eof()
        assert await receive_exactly(client, 4) == b"bye\n"
        with pytest.raises(EndOfStream):
            await client.receive()


@pytest.mark.usefixtures("on_asyncio")
async def test_a_slow_client_holds_the_writer_back(harness: Harness):
    drained = []

    async def flood(reader, writer):
        writer.write(MORE_THAN_FITS)
        await writer.drain()
        drained.append(True)
        writer.close()
        await writer.wait_closed()

    server = await harness.serve(AsyncioStreams(flood))
    async with await server.connect() as client:
        await harness.settle()
        assert not drained
        assert await receive_exactly(client, len(MORE_THAN_FITS)) == MORE_THAN_FITS
        with pytest.raises(EndOfStream):
            await client.receive()
    assert drained


@pytest.mark.usefixtures("on_asyncio")
async def test_a_fast_client_is_held_back(harness: Harness):
    go_on = anyio.Event()
    received = []

    async def read_late(reader, writer):
        await go_on.wait()
        received.append(await reader.readexactly(len(MORE_THAN_FITS)))
        writer.close()

    server = await harness.serve(AsyncioStreams(read_late))
    async with await server.connect() as client, anyio.create_task_group() as group:
        group.start_soon(client.send, MORE_THAN_FITS)
        await harness.settle()
        (connection,) = server.connections
        assert connection.bytes_in < len(MORE_THAN_FITS)
        go_on.set()
        with pytest.raises(EndOfStream):
            await client.receive()
    assert received == [MORE_THAN_FITS]


@pytest.mark.usefixtures("on_asyncio")
async def test_a_connection_outlives_its_callback(harness: Harness):
    async def starts_something(reader, writer):
        async def echo():
            while data := await reader.read(100):
                writer.write(data)

        harness.task_group.start_soon(echo)

    server = await harness.serve(AsyncioStreams(starts_something))
    client = await server.connect()
    for _ in range(2):
        await client.send(b"hello")
        assert await client.receive() == b"hello"
    await client.aclose()
    await server.wait_connections(0)


@pytest.mark.usefixtures("on_asyncio")
async def test_a_plain_function_starts_something(harness: Harness):
    def starts(reader, writer):
        harness.task_group.start_soon(mains.OfAsyncio().handle, reader, writer)

    client = await (await harness.serve(AsyncioStreams(starts))).connect()
    await client.send(b"hello")
    assert await client.receive() == b"hello"


@pytest.mark.usefixtures("on_asyncio")
async def test_a_crash_of_a_callback_is_the_tests(harness: Harness):
    async def crash(reader, writer):
        await reader.read(1)
        raise LookupError("the callback crashed")

    with pytest.raises(LookupError, match="the callback crashed") as caught:
        async with open_harness(transport=harness.transport.name) as inner:
            client = await (await inner.serve(AsyncioStreams(crash))).connect()
            await client.send(b"x")
            await anyio.sleep_forever()
    assert caught.traceback[-1].name == "crash"


@pytest.mark.usefixtures("on_asyncio")
async def test_extra_information(harness: Harness):
    seen = {}

    async def look(reader, writer):
        for name in ("peername", "sockname", "socket", "ssl_object", "sslcontext", "nonsense"):
            seen[name] = writer.get_extra_info(name)
        writer.close()

    server = await harness.serve(AsyncioStreams(look))
    async with await server.connect() as client:
        with pytest.raises(EndOfStream):
            await client.receive()
    assert seen["sockname"] == server.address
    assert seen["socket"] is not None
    assert (seen["ssl_object"] is None) == (harness.transport.name != "tls")
    assert (seen["sslcontext"] is None) == (harness.transport.name != "tls")
    assert seen["nonsense"] is None


@pytest.mark.usefixtures("on_asyncio")
async def test_through_a_proxy_and_after_a_restart(harness: Harness):
    server = await harness.serve(AsyncioStreams(mains.OfAsyncio().handle))
    proxy = await harness.proxy(server)
    for _ in range(2):
        client = await proxy.connect()
        await client.send(b"hello")
        assert await client.receive() == b"hello"
        await server.restart()


# Protocols


@pytest.mark.usefixtures("on_asyncio")
async def test_an_echo(harness: Harness):
    server = await harness.serve(AsyncioProtocol(Echo))
    async with await server.connect() as client, anyio.create_task_group() as group:
        group.start_soon(client.send, MORE_THAN_FITS)
        assert await receive_exactly(client, len(MORE_THAN_FITS)) == MORE_THAN_FITS
    await server.wait_connections(0)


@pytest.mark.usefixtures("on_asyncio")
async def test_the_life_of_a_protocol(harness: Harness):
    calls = []

    class Recorder(asyncio.Protocol):
        def connection_made(self, transport):
            calls.append("made")

        def data_received(self, data):
            calls.append(data)

        def eof_received(self):
            calls.append("eof")

        def connection_lost(self, exc):
            calls.append(exc)

    server = await harness.serve(AsyncioProtocol(Recorder))
    client = await server.connect()
    await client.send(b"x")
    await harness.settle()
    await client.aclose()
    await server.wait_connections(0)
    assert calls == ["made", b"x", "eof", None]


@pytest.mark.usefixtures("on_asyncio")
async def test_a_buffered_protocol(harness: Harness):
    class Buffered(asyncio.BufferedProtocol):
        def connection_made(self, transport):
            self.transport = transport
            self.buffer = bytearray(3)

        def get_buffer(self, sizehint):
            return self.buffer

        def buffer_updated(self, nbytes):
            self.transport.write(self.buffer[:nbytes])

    async with await (await harness.serve(AsyncioProtocol(Buffered))).connect() as client:
        await client.send(b"hello world")
        assert await receive_exactly(client, 11) == b"hello world"


@pytest.mark.usefixtures("on_asyncio")
async def test_reading_can_be_paused(harness: Harness):
    protocols = []

    class Careful(Echo):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()
            protocols.append(self)

    client = await (await harness.serve(AsyncioProtocol(Careful))).connect()
    await client.send(b"x")
    await harness.settle()
    (protocol,) = protocols
    assert not protocol.transport.is_reading()
    protocol.transport.resume_reading()
    assert await client.receive() == b"x"


@pytest.mark.usefixtures("on_asyncio")
async def test_abort_forgets_what_was_not_sent(harness: Harness):
    lost = []

    class Aborts(asyncio.Protocol):
        def connection_made(self, transport):
            transport.write(MORE_THAN_FITS)
            assert transport.get_write_buffer_size() == len(MORE_THAN_FITS)
            transport.abort()
            assert transport.is_closing()

        def pause_writing(self):
            pass

        def connection_lost(self, exc):
            lost.append(exc)

    client = await (await harness.serve(AsyncioProtocol(Aborts))).connect()
    with pytest.raises((EndOfStream, BrokenResourceError)):
        await receive_exactly(client, len(MORE_THAN_FITS))
    assert lost == [None]


@pytest.mark.harness(transports=["tcp", "memory"])
@pytest.mark.usefixtures("on_asyncio")
async def test_a_reset_is_told_to_the_protocol(harness: Harness):
    lost = []

    class Recorder(asyncio.Protocol):
        def connection_lost(self, exc):
            lost.append(type(exc))

    server = await harness.serve(AsyncioProtocol(Recorder))
    proxy = await harness.proxy(server)
    await proxy.connect()
    await server.wait_connections(1)
    await proxy.reset_all()
    await server.wait_connections(0)
    assert lost == [ConnectionResetError]


@pytest.mark.usefixtures("on_asyncio")
@pytest.mark.parametrize("callback", ["connection_made", "data_received", "eof_received"])
async def test_a_crash_of_a_protocol_is_the_tests(harness: Harness, callback):
    def crash(self, *args):
        raise LookupError("the protocol crashed")

    crashing = type("Crashing", (Echo,), {callback: crash})
    with pytest.raises(LookupError, match="the protocol crashed"):
        async with open_harness(transport=harness.transport.name) as inner:
            client = await (await inner.serve(AsyncioProtocol(crashing))).connect()
            if callback == "data_received":
                await client.send(b"x")
            await client.aclose()
            await anyio.sleep_forever()


@pytest.mark.usefixtures("on_asyncio")
async def test_what_a_transport_refuses(harness: Harness):
    errors = []

    class Wrong(asyncio.Protocol):
        def connection_made(self, transport):
            for wrong in (
                lambda: transport.write("text"),
                lambda: transport.set_write_buffer_limits(high=1, low=2),
                lambda: (transport.write_eof(), transport.write(b"more")),
            ):
                try:
                    wrong()
                except Exception as exc:
                    errors.append(type(exc))
            transport.close()

    kwargs = {"transport": "tcp"} if harness.transport.name == "tls" else {}
    client = await (await harness.serve(AsyncioProtocol(Wrong), **kwargs)).connect()
    with pytest.raises(EndOfStream):
        await client.receive()
    assert errors == [TypeError, ValueError, RuntimeError]


async def test_what_is_no_protocol(harness):
    server = await harness.serve(AsyncioProtocol(object), expect=TypeError)
    client = await server.connect()
    with pytest.raises((EndOfStream, BrokenResourceError)):
        await client.receive()
    await harness.settle()
    (error,) = server.errors
    assert "AsyncioProtocol: object() has made <object object at" in str(error)


@pytest.mark.parametrize("shape", [AsyncioProtocol, AsyncioStreams])
def test_what_cannot_be_called(shape):
    with pytest.raises(TypeError, match=f"{shape.__name__} takes a function .*, not 5"):
        shape(5)
