"""Streams of other packages, over the in-memory transport, which keeps every promise itself.

What fails here is theirs.
"""

import functools
from contextlib import contextmanager

import httpcore
import pytest
from anyio import EndOfStream
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteStream
from anyio.streams.stapled import StapledByteStream
from httpcore._backends.anyio import AnyIOStream
from known import held_to, known_of
from python_socks.async_.anyio.v2._stream import AnyioSocketStream

from harness.conformance import byte_stream_checks, half_close_checks


class Adapted(ByteStream):
    """A stream with `read` and `write`, where no bytes are the end, as AnyIO's.

    It adds nothing: what AnyIO promises has to come from what is below.
    """

    async def receive(self, max_bytes=65536):
        data = await self.read(max_bytes)
        if not data:
            raise EndOfStream
        return data

    async def send(self, item):
        await self.write(item)

    async def send_eof(self):
        raise NotImplementedError

    @property
    def extra_attributes(self):
        return self.below.extra_attributes


@contextmanager
def causes():
    """httpcore's exceptions have AnyIO's as their causes."""
    try:
        yield
    except (httpcore.ReadError, httpcore.WriteError) as exc:
        raise exc.__cause__ from None


class OfHttpcore(Adapted):
    def __init__(self, below):
        self.below = below
        self.stream = AnyIOStream(below)

    async def read(self, max_bytes):
        with causes():
            return await self.stream.read(max_bytes)

    async def write(self, data):
        with causes():
            await self.stream.write(data)

    async def aclose(self):
        await self.stream.aclose()


class OfSocks(Adapted):
    def __init__(self, below):
        self.below = below
        self.stream = AnyioSocketStream(below)
        self.read, self.write, self.aclose = (
            self.stream.read,
            self.stream.write,
            self.stream.close,
        )

    async def aclose(self): ...  # the class has to have one; the instance's is the stream's


async def wrapped(harness, wrap):
    first, second = await harness.pair()
    return wrap(first), wrap(second)


async def stapled(harness, _):
    """Two pairs, each used one way."""
    there, back = await harness.pair(), await harness.pair()
    return StapledByteStream(there[0], back[1]), StapledByteStream(back[0], there[1])


STREAMS = {
    "httpcore": (wrapped, OfHttpcore),
    "python-socks": (wrapped, OfSocks),
    "buffered": (wrapped, BufferedByteStream),
    "stapled": (stapled, None),
}
CHECKS = [
    *((stream, check) for check in byte_stream_checks() for stream in STREAMS),
    *((stream, check) for check in half_close_checks() for stream in ("buffered", "stapled")),
]


@pytest.mark.harness(transports=["memory"])
@pytest.mark.parametrize(("stream", "check"), CHECKS, ids=str)
async def test_what_a_stream_promises(stream, check, harness, virtual_clock, request):
    make, argument = STREAMS[stream]

    async def make_pair():
        return await make(harness, argument)

    known = known_of("wrapped", check, stream)
    await held_to(request, known, functools.partial(check, make_pair))
