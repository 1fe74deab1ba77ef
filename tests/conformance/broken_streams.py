"""Byte streams with one defect each, by the check that has to find it.

All are the in-memory stream, which keeps every promise, with one behaviour overridden.
"""

from __future__ import annotations

from collections.abc import Callable

from anyio import (
    BrokenResourceError,
    BusyResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    Lock,
    get_cancelled_exc_class,
    sleep_forever,
)
from anyio.abc import SocketAttribute
from anyio.lowlevel import checkpoint

from harness.network import MemoryStream, Network, Pipe


class Sound(MemoryStream):
    """No defect."""

    @property
    def reads_ahead(self) -> bool:
        """Whether bytes are there, or the end is: a receive need not wait."""
        return self._socket.readable

    @property
    def peer_has_gone(self) -> bool:
        return self._socket._peer.closed


Make = Callable[[], "object"]


def maker(first: type[Sound], second: type[Sound] | None = None, *, capacity: int = 65536):
    """A `make_pair`: both sides of one class, or of two."""

    async def make_pair() -> tuple[Sound, Sound]:
        near, far = Network(capacity=capacity).pair()
        return first(near), (second or first)(far)

    return make_pair


#: The broken streams, by the name of the check that has to find them.
BROKEN: dict[str, list[type[Sound]]] = {}


def breaks(check: str) -> Callable[[type[Sound]], type[Sound]]:
    def registered(broken: type[Sound]) -> type[Sound]:
        BROKEN.setdefault(check, []).append(broken)
        return broken

    return registered


# Bytes


@breaks("what_is_sent_arrives")
class ReversesLongPieces(Sound):
    async def receive(self, max_bytes=65536):
        data = await super().receive(max_bytes)
        return data if len(data) < 4096 else data[::-1]


@breaks("what_is_sent_arrives")
class DropsTheLastByteOfLongMessages(Sound):
    async def send(self, item):
        await super().send(item if len(item) < 4096 else item[:-1])


@breaks("ping_pong")
class HoldsSmallMessagesBack(Sound):
    held = b""

    async def send(self, item):
        self.held += bytes(item)
        await checkpoint()
        if len(self.held) >= 100:
            held, self.held = self.held, b""
            await super().send(held)


@breaks("ping_pong")
class CountsToSixtyFour(Sound):
    count = 0

    async def send(self, item):
        self.count += 1
        await super().send(b"\0" * len(item) if self.count == 64 else item)


@breaks("any_kind_of_bytes")
class KeepsTheCallersBuffer(Sound):
    class Lazy(Pipe):
        __slots__ = ()

        def write(self, data):
            self._chunks.append(data)
            self.size += len(data)
            return len(data)

        def read(self, max_bytes):
            return bytes(super().read(max_bytes))

    def __init__(self, socket):
        super().__init__(socket)
        socket._outgoing.__class__ = self.Lazy


@breaks("any_kind_of_bytes")
class SendsBytesOnly(Sound):
    async def send(self, item):
        if not isinstance(item, bytes):
            raise TypeError(f"expected bytes, not {type(item).__name__}")
        await super().send(item)


@breaks("nothing_is_sent_as_nothing")
class TakesNothingForTheEnd(Sound):
    async def send(self, item):
        await (super().send(item) if item else self.send_eof())


@breaks("nothing_is_sent_as_nothing")
class SendsNothingAsAByte(Sound):
    async def send(self, item):
        await super().send(item or b"\0")


@breaks("nothing_is_sent_as_nothing")
class WaitsForNothing(Sound):
    """A `receive` that is waiting while nothing is sent is not woken by what comes after it."""

    async def send(self, item):
        if not item:
            self._socket._peer.on_readable = None
        await super().send(item)


@breaks("received_are_bytes")
class GivesABytearray(Sound):
    async def receive(self, max_bytes=65536):
        return bytearray(await super().receive(max_bytes))


@breaks("received_are_bytes")
class GivesNothingNowAndThen(Sound):
    count = 0

    async def receive(self, max_bytes=65536):
        self.count += 1
        if self.count % 3 == 2:
            await checkpoint()
            return b""
        return await super().receive(max_bytes)


