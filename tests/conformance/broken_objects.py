"""Object streams with one defect each, for the checks to find."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from anyio import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    Lock,
    WouldBlock,
    create_memory_object_stream,
    get_cancelled_exc_class,
)
from anyio.lowlevel import checkpoint
from anyio.streams.stapled import StapledObjectStream

from harness.conformance.object_stream import MakeEnds


class Sound(StapledObjectStream):
    """Without a defect, unlike AnyIO's own, which takes ``send_eof`` after ``aclose``."""

    size = 1
    closed = False

    async def send_eof(self):
        if self.closed:
            raise ClosedResourceError
        await super().send_eof()

    async def aclose(self):
        self.closed = True
        await super().aclose()


@contextmanager
def pairs_of(kind: type[StapledObjectStream]) -> Iterator[MakeEnds]:
    """What makes pairs of ``kind``; all that it has made is closed when the block ends."""
    made = []

    async def make():
        size = getattr(kind, "size", 1)
        there, back = create_memory_object_stream(size), create_memory_object_stream(size)
        made.extend((*there, *back))
        return kind(there[0], back[1]), kind(back[0], there[1])

    try:
        yield make
    finally:
        for stream in made:
            stream.close()


# Items


class Alters(Sound):
    async def receive(self):
        return [await super().receive()]


class EndsAtWhatIsFalse(Sound):
    async def receive(self):
        item = await super().receive()
        if not item:
            raise EndOfStream
        return item


class SwapsTwo(Sound):
    """Every tenth item comes after its successor."""

    count = 0
    held = None

    async def send(self, item):
        self.count += 1
        if self.count % 10 == 5:
            self.held = item
            await checkpoint()
            return
        await super().send(item)
        if self.held is not None:
            held, self.held = self.held, None
            await super().send(held)


class LastInFirstOut(Sound):
    size = 100

    async def receive(self):
        self.receive_stream._state.buffer.reverse()
        try:
            return await super().receive()
        finally:
            self.receive_stream._state.buffer.reverse()


class Merges(Sound):
    size = 100

    async def receive(self):
        items = [await super().receive()]
        try:
            while True:
                items.append(self.receive_stream.receive_nowait())
        except (WouldBlock, EndOfStream):
            return items[0] if len(items) == 1 else items


class IterationRaises(Sound):
    async def __anext__(self):
        return await self.receive()


# Who waits lets others run


class DoesNotYield(Sound):
    async def receive(self):
        try:
            return self.receive_stream.receive_nowait()
        except WouldBlock:
            return await super().receive()

    async def send(self, item):
        try:
            self.send_stream.send_nowait(item)
        except WouldBlock:
            await super().send(item)


class SwallowsCancellation(Sound):
    async def receive(self):
        try:
            return await super().receive()
        except get_cancelled_exc_class():
            return None

    async def send(self, item):
        try:
            await super().send(item)
        except get_cancelled_exc_class():
            pass


class IsBrokenByCancellation(Sound):
    broken = False

    async def receive(self):
        if self.broken:
            raise BrokenResourceError
        try:
            return await super().receive()
        except get_cancelled_exc_class():
            self.broken = True
            raise


# One at a time, or many


class LosesWhenCancelled(Sound):
    async def receive(self):
        item = await super().receive()
        await checkpoint()
        return item


class MixesSendersUp(Sound):
    async def send(self, item):
        self.item = item
        await checkpoint()
        await super().send(self.item)


class OneLockForBothDirections(Sound):
    def __init__(self, *streams):
        super().__init__(*streams)
        self.lock = Lock()

    async def receive(self):
        async with self.lock:
            return await super().receive()

    async def send(self, item):
        async with self.lock:
            await super().send(item)


# The end


class TellsTheEndOnce(Sound):
    ended = False

    async def receive(self):
        try:
            return await super().receive()
        except EndOfStream:
            if self.ended:
                raise ClosedResourceError from None
            self.ended = True
            raise


class CloseDoesNotWakeThePeersReceive(Sound):
    async def aclose(self):
        self.closed = True
        if not self.send_stream.statistics().tasks_waiting_receive:
            await self.send_stream.aclose()
        await self.receive_stream.aclose()


class CloseDoesNotWakeThePeersSend(Sound):
    async def aclose(self):
        self.closed = True
        await self.send_stream.aclose()
        if not self.receive_stream.statistics().tasks_waiting_send:
            await self.receive_stream.aclose()


class SendsToAClosedReceiver(Sound):
    async def send(self, item):
        with suppress(BrokenResourceError):
            await super().send(item)


class CloseWaitsForUnreadItems(Sound):
    """With items there that nobody has received, the peer is not told of the close."""

    async def aclose(self):
        self.closed = True
        if not self.receive_stream.statistics().current_buffer_used:
            await self.send_stream.aclose()
        await self.receive_stream.aclose()


class ReceivesAfterClose(Sound):
    async def aclose(self):
        self.closed = True
        await self.send_stream.aclose()
        if not self.receive_stream.statistics().current_buffer_used:
            await self.receive_stream.aclose()


