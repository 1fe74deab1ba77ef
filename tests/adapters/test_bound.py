"""Servers that are given a listening socket: no port is guessed, and nothing is waited for."""

from __future__ import annotations

from unittest import SkipTest

import anyio
import mains
import pytest
from anyio import ConnectionFailed, EndOfStream

from harness import Harness
from harness.adapters import Bound

SOCKETS = ["tcp", "tcp6", "unix"]


async def answers(target) -> None:
    async with await target.connect() as client:
        await client.send(b"hello")
        assert await client.receive() == b"hello"


@pytest.mark.harness(transports=SOCKETS)
@pytest.mark.parametrize(
    "shape",
    [
        Bound(mains.on_a_socket),
        Bound(mains.on_sockets, give="sockets", to="sockets"),
        Bound(mains.on_a_descriptor, give="fd"),
        Bound(mains.on_a_descriptor, give="fd", to="fd"),
    ],
    ids=["socket", "sockets", "fd", "keyword"],
)
async def test_in_each_form(harness: Harness, shape):
    server = await harness.serve(shape)
    await answers(server)
    address = server.address
    await server.restart()
    assert server.address == address
    await answers(server)


@pytest.mark.harness(transports=["tcp"])
async def test_as_a_url(harness: Harness):
    async def main(url):
        scheme, number = url.split("://")
        assert scheme == "fd"
        await mains.on_a_descriptor(int(number))

    await answers(await harness.serve(Bound(main, give="url")))


@pytest.mark.harness(transports=["tls"])
async def test_with_tls(harness: Harness):
    context = harness.transport.server_ssl_context
    await answers(await harness.serve(Bound(mains.with_tls_on_a_socket, ssl_context=context)))


@pytest.mark.harness(transports=["tls", "memory"])
async def test_where_it_cannot_be(harness: Harness):
    with pytest.raises(SkipTest, match=r"on_a_socket (speaks no TLS|listens by itself)"):
        await harness.serve(Bound(mains.on_a_socket))


@pytest.mark.harness(transports=SOCKETS)
async def test_a_client_can_connect_before_it_runs(harness: Harness):
    begin = anyio.Event()

    async def slow(bound):
        await begin.wait()
        await mains.on_a_socket(bound)

    server = await harness.serve(Bound(slow))
    client = await server.connect()
    await client.send(b"hello")
    begin.set()
    assert await client.receive() == b"hello"


@pytest.mark.harness(transports=SOCKETS)
async def test_its_address_is_nobody_elses_while_it_is_down(harness: Harness):
    server = await harness.serve(Bound(mains.on_a_socket))
    await server.stop()
    with pytest.raises(ConnectionFailed):
        await server.connect()
    await server.restart()
    await answers(server)


@pytest.mark.harness(transports=["tcp"])
async def test_it_can_be_asked_to_end(harness: Harness, virtual_clock):
    asked = anyio.Event()
    done = []

    async def main(bound):
        async def finish(stream):
            async with stream:
                await asked.wait()
                await anyio.sleep(2)
                await stream.send(b"goodbye")
                group.cancel_scope.cancel()

        bound.setblocking(False)
        async with (
            await anyio.abc.SocketListener.from_socket(bound) as listener,
            anyio.create_task_group() as group,
        ):
            await listener.serve(finish, group)
        done.append(virtual_clock.now)

    server = await harness.serve(Bound(main, stop=asked.set), grace=10)
    client = await server.connect()
    await harness.settle()
    await server.stop()
    assert done == [2.0]
    assert await client.receive() == b"goodbye"
    with pytest.raises(EndOfStream):
        await client.receive()


@pytest.mark.harness(transports=["tcp"])
async def test_what_has_not_ended_after_its_grace_is_cancelled(harness: Harness, virtual_clock):
    async def main(bound):
        await anyio.sleep_forever()

    server = await harness.serve(Bound(main, stop=lambda: None), grace=10)
    await server.stop()
    assert virtual_clock.now == 10
    await server.restart()
    await server.stop(grace=1)
    assert virtual_clock.now == 11


def test_a_function_that_does_not_take_it():
    async def takes_it_as_a(a):
        raise AssertionError

    message = r"gives the function its fd as b=, and takes_it_as_a\(a\) does not take that: missing"
    with pytest.raises(TypeError, match=message):
        Bound(takes_it_as_a, give="fd", to="b")
    with pytest.raises(TypeError, match=r"its socket as the first argument, .*: too many pos"):
        Bound(takes_it_as_a, "more")


def test_an_unknown_form():
    with pytest.raises(ValueError, match="give has to be one of socket, sockets, fd, url, not 'f'"):
        Bound(mains.on_a_socket, give="f")


@pytest.mark.parametrize("stop", [4, anyio.sleep])
def test_what_cannot_stop_it(stop):
    with pytest.raises(TypeError, match="Bound: stop has to be a function that is not async"):
        Bound(mains.on_a_socket, stop=stop)
