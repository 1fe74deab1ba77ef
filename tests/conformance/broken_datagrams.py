"""Datagram sockets with one defect each, for the checks to find."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

from anyio import (
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    ResourceGuard,
    WouldBlock,
    create_memory_object_stream,
    get_cancelled_exc_class,
)
from anyio.abc import SocketAttribute, UnreliableObjectStream
from anyio.lowlevel import checkpoint

from harness.conformance.contract import MakePair

addresses = itertools.count(1)


class Sound(UnreliableObjectStream):
    """A socket in memory, without a defect: a queue at an address, and doors to those of others."""

    connected = False
    size = 10
    closed = False

    def __init__(self, network):
        self.network = network
        self.address = ("here", next(addresses))
        self.door, self.inbox = create_memory_object_stream(self.size)
        self.doors = {}
        self.peer = None
        self.receiving, self.sending = ResourceGuard("reading from"), ResourceGuard("writing to")
        network[self.address] = self

    async def receive(self):
        with self.receiving:
            data, address = await self.take()
            return data if self.connected else (data, address)

    async def take(self):
        return await self.inbox.receive()

    async def send(self, item):
        data, there = (item, self.peer) if self.connected else item
        with self.sending:
            await self.put(data, there)

    async def put(self, data, there):
        if self.closed:
            await checkpoint()
            raise ClosedResourceError
        if there not in self.doors:
            self.doors[there] = self.network[there].door.clone()
        await self.doors[there].send((data, self.address))

    async def aclose(self):
        self.close()
        await checkpoint()

    def close(self):
        self.closed = True
        for stream in (*self.doors.values(), self.door, self.inbox):
            stream.close()

    @property
    def extra_attributes(self):
        attributes = {
            SocketAttribute.local_address: lambda: self.address,
            SocketAttribute.local_port: lambda: self.address[1],
        }
        if self.connected:
            attributes[SocketAttribute.remote_address] = lambda: self.peer
        return attributes


class SoundAndConnected(Sound):
    connected = True


@contextmanager
def pairs_of(kind: type[Sound]) -> Iterator[MakePair[Sound]]:
    """What makes pairs of ``kind``; all that it has made is closed when the block ends."""
    network = {}

    async def make():
        first, second = kind(network), kind(network)
        for each in (first, second):  # while the doors are still there
            each.doors = {other.address: other.door.clone() for other in (first, second)}
        first.peer, second.peer = second.address, first.address
        return first, second

    try:
        yield make
    finally:
        for each in network.values():
            each.close()
            Sound.close(each)


# Datagrams


class Alters(Sound):
    async def put(self, data, there):
        await super().put(data[::-1], there)


class Merges(SoundAndConnected):
    async def take(self):
        data, address = await super().take()
        with suppress(WouldBlock):
            while True:
                data += self.inbox.receive_nowait()[0]
        return data, address


class DropsWhatIsEmpty(Sound):
    async def put(self, data, there):
        if data or self.closed:
            await super().put(data, there)
        else:
            await checkpoint()


class CutsAt(Sound):
    limit = 4096

    async def take(self):
        data, address = await super().take()
        return data[: self.limit], address


class CutsLongOnes(CutsAt):
    limit = 65536


class GivesItsOwnAddress(Sound):
    async def take(self):
        data, _ = await super().take()
        return data, self.address


class IterationEnds(SoundAndConnected):
    left = 1

    async def __anext__(self):
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return await super().__anext__()


# Who waits lets others run


class DoesNotYield(Sound):
    async def take(self):
        try:
            return self.inbox.receive_nowait()
        except WouldBlock:
            return await super().take()


class SwallowsCancellation(SoundAndConnected):
    async def receive(self):
        try:
            return await super().receive()
        except get_cancelled_exc_class():
            return b""


class IsBrokenByCancellation(Sound):
    broken = False

    async def take(self):
        if self.broken:
            raise BrokenResourceError
        try:
            return await super().take()
        except get_cancelled_exc_class():
            self.broken = True
            raise


class Spins(Sound):
    async def put(self, data, there):
        while True:
            await checkpoint()
            if self.closed:
                raise ClosedResourceError
            with suppress(WouldBlock):
                self.doors[there].send_nowait((data, self.address))
                return


class SendCannotBeCancelled(Sound):
    async def put(self, data, there):
        with CancelScope(shield=True):
            await super().put(data, there)


# One at a time


class HasNoGuards(Sound):
    def __init__(self, network):
        super().__init__(network)
        self.receiving = self.sending = nullcontext()


class HasOneGuard(Sound):
    def __init__(self, network):
        super().__init__(network)
        self.sending = self.receiving


# The end


class ReceivesAfterClose(Sound):
    def close(self):
        if not self.inbox.statistics().current_buffer_used:
            super().close()


class SendsAfterClose(Sound):
    async def send(self, item):
        with suppress(ClosedResourceError):
            await super().send(item)


class ClosesOnce(Sound):
    async def aclose(self):
        if self.closed:
            raise ClosedResourceError
        await super().aclose()


class YieldsBeforeItCloses(Sound):
    async def aclose(self):
        await checkpoint()
        self.close()


class CloseDoesNotWakeReceive(Sound):
    def close(self):
        if not self.inbox.statistics().tasks_waiting_receive:
            super().close()


class CloseDoesNotWakeSend(Sound):
    def close(self):
        if not any(door.statistics().tasks_waiting_send for door in self.doors.values()):
            super().close()


class RaisesWhatTheSystemSays(Sound):
    async def put(self, data, there):
        try:
            await super().put(data, there)
        except BrokenResourceError:
            raise ConnectionRefusedError from None


class IsBrokenByOnePeer(Sound):
    broken = False

    async def put(self, data, there):
        if self.broken:
            raise BrokenResourceError
        try:
            await super().put(data, there)
        except BrokenResourceError:
            self.broken = True
            raise


# Cancellation


class LosesWhenCancelled(Sound):
    async def take(self):
        taken = await super().take()
        await checkpoint()
        return taken


class SendsAgainAfterCancellation(Sound):
    async def put(self, data, there):
        await super().put(data, there)
        try:
            await checkpoint()
        except get_cancelled_exc_class():
            self.doors[there].send_nowait((data, self.address))
            raise


# Attributes


class HasAnotherAddress(SoundAndConnected):
    @property
    def extra_attributes(self):
        return {**super().extra_attributes, SocketAttribute.remote_address: lambda: ("there", 0)}


#: A defect for each check to find.
BROKEN: dict[str, type[Sound]] = {
    "what_is_sent_arrives": Alters,
    "boundaries_are_kept": Merges,
    "an_empty_datagram": DropsWhatIsEmpty,
    "any_length": CutsAt,
    "a_very_long_datagram_arrives_whole_or_not_at_all": CutsLongOnes,
    "the_senders_address_comes_with_it": GivesItsOwnAddress,
    "iteration": IterationEnds,
    "operations_are_checkpoints": DoesNotYield,
    "a_deadline_that_has_passed": DoesNotYield,
    "a_deadline_that_is_now": IsBrokenByCancellation,
    "a_deadline_to_come": SwallowsCancellation,
    "a_blocked_send_can_be_cancelled": SendCannotBeCancelled,
    "a_second_receiver_is_refused": HasNoGuards,
    "a_second_sender_is_refused": HasNoGuards,
    "a_blocked_send_does_not_keep_the_loop_busy": Spins,
    "a_blocked_receive_does_not_block_send": HasOneGuard,
    "a_closed_socket_does_not_receive": ReceivesAfterClose,
    "a_closed_socket_does_not_send": SendsAfterClose,
    "close_can_be_repeated": ClosesOnce,
    "a_cancelled_close_closes": YieldsBeforeItCloses,
    "close_wakes_receive": CloseDoesNotWakeReceive,
    "close_wakes_send": CloseDoesNotWakeSend,
    "a_peer_that_has_gone": RaisesWhatTheSystemSays,
    "one_peer_that_has_gone_does_not_break_it": IsBrokenByOnePeer,
    "a_cancelled_receive_loses_nothing": LosesWhenCancelled,
    "a_cancelled_send_sends_once_or_not_at_all": SendsAgainAfterCancellation,
    "typed_attributes": HasAnotherAddress,
}
