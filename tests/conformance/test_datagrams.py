"""AnyIO's datagram sockets keep what they promise, but for the differences that are known."""

from __future__ import annotations

import functools
import itertools
import os
import socket
import tempfile

import anyio
import pytest
from anyio import abc
from broken_datagrams import BROKEN, Sound, SoundAndConnected, pairs_of
from known import expect_found, held_to, known_of

from harness.conformance import check_datagram_socket, datagram_checks

pytestmark = [
    pytest.mark.harness(),
    pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no unix-domain sockets here"),
]

numbers = itertools.count()


async def udp():
    return [await anyio.create_udp_socket(local_host="127.0.0.1") for _ in range(2)]


async def udp_connected():
    raw = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for each in raw:
        each.bind(("127.0.0.1", 0))
    raw[0].connect(raw[1].getsockname())
    raw[1].connect(raw[0].getsockname())
    return [await abc.ConnectedUDPSocket.from_socket(each) for each in raw]


async def udp_to_another():
    there = await anyio.create_udp_socket(local_host="127.0.0.1")
    host, port = there.extra(abc.SocketAttribute.local_address)
    return await anyio.create_connected_udp_socket(host, port, local_host="127.0.0.1"), there


async def unix(directory):
    paths = [os.path.join(directory, str(next(numbers))) for _ in range(2)]
    return [await anyio.create_unix_datagram_socket(local_path=path) for path in paths]


async def unix_connected(directory):
    raw = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return [await abc.ConnectedUNIXDatagramSocket.from_socket(each) for each in raw]


async def unix_to_another(directory):
    here, path = (os.path.join(directory, str(next(numbers))) for _ in range(2))
    there = await anyio.create_unix_datagram_socket(local_path=path)
    near = await anyio.create_connected_unix_datagram_socket(path, local_path=here)
    return near, there


SUBJECTS = {
    each.__name__.replace("_", "-"): each
    for each in (
        udp,
        udp_connected,
        udp_to_another,
        unix,
        unix_connected,
        unix_to_another,
    )
}


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("check", datagram_checks(), ids=str)
async def test_a_datagram_socket(check, subject, anyio_backend, request):
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as directory:

        async def make_pair():
            make = SUBJECTS[subject]
            return await (make(directory) if subject.startswith("unix") else make())

        known = known_of("datagrams", check, subject)
        await held_to(request, known, functools.partial(check, make_pair))


@pytest.mark.parametrize("check", datagram_checks(), ids=str)
async def test_each_check_finds_a_socket_that_breaks_its_promise(
    check, anyio_backend, virtual_clock
):
    with pairs_of(BROKEN[check.name]) as make_pair:
        await expect_found(check, make_pair)


@pytest.mark.parametrize("kind", [Sound, SoundAndConnected])
async def test_a_sound_socket_passes(kind, anyio_backend, virtual_clock):
    with pairs_of(kind) as make_pair:
        await check_datagram_socket(make_pair)
