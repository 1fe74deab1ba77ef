"""Listeners keep what AnyIO promises of them, but for the differences that are known."""

from __future__ import annotations

import functools
import itertools
import socket
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio import abc
from anyio.streams.stapled import MultiListener
from anyio.streams.tls import TLSListener
from broken_listeners import BROKEN, Sound, listeners_of
from known import expect_found, held_to, known_of

from harness.conformance import check_listener, listener_checks
from harness.network import MemoryListener, MemoryStream, Network
from harness.transports.temporary import make_directory, remove_directory
from harness.transports.tls import authority

pytestmark = [
    pytest.mark.harness(),
    pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no unix-domain sockets here"),
]


class Subject:
    """A kind of listener, and how to connect to it, while ``ready`` is entered."""

    @asynccontextmanager
    async def ready(self):
        yield self.make_listener, self.connect


class TCP(Subject):
    def __init__(self):
        self.addresses = {}

    async def make_listener(self):
        listener = (await anyio.create_tcp_listener(local_host="127.0.0.1")).listeners[0]
        self.addresses[listener] = listener.extra(abc.SocketAttribute.local_address)
        return listener

    async def connect(self, listener):
        return await anyio.connect_tcp(*self.addresses[listener])


class Unix(Subject):
    @asynccontextmanager
    async def ready(self):
        self.paths = {}
        self.directory = make_directory("a test")
        try:
            yield self.make_listener, self.connect
        finally:
            remove_directory(self.directory)

    async def make_listener(self):
        path = f"{self.directory}/{len(self.paths)}"
        listener = await anyio.create_unix_listener(path)
        self.paths[listener] = path
        return listener

    async def connect(self, listener):
        return await anyio.connect_unix(self.paths[listener])


class TLS(TCP):
    def __init__(self, standard_compatible):
        super().__init__()
        self.standard_compatible = standard_compatible

    async def make_listener(self):
        return TLSListener(
            await super().make_listener(),
            authority().server_context,
            standard_compatible=self.standard_compatible,
        )

    async def connect(self, listener):
        return await anyio.connect_tcp(
            *self.addresses[listener.listener],
            ssl_context=authority().client_context,
            tls_standard_compatible=self.standard_compatible,
        )


class Multi(TCP):
    def __init__(self):
        super().__init__()
        self.turns = itertools.count()

    async def make_listener(self):
        return MultiListener([await super(Multi, self).make_listener() for _ in range(3)])

    async def connect(self, listener):
        each = listener.listeners
        return await super().connect(each[next(self.turns) % len(each)])


class Memory(Subject):
    def __init__(self):
        self.network = Network()
        self.addresses = {}

    async def make_listener(self):
        listening = self.network.listen()
        listener = MemoryListener(listening)
        self.addresses[listener] = listening.address
        return listener

    async def connect(self, listener):
        return MemoryStream(self.network.connect(self.addresses[listener]))


SUBJECTS = {
    "tcp": TCP,
    "unix": Unix,
    "tls": lambda: TLS(True),
    "not-standard": lambda: TLS(False),
    "multi": Multi,
    "memory": Memory,
}


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("check", listener_checks(), ids=str)
async def test_a_listener(check, subject, anyio_backend, request):
    known = known_of("listeners", check, subject)
    async with SUBJECTS[subject]().ready() as (make_listener, connect):
        await held_to(request, known, functools.partial(check, make_listener, connect))


@pytest.mark.parametrize("check", listener_checks(), ids=str)
async def test_each_check_finds_a_listener_that_breaks_its_promise(
    check, anyio_backend, virtual_clock
):
    async with listeners_of(BROKEN[check.name]) as (make_listener, connect):
        await expect_found(check, make_listener, connect)


async def test_a_sound_listener_passes(anyio_backend, virtual_clock):
    async with listeners_of(Sound) as (make_listener, connect):
        await check_listener(make_listener, connect)