@breaks("max_bytes_is_the_most")
class IgnoresMaxBytes(Sound):
    async def receive(self, max_bytes=65536):
        return await super().receive(max_bytes if max_bytes < 1 else 65536)


@breaks("max_bytes_is_the_most")
class ThrowsTheRestAway(Sound):
    async def receive(self, max_bytes=65536):
        if max_bytes < 1:
            raise ValueError(max_bytes)
        return (await super().receive())[:max_bytes]


@breaks("max_bytes_is_positive")
class ReceivesZeroBytes(Sound):
    async def receive(self, max_bytes=65536):
        if max_bytes < 1:
            await checkpoint()
            return b""
        return await super().receive(max_bytes)


@breaks("max_bytes_is_positive")
class ReceivesAtLeastOneByte(Sound):
    async def receive(self, max_bytes=65536):
        return await super().receive(max(1, max_bytes))


@breaks("max_bytes_is_positive")
class RefusesZeroBytesOnlyIfItWouldWait(Sound):
    async def receive(self, max_bytes=65536):
        if max_bytes < 1 and self.reads_ahead:
            await checkpoint()
            return b""
        return await super().receive(max_bytes)


@breaks("iteration_ends")
class IterationRaisesTheEnd(Sound):
    async def __anext__(self):
        return await self.receive()


@breaks("iteration_ends")
class IterationHasOnePiece(Sound):
    seen = False

    async def __anext__(self):
        if self.seen:
            raise StopAsyncIteration
        self.seen = True
        return await self.receive(3)


# Much


@breaks("a_mebibyte_each_way")
class DropsAByteAtTheBrim(Sound):
    async def send(self, item):
        room = self._socket._outgoing.room
        if len(item) > room:
            await super().send(item[:room])
            item = item[room + 1 :]
        await super().send(item)


@breaks("a_mebibyte_each_way")
class RepeatsAPieceAfterAWait(Sound):
    async def send(self, item):
        room = self._socket._outgoing.room
        await super().send(item)
        if 64 < room < len(item):
            await super().send(bytes(item[:64]))


@breaks("sixteen_mebibytes_each_way")
class CountsToFourMebibytes(Sound):
    count = 0

    async def send(self, item):
        before, self.count = self.count, self.count + len(item)
        await super().send(item[1:] if before < 4 * 1024 * 1024 <= self.count else item)


# Who waits lets others run


@breaks("operations_are_checkpoints")
class ReceivesWithoutACheckpoint(Sound):
    async def receive(self, max_bytes=65536):
        if self._socket.unread and max_bytes > 0:
            return self._socket.recv(max_bytes)
        return await super().receive(max_bytes)


@breaks("operations_are_checkpoints")
class SendsWithoutACheckpoint(Sound):
    async def send(self, item):
        socket = self._socket
        if item and not socket.closed and not self.peer_has_gone and not socket._reset:
            room = socket._outgoing.room
            if len(item) <= room and not socket._outgoing.finished:
                socket.send(memoryview(item))
                return
        await super().send(item)


@breaks("a_deadline_that_has_passed")
class ReceivesInACancelledScope(Sound):
    async def receive(self, max_bytes=65536):
        with CancelScope(shield=self.reads_ahead):
            return await super().receive(max_bytes)


@breaks("a_deadline_that_has_passed")
class SendsInACancelledScope(Sound):
    async def send(self, item):
        with CancelScope(shield=self._socket.writable and len(item) < 1000):
            await super().send(item)


@breaks("a_deadline_that_is_now")
class TakesACancellationForTheEnd(Sound):
    async def receive(self, max_bytes=65536):
        waits = not self.reads_ahead
        try:
            return await super().receive(max_bytes)
        except get_cancelled_exc_class():
            if waits:
                raise EndOfStream from None
            raise


@breaks("a_deadline_that_is_now")
class CannotBeCancelled(Sound):
    async def receive(self, max_bytes=65536):
        with CancelScope(shield=not self.reads_ahead):
            return await super().receive(max_bytes)


