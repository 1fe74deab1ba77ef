"""TLS streams tell a truncation from an end, if they are asked to."""

from __future__ import annotations

import functools

import anyio
import pytest
from anyio import create_task_group
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSStream
from broken_truncations import BROKEN, Sound, cut, pairs_of
from known import expect_found, held_to, known_of

from harness.conformance import check_truncation, truncation_checks
from harness.network import MemoryStream, Network
from harness.transports.tls import authority

pytestmark = pytest.mark.harness()


async def over_tcp():
    listener = (await anyio.create_tcp_listener(local_host="127.0.0.1")).listeners[0]
    async with listener:
        near = await anyio.connect_tcp(*listener.extra(SocketAttribute.local_address))
        return near, await listener.accept()


async def over_memory():
    return tuple(MemoryStream(socket) for socket in Network().pair())


def tls(below, standard_compatible):
    async def make():
        near, far = await below()
        made = {}

        async def wrap(name, stream, **options):
            made[name] = await TLSStream.wrap(
                stream, standard_compatible=standard_compatible, **options
            )

        client = {"ssl_context": authority().client_context, "hostname": "127.0.0.1"}
        server = {"ssl_context": authority().server_context, "server_side": True}
        async with create_task_group() as group:
            group.start_soon(functools.partial(wrap, "near", near, **client))
            group.start_soon(functools.partial(wrap, "far", far, **server))
        return made["near"], made["far"]

    return make


async def cut_tls(stream):
    await stream.transport_stream.aclose()


SUBJECTS = {
    "tls-over-tcp": tls(over_tcp, True),
    "tls-over-memory": tls(over_memory, True),
    "not-standard": tls(over_memory, False),
}


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("check", truncation_checks(), ids=str)
async def test_a_tls_stream(check, subject, anyio_backend, request):
    known = known_of("truncations", check, subject)
    await held_to(request, known, functools.partial(check, SUBJECTS[subject], cut_tls))


@pytest.mark.parametrize("check", truncation_checks(), ids=str)
async def test_each_check_finds_a_stream_that_breaks_its_promise(
    check, anyio_backend, virtual_clock
):
    await expect_found(check, pairs_of(BROKEN[check.name]), cut)


async def test_a_sound_stream_passes(anyio_backend, virtual_clock):
    await check_truncation(pairs_of(Sound), cut)