class SendsAfterClose(Sound):
    async def send(self, item):
        await checkpoint()
        if not self.closed:
            await super().send(item)


class ClosesOnce(Sound):
    async def aclose(self):
        if self.closed:
            raise ClosedResourceError
        await super().aclose()


class YieldsBeforeItCloses(Sound):
    async def aclose(self):
        await checkpoint()
        await super().aclose()


class YieldsWhileItCloses(Sound):
    async def aclose(self):
        self.closed = True
        await self.send_stream.aclose()
        await checkpoint()
        await self.receive_stream.aclose()


class CloseDoesNotWakeItsReceive(Sound):
    async def aclose(self):
        self.closed = True
        await self.send_stream.aclose()
        if not self.receive_stream.statistics().tasks_waiting_receive:
            await self.receive_stream.aclose()


class CloseDoesNotWakeItsSend(Sound):
    async def aclose(self):
        self.closed = True
        if not self.send_stream.statistics().tasks_waiting_send:
            await self.send_stream.aclose()
        await self.receive_stream.aclose()


# One direction


class EofDoesNotWake(Sound):
    async def send_eof(self):
        if not self.send_stream.statistics().tasks_waiting_receive:
            await super().send_eof()


class EofDropsItems(Sound):
    async def send_eof(self):
        await super().send_eof()
        self.send_stream._state.buffer.clear()


class EofClosesBothDirections(Sound):
    async def send_eof(self):
        await self.aclose()


class EofIsSentOnce(Sound):
    ended = False

    async def send_eof(self):
        if self.ended:
            raise BrokenResourceError
        self.ended = True
        await super().send_eof()


class SendsAfterEof(Sound):
    async def send(self, item):
        try:
            await super().send(item)
        except ClosedResourceError:
            if self.closed:
                raise


# Cancellation


class SendsAgainAfterCancellation(Sound):
    again = None

    async def send(self, item):
        if self.again is not None:
            again, self.again = self.again, None
            await super().send(again)
        await super().send(item)
        try:
            await checkpoint()
        except get_cancelled_exc_class():
            self.again = item
            raise


class CannotBeClosedAfterCancellation(Sound):
    busy = 0

    async def receive(self):
        self.busy += 1
        item = await super().receive()
        self.busy -= 1
        return item

    async def aclose(self):
        await super().aclose()
        if self.busy:
            raise RuntimeError("somebody still receives")


# Attributes


class HasABrokenAttribute(Sound):
    @property
    def extra_attributes(self):
        def value():
            raise RuntimeError("there is none")

        return {object(): value}


#: A defect for each check to find.
BROKEN: dict[str, type[StapledObjectStream]] = {
    "what_is_sent_is_received": Alters,
    "any_object_is_an_item": EndsAtWhatIsFalse,
    "order_is_kept": SwapsTwo,
    "order_is_kept_in_between": LastInFirstOut,
    "an_item_is_one_object": Merges,
    "iteration_ends": IterationRaises,
    "operations_are_checkpoints": DoesNotYield,
    "a_deadline_that_has_passed": DoesNotYield,
    "a_deadline_that_is_now": IsBrokenByCancellation,
    "a_deadline_ends_a_receive": SwallowsCancellation,
    "a_deadline_ends_a_send": SwallowsCancellation,
    "racing_receivers": LosesWhenCancelled,
    "racing_senders": MixesSendersUp,
    "a_blocked_direction_does_not_block_the_other": OneLockForBothDirections,
    "the_senders_close_ends_the_stream": TellsTheEndOnce,
    "the_senders_close_wakes_receive": CloseDoesNotWakeThePeersReceive,
    "the_receivers_close_breaks_send": SendsToAClosedReceiver,
    "the_receivers_close_wakes_send": CloseDoesNotWakeThePeersSend,
    "a_close_with_unread_items_is_seen": CloseWaitsForUnreadItems,
    "a_closed_stream_does_not_receive": ReceivesAfterClose,
    "a_closed_stream_does_not_send": SendsAfterClose,
    "close_can_be_repeated": ClosesOnce,
    "a_forceful_close_of_the_sender_is_seen": YieldsBeforeItCloses,
    "a_forceful_close_of_the_receiver_is_seen": YieldsBeforeItCloses,
    "a_cancelled_close_closes_both_directions": YieldsWhileItCloses,
    "close_wakes_receive": CloseDoesNotWakeItsReceive,
    "close_wakes_send": CloseDoesNotWakeItsSend,
    "eof_ends_the_peers_receive": EofDropsItems,
    "eof_wakes_the_peers_receive": EofDoesNotWake,
    "eof_leaves_the_other_direction_alone": EofClosesBothDirections,
    "eof_can_be_repeated": EofIsSentOnce,
    "send_after_eof_is_refused": SendsAfterEof,
    "eof_after_close_is_refused": StapledObjectStream,
    "a_cancelled_receive_loses_nothing": LosesWhenCancelled,
    "a_cancelled_send_sends_once_or_not_at_all": SendsAgainAfterCancellation,
    "cancelled_operations_do_not_keep_it_open": CannotBeClosedAfterCancellation,
    "typed_attributes": HasABrokenAttribute,
}
