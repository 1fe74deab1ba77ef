"""Streams whose end is authenticated, with one defect each, for the checks to find.

They are not encrypted. What ends one of them properly is a single byte, which is never sent
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, aclose_forcefully
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint

from harness.conformance.contract import MakePair
from harness.network import MemoryStream, Network

GOODBYE = b"\xff"


class Sound(ByteStream):
    """Without a defect."""

    ended = broken = closed = False

    def __init__(self, below):
        self.below = below

    async def receive(self, max_bytes=65536):
        await checkpoint()
        if self.closed:
            raise ClosedResourceError
        if self.broken:
            raise BrokenResourceError
        if self.ended:
            raise EndOfStream
        try:
            data = await self.below.receive(max_bytes)
        except EndOfStream:
            return self.cut_off()
        if data.endswith(GOODBYE):
            self.ended = True
            data = data[: -len(GOODBYE)]
        return data or await self.receive(max_bytes)

    def cut_off(self):
        self.broken = True
        raise BrokenResourceError

    async def send(self, item):
        if self.closed:
            await checkpoint()
            raise ClosedResourceError
        await self.below.send(item)

    async def send_eof(self):
        raise NotImplementedError

    async def aclose(self):
        if not (self.closed or self.broken):
            with suppress(BrokenResourceError, ClosedResourceError):
                await self.say_goodbye()
        self.closed = True
        await self.below.aclose()

    async def say_goodbye(self):
        await self.below.send(GOODBYE)


def pairs_of(kind: Callable[[ByteStream], ByteStream]) -> MakePair[ByteStream]:
    async def make():
        near, far = Network().pair()
        return kind(MemoryStream(near)), kind(MemoryStream(far))

    return make


async def cut(stream):
    await aclose_forcefully(stream.below)


class TakesACutForAnEnd(Sound):
    def cut_off(self):
        raise EndOfStream


class TellsOfACutOnce(Sound):
    def cut_off(self):
        self.ended = True
        raise BrokenResourceError


class TakesACutForAnEndAfterBytes(Sound):
    some = False

    async def receive(self, max_bytes=65536):
        data = await super().receive(max_bytes)
        self.some = True
        return data

    def cut_off(self):
        if self.some:
            raise EndOfStream
        return super().cut_off()


class IterationStops(Sound):
    async def __anext__(self):
        try:
            return await self.receive()
        except (EndOfStream, BrokenResourceError):
            raise StopAsyncIteration from None


class TakesACutForAnEndWhileItWaits(Sound):
    async def receive(self, max_bytes=65536):
        waits = not self.below._socket.readable
        try:
            return await super().receive(max_bytes)
        except BrokenResourceError:
            if waits:
                raise EndOfStream from None
            raise


class SendRaisesAnEnd(Sound):
    async def send(self, item):
        try:
            await super().send(item)
        except BrokenResourceError:
            raise EndOfStream from None


class CloseRaisesAnEnd(Sound):
    async def aclose(self):
        broken, self.broken = self.broken, False
        await super().aclose()
        if broken or self.below._socket._reset:
            raise EndOfStream


class ClosesWithoutAGoodbye(Sound):
    async def say_goodbye(self):
        await checkpoint()


class NeedsTheLastWord(Sound):
    async def say_goodbye(self):
        await super().say_goodbye()
        while True:
            await self.below.receive()


#: A defect for each check to find.
BROKEN: dict[str, type[Sound]] = {
    "a_cut_is_no_end": TellsOfACutOnce,
    "a_cut_after_bytes_is_no_end": TakesACutForAnEndAfterBytes,
    "a_cut_wakes_receive": TakesACutForAnEndWhileItWaits,
    "a_cut_is_raised_by_iteration": IterationStops,
    "a_cut_breaks_send": SendRaisesAnEnd,
    "a_stream_that_is_cut_off_can_be_closed": CloseRaisesAnEnd,
    "a_close_is_an_end": ClosesWithoutAGoodbye,
    "both_close": NeedsTheLastWord,
}