@breaks("a_deadline_that_is_now")
class GoesOnWhenCancelled(Sound):
    async def receive(self, max_bytes=65536):
        while True:
            waits = not self.reads_ahead
            try:
                return await super().receive(max_bytes)
            except get_cancelled_exc_class():
                if not waits:
                    raise


@breaks("a_deadline_to_come")
class IsBrokenByACancelledReceive(Sound):
    broken = False

    async def receive(self, max_bytes=65536):
        if self.broken:
            raise BrokenResourceError
        waits = not self.reads_ahead
        try:
            return await super().receive(max_bytes)
        except get_cancelled_exc_class():
            self.broken = waits
            raise


@breaks("a_deadline_to_come")
class IsClosedByACancelledSend(Sound):
    async def send(self, item):
        waits = len(item) > self._socket._outgoing.room
        try:
            await super().send(item)
        except get_cancelled_exc_class():
            if waits:
                await self.aclose()
            raise


@breaks("a_deadline_to_come")
@breaks("a_deadline_that_is_now")
class SendCannotBeCancelled(Sound):
    async def send(self, item):
        with CancelScope(shield=len(item) > self._socket._outgoing.room):
            await super().send(item)


@breaks("what_waits_does_not_keep_the_loop_busy")
class AsksAgainAndAgain(Sound):
    async def receive(self, max_bytes=65536):
        while not self.reads_ahead and not self._socket.closed:
            await checkpoint()
        return await super().receive(max_bytes)


@breaks("what_waits_does_not_keep_the_loop_busy")
class TriesToSendAgainAndAgain(Sound):
    async def send(self, item):
        while len(item) > (room := self._socket._outgoing.room) and not self._socket.closed:
            await super().send(item[:room])
            item = item[room:]
            await checkpoint()
        await super().send(item)


# One at a time


@breaks("a_second_receiver_is_refused")
class ReceiversQueue(Sound):
    def __init__(self, socket):
        super().__init__(socket)
        self.receivers = Lock()

    async def receive(self, max_bytes=65536):
        async with self.receivers:
            return await super().receive(max_bytes)


@breaks("a_second_receiver_is_refused")
class TheLatestReceiverWins(Sound):
    """The one before it is never woken."""

    _receiving = property(lambda self: False, lambda self, value: None)


@breaks("a_second_sender_is_refused")
class SendersQueue(Sound):
    def __init__(self, socket):
        super().__init__(socket)
        self.senders = Lock()

    async def send(self, item):
        async with self.senders:
            await super().send(item)


@breaks("a_blocked_direction_does_not_block_the_other")
class AReceiveStarvesASend(Sound):
    receiving = False

    async def receive(self, max_bytes=65536):
        mine = not self.receiving
        self.receiving = True
        try:
            return await super().receive(max_bytes)
        finally:
            if mine:
                self.receiving = False

    async def send(self, item):
        while self.receiving and not self._socket.closed and not self.peer_has_gone:
            await self.until_received()
        await super().send(item)

    async def until_received(self):
        await sleep_forever()


@breaks("a_blocked_direction_does_not_block_the_other")
class ASendStarvesAReceive(Sound):
    sending = False

    async def send(self, item):
        self.sending = True
        try:
            await super().send(item)
        finally:
            self.sending = False

    async def receive(self, max_bytes=65536):
        if self.sending and not self._socket.closed and not self.peer_has_gone:
            await sleep_forever()
        return await super().receive(max_bytes)


@breaks("racing_receivers")
class ARefusedReceiverTakesBytes(Sound):
    receiving = False

    async def receive(self, max_bytes=65536):
        if self.receiving and max_bytes > 0 and self._socket.unread:
            self._socket.recv(max_bytes)
        mine = not self.receiving
        self.receiving = True
        try:
            return await super().receive(max_bytes)
        finally:
            if mine:
                self.receiving = False


@breaks("racing_senders")
class ARefusedSenderSendsBytes(Sound):
    sending = False

    async def send(self, item):
        if self.sending and not self._socket.closed and not self.peer_has_gone:
            self._socket._outgoing.write(memoryview(item)[:1])
        mine = not self.sending
        self.sending = True
        try:
            await super().send(item)
        finally:
            if mine:
                self.sending = False


