"""AnyIO's object streams keep what they promise, but for the differences that are known."""

from __future__ import annotations

import functools
import math

import pytest
from anyio import create_memory_object_stream
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from anyio.lowlevel import checkpoint
from anyio.streams.stapled import StapledObjectStream
from anyio.streams.text import TextStream
from broken_objects import BROKEN, Sound, pairs_of
from known import expect_found, held_to, known_of

from harness.conformance import check_object_stream, object_stream_checks
from harness.network import MemoryStream, Network

pytestmark = pytest.mark.harness()


def memory(size):
    async def make():
        return create_memory_object_stream(size)

    return make


def stapled(size):
    async def make():
        there, back = create_memory_object_stream(size), create_memory_object_stream(size)
        return StapledObjectStream(there[0], back[1]), StapledObjectStream(back[0], there[1])

    return make


class ClosingSlowly(ObjectSendStream, ObjectReceiveStream):
    """Half of a stream, whose close is a checkpoint as that of every socket is."""

    def __init__(self, half):
        self.half = half

    async def send(self, item):
        await self.half.send(item)

    async def receive(self):
        return await self.half.receive()

    async def aclose(self):
        await self.half.aclose()
        await checkpoint()


async def text_over_objects():
    return tuple(TextStream(stream) for stream in await stapled(0)())


async def text_over_bytes():
    return tuple(TextStream(MemoryStream(socket)) for socket in Network().pair())


SUBJECTS = {
    "memory-0": {"make_pair": memory(0)},
    "memory-1": {"make_pair": memory(1)},
    "memory-100": {"make_pair": memory(100)},
    "memory-inf": {"make_pair": memory(math.inf)},
    "stapled-0": {"make_pair": stapled(0)},
    "stapled-100": {"make_pair": stapled(100)},
    "text": {"make_pair": text_over_objects, "make_item": "item {}".format},
    "text-over-bytes": {"make_pair": text_over_bytes, "make_item": "item {}".format},
}


def concerns(check, subject):
    if subject == "text-over-bytes":  # without boundaries, most others cannot be kept
        return check.name == "an_item_is_one_object"
    if subject == "text" and check.name == "any_object_is_an_item":
        return False
    return not (check.two_way and subject.startswith("memory"))


@pytest.mark.parametrize(
    ("check", "subject"),
    [
        pytest.param(check, subject, id=f"{check}-{subject}")
        for check in object_stream_checks()
        for subject in SUBJECTS
        if concerns(check, subject)
    ],
)
async def test_an_object_stream(check, subject, anyio_backend, request):
    known = known_of("objects", check, subject)
    await held_to(request, known, functools.partial(check, **SUBJECTS[subject]))


@pytest.mark.parametrize(
    "check",
    [each for each in object_stream_checks() if "close" in each.name and "eof" not in each.name],
    ids=str,
)
async def test_a_stapled_stream_whose_halves_close_slowly(
    check, anyio_backend, virtual_clock, request
):
    """In virtual time, as what is left open keeps others waiting; and closed here, for that."""
    halves = []

    async def make_pair():
        there, back = create_memory_object_stream(1), create_memory_object_stream(1)
        halves.extend((*there, *back))
        return (
            StapledObjectStream(ClosingSlowly(there[0]), ClosingSlowly(back[1])),
            StapledObjectStream(ClosingSlowly(back[0]), ClosingSlowly(there[1])),
        )

    known = known_of("objects", check, "closing-slowly")
    try:
        await held_to(request, known, functools.partial(check, make_pair))
    finally:
        for half in halves:
            half.close()


@pytest.mark.parametrize("check", object_stream_checks(), ids=str)
async def test_each_check_finds_a_stream_that_breaks_its_promise(
    check, anyio_backend, virtual_clock
):
    with pairs_of(BROKEN[check.name]) as make_pair:
        await expect_found(check, make_pair)


async def test_a_sound_stream_passes(anyio_backend, virtual_clock):
    with pairs_of(Sound) as make_pair:
        await check_object_stream(make_pair)
