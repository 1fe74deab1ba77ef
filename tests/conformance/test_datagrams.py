"""AnyIO's datagram sockets keep what they promise, but for the differences that are listed here."""

from __future__ import annotations

import itertools
import os
import socket
import sys
import tempfile

import anyio
import pytest
from anyio import abc
from broken_datagrams import BROKEN, Sound, SoundAndConnected, pairs_of
from known import expect_difference, expect_found

from harness.conformance import check_datagram_socket, datagram_checks

pytestmark = [
    pytest.mark.harness(),
    pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no unix-domain sockets here"),
]

#: (check, subject, backend or "*" for all of them) -> what the subject does instead.
DIFFERENCES: dict[tuple[str, str, str], str] = {}
UDP = ("udp", "udp-connected", "udp-connected-to-another")
UNIX = ("unix", "unix-connected", "unix-connected-to-another")

for subject in UDP:
    for backend in ("asyncio", "uvloop"):
        DIFFERENCES["a_closed_socket_does_not_receive", subject, backend] = (
            "receive() after aclose() returns a datagram that was there before "
            "(anyio/_backends/_asyncio.py, UDPSocket.receive, ConnectedUDPSocket.receive)"
        )
    DIFFERENCES["an_empty_datagram", subject, "uvloop"] = (
        "send(b'') sends nothing (uvloop/handles/udp.pyx, UDPTransport.sendto)"
    )
    if sys.version_info < (3, 13):
        DIFFERENCES["an_empty_datagram", subject, "asyncio"] = (
            "send(b'') sends nothing before Python 3.13 "
            "(asyncio/selector_events.py, _SelectorDatagramTransport.sendto)"
        )
for subject in UNIX:
    DIFFERENCES["a_very_long_datagram_arrives_whole_or_not_at_all", subject, "*"] = (
        "receive() cuts a datagram off after 65536 bytes, without a word (anyio/_backends/"
        "_asyncio.py and _trio.py, UNIXDatagramSocket.receive, ConnectedUNIXDatagramSocket.receive)"
    )
    for backend in ("asyncio", "uvloop"):
        DIFFERENCES["a_cancelled_receive_loses_nothing", subject, backend] = (
            "InvalidStateError in the event loop when a receive() is cancelled as its socket "
            "becomes readable (anyio/_backends/_asyncio.py, _RawSocketMixin._wait_until_readable)"
        )
DIFFERENCES["a_blocked_send_does_not_keep_the_loop_busy", "unix", "*"] = (
    "a send() to a peer whose queue is full tries again and again: an unconnected socket is always "
    "writable (anyio/_backends/_asyncio.py and _trio.py, UNIXDatagramSocket.send)"
)
DIFFERENCES["a_blocked_send_can_be_cancelled", "unix", "uvloop"] = (
    "a send() to a peer whose queue is full is never cancelled: whenever that is tried, the socket "
    "has just become writable (anyio/_backends/_asyncio.py, CancelScope._deliver_cancellation)"
)
DIFFERENCES["a_blocked_send_can_be_cancelled", "unix", "asyncio"] = (
    "InvalidStateError in the event loop when a send() to a peer whose queue is full is cancelled "
    "(anyio/_backends/_asyncio.py, _RawSocketMixin._wait_until_writable)"
)
DIFFERENCES["close_wakes_send", "unix", "asyncio"] = (
    "InvalidStateError in the event loop when a socket is closed during a send() to a peer whose "
    "queue is full (anyio/_backends/_asyncio.py, _RawSocketMixin.aclose, _wait_until_writable)"
)


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


async def udp_connected_to_another():
    there = await anyio.create_udp_socket(local_host="127.0.0.1")
    host, port = there.extra(abc.SocketAttribute.local_address)
    return await anyio.create_connected_udp_socket(host, port, local_host="127.0.0.1"), there


async def unix(directory):
    paths = [os.path.join(directory, str(next(numbers))) for _ in range(2)]
    return [await anyio.create_unix_datagram_socket(local_path=path) for path in paths]


async def unix_connected(directory):
    raw = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return [await abc.ConnectedUNIXDatagramSocket.from_socket(each) for each in raw]


async def unix_connected_to_another(directory):
    here, path = (os.path.join(directory, str(next(numbers))) for _ in range(2))
    there = await anyio.create_unix_datagram_socket(local_path=path)
    near = await anyio.create_connected_unix_datagram_socket(path, local_path=here)
    return near, there


SUBJECTS = {
    each.__name__.replace("_", "-"): each
    for each in (
        udp,
        udp_connected,
        udp_connected_to_another,
        unix,
        unix_connected,
        unix_connected_to_another,
    )
}


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("check", datagram_checks(), ids=str)
async def test_a_datagram_socket(check, subject, anyio_backend, request):
    expect_difference(request, DIFFERENCES, check, subject)
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as directory:

        async def make_pair():
            make = SUBJECTS[subject]
            return await (make(directory) if subject.startswith("unix") else make())

        await check(make_pair)


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