@breaks("racing_senders")
class StaysBusyAfterARefusal(Sound):
    """Who sends one at a time never sees it."""

    refused = False

    async def send(self, item):
        if self.refused:
            raise BusyResourceError("writing to")
        try:
            await super().send(item)
        except BusyResourceError:
            self.refused = True
            raise


# The end


@breaks("the_peers_close_ends_receive")
class GivesNothingAtTheEnd(Sound):
    async def receive(self, max_bytes=65536):
        try:
            return await super().receive(max_bytes)
        except EndOfStream:
            return b""


@breaks("the_peers_close_ends_receive")
class TellsTheEndOnce(Sound):
    told = False

    async def receive(self, max_bytes=65536):
        if self.told and max_bytes > 0 and not self._socket.closed:
            await sleep_forever()
        try:
            return await super().receive(max_bytes)
        except EndOfStream:
            self.told = True
            raise


@breaks("the_peers_close_ends_receive")
class TakesTheEndForABreak(Sound):
    async def receive(self, max_bytes=65536):
        try:
            return await super().receive(max_bytes)
        except EndOfStream:
            raise BrokenResourceError from None


@breaks("the_peers_close_wakes_receive")
class IsNotWokenByThePeersClose(Sound):
    async def receive(self, max_bytes=65536):
        waits = not self.reads_ahead
        try:
            return await super().receive(max_bytes)
        except EndOfStream:
            if waits and self.peer_has_gone:
                await sleep_forever()
            raise


@breaks("a_close_with_unread_bytes_is_seen")
class ResetIsAnOSError(Sound):
    async def receive(self, max_bytes=65536):
        try:
            return await super().receive(max_bytes)
        except BrokenResourceError as exc:
            raise ConnectionResetError("reset") from exc


@breaks("the_peers_close_breaks_send")
class SendsToNobody(Sound):
    async def send(self, item):
        try:
            await super().send(item)
        except BrokenResourceError:
            if not self.peer_has_gone:
                raise


@breaks("the_peers_close_breaks_send")
class TellsABreakOnce(Sound):
    told = False

    async def send(self, item):
        if self.told and not self._socket.closed:
            await checkpoint()
            return
        try:
            await super().send(item)
        except BrokenResourceError:
            self.told = True
            raise


@breaks("the_peers_close_breaks_send")
class SendRaisesEndOfStream(Sound):
    async def send(self, item):
        try:
            await super().send(item)
        except BrokenResourceError:
            raise EndOfStream from None


@breaks("the_peers_close_wakes_send")
class SendIsNotWokenByThePeersClose(Sound):
    async def send(self, item):
        waits = len(item) > self._socket._outgoing.room and not self.peer_has_gone
        try:
            await super().send(item)
        except BrokenResourceError:
            if waits:
                await sleep_forever()
            raise


@breaks("a_closed_stream_does_not_receive")
class GivesWhatWasThereAfterItsClose(Sound):
    left = b""

    async def receive(self, max_bytes=65536):
        if self.left and max_bytes > 0:
            await checkpoint()
            data, self.left = self.left[:max_bytes], self.left[max_bytes:]
            return data
        return await super().receive(max_bytes)

    async def aclose(self):
        if not self._socket.closed:
            self.left = bytes(b"".join(self._socket._incoming._chunks))
        await super().aclose()


@breaks("a_closed_stream_does_not_receive")
class EndsAtItsOwnClose(Sound):
    async def receive(self, max_bytes=65536):
        waits = not self.reads_ahead
        try:
            return await super().receive(max_bytes)
        except ClosedResourceError:
            if waits:
                raise
            raise EndOfStream from None


@breaks("a_closed_stream_does_not_send")
class SendAfterCloseIsARuntimeError(Sound):
    async def send(self, item):
        if item and self._socket.closed:
            raise RuntimeError("the stream is closed")
        await super().send(item)


