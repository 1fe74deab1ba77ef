"""A proxy without toxics: nobody notices it; and what a test can do with it."""

import anyio
import pytest
from anyio import BrokenResourceError, ConnectionFailed, EndOfStream
from anyio.abc import ByteStreamConnectable
from echoing import echo

from harness.faults import Latency, Refuse


async def test_bytes_go_through(harness):
    server = await harness.serve(echo)
    proxy = await harness.proxy(server)
    assert isinstance(proxy, ByteStreamConnectable)
    assert proxy.address != server.address
    async with await proxy.connect() as client:
        await client.send(b"hello")
        assert await client.receive() == b"hello"
        (connection,) = proxy.connections
        assert connection.id == proxy.accepted == 1
        if harness.transport.name != "tls":
            assert connection.bytes_upstream == connection.bytes_downstream == 5
    await proxy.wait_connections(0)


async def test_reset_all_right_after_connect(harness):
    server = await harness.serve(echo, expect=BrokenResourceError)
    proxy = await harness.proxy(server)
    client = await proxy.connect()
    await proxy.reset_all()
    expected = EndOfStream if harness.transport.name == "unix" else BrokenResourceError
    with pytest.raises(expected):
        await client.receive()
    assert not proxy.connections


@pytest.mark.harness(virtual_time=True)
async def test_latency(harness):
    server = await harness.serve(echo)
    proxy = await harness.proxy(server, Latency(0.1))
    async with await proxy.connect() as client:
        start = anyio.current_time()
        await client.send(b"hello")
        assert await client.receive() == b"hello"
        assert anyio.current_time() - start == pytest.approx(0.1)


async def test_refused(harness):
    server = await harness.serve(echo)
    proxy = await harness.proxy(server)
    with proxy.toxic(Refuse()), pytest.raises(ConnectionFailed):
        await proxy.connect()
    await server.stop()
    with pytest.raises(ConnectionFailed):
        await proxy.connect()
    await server.restart()
    async with await proxy.connect() as client:
        await client.send(b"x")
        assert await client.receive() == b"x"
    await proxy.disable()
    with pytest.raises(ConnectionFailed):
        await proxy.connect()
    await proxy.enable()
    await (await proxy.connect()).aclose()
