"""Servers of datagrams: UDP, unix datagrams and datagrams in memory, under the same rules."""

from __future__ import annotations

from unittest import SkipTest

import anyio
import pytest
from anyio import BrokenResourceError, ConnectionFailed
from anyio.abc import SocketAttribute

from harness import Harness, open_harness
from harness.adapters import Datagram
from harness.conformance import check_datagram_socket, datagram_checks
from harness.network import ConnectedMemoryDatagramSocket, MemoryDatagramSocket, Network
from harness.network.datagrams import LONGEST, OVERHEAD, QUEUE_SIZE

DATAGRAMS = ["tcp", "tcp6", "unix", "memory"]
pytestmark = pytest.mark.harness(transports=DATAGRAMS)


async def shout(socket):
    async for data, peer in socket:
        await socket.send((data.upper(), peer))


async def test_a_client(harness: Harness):
    server = await harness.serve(Datagram(shout))
    assert server.name == "shout"
    first, second = [await server.datagram_client() for _ in range(2)]
    for client, word in ((first, b"one"), (second, b"two"), (first, b"three")):
        await client.send(word)
        assert await client.receive() == word.upper()
    assert first.extra(SocketAttribute.remote_address) == server.address


async def test_the_same_address_after_a_restart(harness: Harness):
    server = await harness.serve(Datagram(shout))
    address = server.address
    await server.stop()
    with pytest.raises(ConnectionFailed, match="is stopped"):
        await server.datagram_client()
    await server.restart()
    assert server.address == address
    client = await server.datagram_client()
    await client.send(b"again")
    assert await client.receive() == b"AGAIN"


async def test_a_crash_is_the_tests(harness: Harness):
    async def crash(socket):
        await socket.receive()
        raise LookupError("the handler crashed")

    with pytest.raises(LookupError, match="the handler crashed") as caught:
        async with open_harness(transport=harness.transport.name) as inner:
            server = await inner.serve(Datagram(crash))
            await (await server.datagram_client()).send(b"x")
            await anyio.sleep_forever()
    assert caught.traceback[-1].name == "crash"


def test_a_handler_that_takes_what_it_should_receive():
    async def handler(data, address):
        raise AssertionError

    message = r"calls the handler with a socket, once, and handler\(data, address\) does not take"
    with pytest.raises(TypeError, match=message):
        Datagram(handler)


async def test_it_has_no_connections(harness: Harness):
    server = await harness.serve(Datagram(shout))
    with pytest.raises(ConnectionFailed, match=r"it serves datagrams; use datagram_client\(\)"):
        await server.connect()
    with pytest.raises(TypeError, match=r"a proxy passes streams on, and .* serves datagrams"):
        await harness.proxy(server)
    assert server.connections == []


async def test_a_server_of_connections_has_no_datagrams(harness: Harness):
    async def handler(stream):
        pass

    server = await harness.serve(handler)
    with pytest.raises(TypeError, match=r"serves connections, and no datagrams; use connect\(\)"):
        await server.datagram_client()


@pytest.mark.harness(transports=["tls"])
async def test_over_tls_it_is_skipped(harness: Harness):
    with pytest.raises(SkipTest, match="shout serves datagrams, and transport 'tls' has none"):
        await harness.serve(Datagram(shout))
    with pytest.raises(ValueError, match="transport 'tls' has none"):
        await harness.serve(Datagram(shout), transport="tls")


@pytest.mark.harness(transports=["memory"])
async def test_in_virtual_time(harness: Harness, virtual_clock):
    async def late(socket):
        data, peer = await socket.receive()
        await anyio.sleep(60)
        await socket.sendto(data, *peer)

    client = await (await harness.serve(Datagram(late))).datagram_client()
    await client.send(b"x")
    assert await client.receive() == b"x"
    assert virtual_clock.now == 60


# In memory


NETWORK = Network()


async def unconnected():
    return [MemoryDatagramSocket(NETWORK.datagram_socket()) for _ in range(2)]


async def connected():
    there, here = (NETWORK.datagram_socket() for _ in range(2))
    there.peer, here.peer = here.address, there.address
    return [ConnectedMemoryDatagramSocket(each) for each in (there, here)]


async def to_another():
    there = NETWORK.datagram_socket()
    here = NETWORK.datagram_socket(peer=there.address)
    return ConnectedMemoryDatagramSocket(here), MemoryDatagramSocket(there)


@pytest.mark.harness
@pytest.mark.parametrize("make_pair", [unconnected, connected, to_another])
@pytest.mark.parametrize("check", datagram_checks(), ids=str)
async def test_what_the_sockets_promise(check, make_pair, anyio_backend):
    await check(make_pair)


@pytest.mark.harness
async def test_all_of_it_at_once(anyio_backend):
    await check_datagram_socket(unconnected)


@pytest.mark.harness
async def test_what_does_not_fit_is_lost(anyio_backend):
    first, second = await unconnected()
    address = second.extra(SocketAttribute.local_address)
    fit = QUEUE_SIZE // (1000 + OVERHEAD)
    for number in range(fit + 5):
        await first.send((number.to_bytes(2, "big") * 500, address))
    for number in range(fit):
        assert (await second.receive())[0][:2] == number.to_bytes(2, "big")
    await first.send((b"after", address))
    assert (await second.receive())[0] == b"after"
    with pytest.raises(BrokenResourceError):
        await first.send((bytes(LONGEST + 1), address))
    await first.send((b"to nobody", ("127.1.0.1", 1)))
    await first.aclose()
    await second.aclose()


@pytest.mark.harness
async def test_a_connected_one_hears_nobody_else(anyio_backend):
    network = Network()
    there, stranger = (MemoryDatagramSocket(network.datagram_socket()) for _ in range(2))
    peer = there.extra(SocketAttribute.local_address)
    here = ConnectedMemoryDatagramSocket(network.datagram_socket(peer=peer))
    address = here.extra(SocketAttribute.local_address)
    await stranger.send((b"stranger", address))
    await there.send((b"friend", address))
    assert await here.receive() == b"friend"
    for each in (there, stranger, here):
        await each.aclose()


def test_an_address_belongs_to_one():
    network = Network()
    first = network.datagram_socket()
    with pytest.raises(OSError, match="is already in use"):
        network.datagram_socket(first.address)
    first.close()
    network.datagram_socket(first.address).close()


async def test_a_handler_that_has_returned(harness: Harness):
    async def once(socket):
        data, peer = await socket.receive()
        await socket.send((data, peer))

    server = await harness.serve(Datagram(once), name="once")
    client = await server.datagram_client()
    words = "- server 'once'\n    has ended because its handler has returned"
    assert words not in harness.dump()
    await client.send(b"x")
    assert await client.receive() == b"x"
    await harness.settle()
    assert words in harness.dump()
    with pytest.raises(ConnectionFailed, match="has ended because its handler has returned; rest"):
        await server.datagram_client()
    await server.restart()
    assert words not in harness.dump()
    await server.stop()
    assert words not in harness.dump()


async def test_a_handler_that_has_failed_as_expected(harness: Harness):
    async def fails(socket):
        await socket.receive()
        raise LookupError

    server = await harness.serve(Datagram(fails), name="fails", expect=LookupError)
    await (await server.datagram_client()).send(b"x")
    await harness.settle()
    assert "- server 'fails'\n    has ended by itself" in harness.dump()