@breaks("a_closed_stream_does_not_send")
class SendsAfterItsClose(Sound):
    async def send(self, item):
        if item and self._socket.closed:
            await checkpoint()
            return
        await super().send(item)


@breaks("a_closed_stream_does_not_send_nothing")
class SendsNothingAfterItsClose(Sound):
    async def send(self, item):
        if item:
            await super().send(item)
        else:
            await checkpoint()


@breaks("close_can_be_repeated")
class ClosesOnce(Sound):
    async def aclose(self):
        if self._socket.closed:
            raise ClosedResourceError
        await super().aclose()


@breaks("sent_bytes_survive_the_close")
class CloseDiscardsWhatWasSent(Sound):
    async def aclose(self):
        if not self._socket.closed:
            self._socket._outgoing.clear()
        await super().aclose()


@breaks("sent_bytes_survive_the_close")
class CloseIsAReset(Sound):
    async def aclose(self):
        await self.reset()


@breaks("a_forceful_close_is_seen")
class TellsThePeerAfterACheckpoint(Sound):
    async def aclose(self):
        socket = self._socket
        if not socket.closed:
            socket.closed = True
            socket._wake()
            await checkpoint()
            socket.closed = False
        await super().aclose()


@breaks("a_forceful_close_is_seen")
class AForcefulCloseIsNoEnd(Sound):
    """It waits for the peer to have read everything, and gives up when it is cancelled."""

    async def aclose(self):
        if not self._socket.closed and not self.peer_has_gone:
            await checkpoint()
        await super().aclose()


@breaks("a_cancelled_close_closes")
class DoesNotCloseWhenCancelled(Sound):
    async def aclose(self):
        await checkpoint()
        await super().aclose()


@breaks("close_wakes_receive")
class ReceiveIsNotWokenByItsClose(Sound):
    async def receive(self, max_bytes=65536):
        waits = not self.reads_ahead
        try:
            return await super().receive(max_bytes)
        except ClosedResourceError:
            if waits:
                await sleep_forever()
            raise


@breaks("close_wakes_receive")
class ReceiveEndsAtItsClose(Sound):
    async def receive(self, max_bytes=65536):
        waits = not self.reads_ahead
        try:
            return await super().receive(max_bytes)
        except ClosedResourceError:
            if waits:
                raise EndOfStream from None
            raise


@breaks("close_wakes_send")
class SendIsNotWokenByItsClose(Sound):
    async def send(self, item):
        waits = len(item) > self._socket._outgoing.room and not self._socket.closed
        try:
            await super().send(item)
        except ClosedResourceError:
            if waits:
                await sleep_forever()
            raise


@breaks("close_wakes_send")
class SendBreaksAtItsClose(Sound):
    async def send(self, item):
        waits = len(item) > self._socket._outgoing.room and not self._socket.closed
        try:
            await super().send(item)
        except ClosedResourceError:
            if waits:
                raise BrokenResourceError from None
            raise


@breaks("methods_at_the_same_time")
class HasNoAttributesAfterItsClose(Sound):
    @property
    def extra_attributes(self):
        if self._socket.closed:
            raise AttributeError("'NoneType' object has no attribute 'local_address'")
        return super().extra_attributes


@breaks("methods_at_the_same_time")
class IsNeitherOpenNorClosedMeanwhile(Sound):
    closing = False

    async def send(self, item):
        if self.closing:
            raise RuntimeError("cannot send in the state CLOSING")
        await super().send(item)

    async def aclose(self):
        self.closing = True
        try:
            await checkpoint()
        finally:
            self.closing = False
            await super().aclose()


# Cancellation


@breaks("a_cancelled_receive_loses_nothing")
class ACheckpointStandsAfterTheBytes(Sound):
    async def receive(self, max_bytes=65536):
        data = await super().receive(max_bytes)
        await checkpoint()
        return data


@breaks("a_cancelled_receive_loses_nothing")
class DropsAByteAfterACancelledReceive(Sound):
    cancelled = False

    async def receive(self, max_bytes=65536):
        waits = not self.reads_ahead
        try:
            data = await super().receive(max_bytes)
        except get_cancelled_exc_class():
            self.cancelled = waits
            raise
        if self.cancelled and len(data) > 1:
            data = data[1:]
        self.cancelled = False
        return data


