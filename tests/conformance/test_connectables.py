"""Connectables keep what AnyIO promises of them, but for the differences that are known."""

from __future__ import annotations

import functools
import socket
import ssl
from contextlib import asynccontextmanager
from unittest import SkipTest

import anyio
import pytest
from anyio import BrokenResourceError, TCPConnectable, UNIXConnectable, aclose_forcefully
from anyio.streams.tls import TLSConnectable, TLSListener
from broken_connectables import BROKEN, Sound, connectables_of
from known import expect_found, held_to, known_of

from harness.conformance import PromiseBroken, check_connectable, connectable_checks
from harness.settling import settle
from harness.transports.temporary import make_directory, remove_directory
from harness.transports.tls import authority

pytestmark = pytest.mark.harness()

#: Seconds for what does not end.
LONG_ENOUGH = 3

needs_unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no unix-domain sockets")


async def echo(stream):
    try:
        async for data in stream:
            await stream.send(data)
    except BrokenResourceError:
        pass
    finally:
        await aclose_forcefully(stream)


@asynccontextmanager
async def served(listener, handler=echo):
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handler)
        yield
        await settle()  # the handlers have seen the end of their connections, and closed them
        group.cancel_scope.cancel()


def connectable(what):
    async def make():
        return what

    return make


def bound(stack, family, address):
    """A socket that has an address, and does not listen."""
    made = stack.enter_context(socket.socket(family))
    made.bind(address)
    return made


@asynccontextmanager
async def tcp():
    with socket.socket() as nobody, socket.socket() as full, socket.socket() as waits:
        listener = (await anyio.create_tcp_listener(local_host="127.0.0.1")).listeners[0]
        for each in (nobody, full):
            each.bind(("127.0.0.1", 0))
        full.listen(0)
        waits.connect(full.getsockname())
        address = listener.extra(anyio.abc.SocketAttribute.local_address)
        async with served(listener):
            yield (
                {
                    "make_connectable": connectable(TCPConnectable(*address)),
                    "refusing": connectable(TCPConnectable(*nobody.getsockname())),
                    "hanging": connectable(TCPConnectable(*full.getsockname())),
                },
                full,
            )


@asynccontextmanager
async def unix():
    directory = make_directory("a test")
    try:
        with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as waits:
            full.bind(f"{directory}/full")
            full.listen(0)
            waits.connect(f"{directory}/full")
            async with served(await anyio.create_unix_listener(f"{directory}/s")):
                yield (
                    {
                        "make_connectable": connectable(UNIXConnectable(f"{directory}/s")),
                        "refusing": connectable(UNIXConnectable(f"{directory}/nobody")),
                        "hanging": connectable(UNIXConnectable(f"{directory}/full")),
                    },
                    full,
                )
    finally:
        remove_directory(directory)


def tls(standard_compatible):
    options = {
        "hostname": "127.0.0.1",
        "ssl_context": authority().client_context,
        "standard_compatible": standard_compatible,
    }

    @asynccontextmanager
    async def made():
        with socket.socket() as nobody, socket.socket() as silent:
            tcp = (await anyio.create_tcp_listener(local_host="127.0.0.1")).listeners[0]
            for each in (nobody, silent):
                each.bind(("127.0.0.1", 0))
            silent.listen()
            address = tcp.extra(anyio.abc.SocketAttribute.local_address)
            context = authority().server_context
            listener = TLSListener(tcp, context, standard_compatible=standard_compatible)
            async with served(listener):
                yield (
                    {
                        name: connectable(TLSConnectable(TCPConnectable(*where), **options))
                        for name, where in (
                            ("make_connectable", address),
                            ("refusing", nobody.getsockname()),
                            ("hanging", silent.getsockname()),
                        )
                    },
                    silent,
                )

    return made


SUBJECTS = {
    "tcp": tcp,
    "unix": unix,
    "tls": tls(True),
    "not-standard": tls(False),
}


@pytest.mark.parametrize(
    "subject", [pytest.param(name, marks=needs_unix if name == "unix" else ()) for name in SUBJECTS]
)
@pytest.mark.parametrize("check", connectable_checks(), ids=str)
async def test_a_connectable(check, subject, anyio_backend, request):
    known = known_of("connectables", check, subject)

    async def run():
        async with SUBJECTS[subject]() as (given, hanging), anyio.create_task_group() as group:
            if known is not None and known.unending:
                if "busy" not in check.name:  # that one needs its turns, and sees it without
                    given["timeout"] = LONG_ENOUGH
                group.start_soon(end, hanging)
            outcome = await outcome_of(functools.partial(check, **given))
            group.cancel_scope.cancel()
        if outcome is not None:
            raise outcome

    await held_to(request, known, run)


async def end(listening):
    """What cannot be cancelled ends when nobody listens any more."""
    await anyio.sleep(3 * LONG_ENOUGH)
    listening.close()


async def outcome_of(check):
    """What it raises, to be raised outside of all task groups: none puts it into a group then."""
    try:
        await check()
    except (PromiseBroken, SkipTest) as exc:
        return exc


async def hang_up(stream):
    await stream.aclose()


async def speak_plainly(stream):
    try:
        await stream.send(b"220 this is no TLS")
    finally:
        await aclose_forcefully(stream)


FAILING = {
    # what is at the other end, and what the client trusts
    "untrusted": (None, ssl.create_default_context),
    "hung-up": (hang_up, lambda: authority().client_context),
    "no-tls": (speak_plainly, lambda: authority().client_context),
}


@pytest.mark.parametrize("subject", FAILING)
@pytest.mark.parametrize(
    "check", [each for each in connectable_checks() if "refused" in each.name], ids=str
)
async def test_a_connectable_whose_handshake_fails(check, subject, anyio_backend, request):
    """A connection that fails above the system's socket has failed, too."""
    known = known_of("connectables", check, subject)
    handler, make_context = FAILING[subject]
    listener = (await anyio.create_tcp_listener(local_host="127.0.0.1")).listeners[0]
    address = listener.extra(anyio.abc.SocketAttribute.local_address)
    if handler is None:
        handler, listener = echo, TLSListener(listener, authority().server_context)
    context = make_context()
    failing = connectable(
        TLSConnectable(TCPConnectable(*address), hostname="127.0.0.1", ssl_context=context)
    )

    async def run():
        async with served(listener, handler):
            outcome = await outcome_of(functools.partial(check, failing, refusing=failing))
        if outcome is not None:
            raise outcome

    await held_to(request, known, run)


@pytest.mark.harness(transports=["tcp", "unix", "tls", "memory"])
@pytest.mark.parametrize("check", connectable_checks(), ids=str)
async def test_a_server(check, harness):
    """A server of the harness is a connectable, too, and nothing is known against it."""
    server, stopped = await harness.serve(echo), await harness.serve(echo)
    await stopped.stop()
    await check(connectable(server), refusing=connectable(stopped))


@pytest.mark.parametrize("check", connectable_checks(), ids=str)
async def test_each_check_finds_a_connectable_that_breaks_its_promise(
    check, anyio_backend, virtual_clock
):
    async with connectables_of(BROKEN[check.name]) as given:
        await expect_found(check, **given)


async def test_a_sound_connectable_passes(anyio_backend, virtual_clock):
    async with connectables_of(Sound) as given:
        await check_connectable(**given)