@breaks("a_cancelled_send_repeats_nothing")
class SendsAPrefixTwice(Sound):
    again = b""

    async def send(self, item):
        again, self.again = self.again, b""
        waits = len(item) > self._socket._outgoing.room
        try:
            await super().send(again + bytes(item) if again else item)
        except get_cancelled_exc_class():
            if waits:
                self.again = bytes(item[:5])
            raise


@breaks("a_cancelled_send_repeats_nothing")
class LeavesAHoleWhenCancelled(Sound):
    """What a cancelled `send` had left over at its end is sent by the next one."""

    left = b""

    async def send(self, item):
        left, self.left = self.left, b""
        waits = len(item) > self._socket._outgoing.room
        try:
            await super().send(left + bytes(item) if left else item)
        except get_cancelled_exc_class():
            if waits:
                self.left = bytes(item[-5:])
            raise


@breaks("cancelled_operations_do_not_keep_it_open")
class StaysBusyAfterACancellation(Sound):
    busy = False

    async def send(self, item):
        try:
            await super().send(item)
        except get_cancelled_exc_class():
            self.busy = True
            raise

    async def aclose(self):
        try:
            if self.busy:
                raise BusyResourceError("writing to")
        finally:
            await super().aclose()


@breaks("cancelled_operations_do_not_keep_it_open")
class FlushesForEverAfterACancellation(Sound):
    left = False

    async def send(self, item):
        try:
            await super().send(item)
        except get_cancelled_exc_class():
            self.left = True
            raise

    async def aclose(self):
        try:
            if self.left:
                await sleep_forever()
        finally:
            await super().aclose()


# Attributes


@breaks("typed_attributes")
class ListsAnAttributeThatRaises(Sound):
    @property
    def extra_attributes(self):
        return {**super().extra_attributes, SocketAttribute.raw_socket: self.raw}

    def raw(self):
        raise AttributeError("'MemoryStream' object has no attribute 'fileno'")


@breaks("typed_attributes")
class HasItsAddressesTheWrongWayRound(Sound):
    @property
    def extra_attributes(self):
        attributes = {**super().extra_attributes}
        local, remote = SocketAttribute.local_address, SocketAttribute.remote_address
        attributes[local], attributes[remote] = attributes[remote], lambda: ("127.1.0.1", 1)
        return attributes


@breaks("typed_attributes")
class HasNoneForWhatItDoesNotHave(Sound):
    def extra(self, attribute, default=None):
        return super().extra(attribute, default)


@breaks("typed_attributes")
class RaisesForADefault(Sound):
    def extra(self, attribute, *default):
        return super().extra(attribute)


# The end of one direction


@breaks("eof_ends_the_peers_receive")
class EofDropsTheLastByte(Sound):
    async def send_eof(self):
        outgoing = self._socket._outgoing
        if outgoing.size and not outgoing.finished:
            left = outgoing.read(outgoing.size)[:-1]
            outgoing.write(memoryview(left))
        await super().send_eof()


@breaks("eof_ends_the_peers_receive")
class TellsEofOnce(Sound):
    told = False

    async def receive(self, max_bytes=65536):
        open_ = not (self._socket.closed or self.peer_has_gone)
        if self.told and open_ and max_bytes > 0:
            await sleep_forever()
        try:
            return await super().receive(max_bytes)
        except EndOfStream:
            self.told = True
            raise


@breaks("eof_ends_the_peers_receive")
class EofIsNotSent(Sound):
    async def send_eof(self):
        await checkpoint()


@breaks("eof_wakes_the_peers_receive")
class IsNotWokenByEof(Sound):
    async def receive(self, max_bytes=65536):
        waits = not self.reads_ahead
        try:
            return await super().receive(max_bytes)
        except EndOfStream:
            if waits and not self.peer_has_gone:
                await sleep_forever()
            raise


@breaks("eof_leaves_the_other_direction_alone")
class EofEndsBothDirections(Sound):
    async def send_eof(self):
        await super().send_eof()
        self._socket._incoming.finished = True
        self._socket._wake()


@breaks("eof_leaves_the_other_direction_alone")
class EofIsAClose(Sound):
    async def send_eof(self):
        await super().send_eof()
        await self.aclose()


@breaks("eof_can_be_repeated")
class EofOnlyOnce(Sound):
    sent = False

    async def send_eof(self):
        await super().send_eof()
        if self.sent:
            raise BrokenResourceError
        self.sent = True


@breaks("what_is_sent_arrives")
class DropsTheLastByteOfVeryLongMessages(Sound):
    async def send(self, item):
        await super().send(item if len(item) < 2 * 1024 * 1024 else item[:-1])


@breaks("max_bytes_is_the_most")
class CallsItOtherwise(Sound):
    async def receive(self, limit=65536):
        return await super().receive(limit)


@breaks("the_end_of_a_block_closes")
class BlockLeavesItOpen(Sound):
    async def __aexit__(self, *exc_info):
        await checkpoint()


@breaks("the_end_of_a_block_closes")
class BlockGivesNothing(Sound):
    async def __aenter__(self):
        return None


@breaks("iteration_receives_to_the_end")
class IteratesOnce(Sound):
    iterated = False

    async def __anext__(self):
        if self.iterated:
            raise StopAsyncIteration
        self.iterated = True
        return await self.receive(100)


@breaks("iteration_receives_to_the_end")
class IterationEndsWithAnError(Sound):
    async def __anext__(self):
        return await self.receive()


@breaks("eof_can_be_repeated_by_both")
class EofAgainIsAnErrorAfterThePeers(Sound):
    sent = False

    async def send_eof(self):
        if self.sent and self.reads_ahead:
            raise OSError(107, "Transport endpoint is not connected")
        self.sent = True
        await super().send_eof()


@breaks("send_after_eof_is_refused")
class SendAfterEofIsARuntimeError(Sound):
    async def send(self, item):
        if item and self._socket._outgoing.finished and not self._socket.closed:
            raise RuntimeError("Cannot call write() after write_eof()")
        await super().send(item)


@breaks("send_after_eof_is_refused")
class SendsAfterEof(Sound):
    async def send(self, item):
        if self._socket._outgoing.finished and not self._socket.closed:
            await checkpoint()
            return
        await super().send(item)


@breaks("both_ends")
class ClosesWhenBothHaveEnded(Sound):
    async def receive(self, max_bytes=65536):
        socket = self._socket
        if socket._outgoing.finished and socket._incoming.finished and not socket.unread:
            raise ClosedResourceError
        return await super().receive(max_bytes)


@breaks("both_ends")
class CannotCloseWhenBothHaveEnded(Sound):
    async def aclose(self):
        socket = self._socket
        both = socket._outgoing.finished and socket._incoming.finished
        ended = both and not socket.closed and not self.peer_has_gone
        await super().aclose()
        if ended:
            raise OSError("not connected")


@breaks("eof_does_not_overtake_a_send")
class EofOvertakes(Sound):
    over = False

    async def send(self, item):
        try:
            await super().send(item)
        except BrokenResourceError:
            if not self.over:
                raise

    async def send_eof(self):
        self.over = not self._socket.writable
        with CancelScope(shield=True):
            await checkpoint()
        self._socket.shutdown_write()


@breaks("eof_to_a_peer_that_has_gone")
class EofToNobodyIsAnOSError(Sound):
    async def send_eof(self):
        await super().send_eof()
        if self.peer_has_gone:
            raise OSError("not connected")


@breaks("eof_after_close_is_refused")
class EofAfterCloseIsFine(Sound):
    async def send_eof(self):
        if self._socket.closed:
            await checkpoint()
        else:
            await super().send_eof()


@breaks("eof_after_close_is_refused")
class EofAfterCloseIsAnOSError(Sound):
    async def send_eof(self):
        if self._socket.closed:
            raise OSError("bad file descriptor")
        await super().send_eof()
