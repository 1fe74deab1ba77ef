"""What two connected byte streams may do next, after all that was done with them.

The model knows of each direction which bytes were sent, and in which order they have to come out.
Where AnyIO leaves something open, so does the model: how much of a cancelled ``send`` arrives, how
many bytes one ``receive`` returns, when a ``send`` blocks, and what of the bytes on their way is
lost with a connection that is reset, because a side was closed forcefully or with bytes unread, or
has sent to a peer that was gone.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from typing import Any

from anyio import (
    BrokenResourceError,
    BusyResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    Event,
    aclose_forcefully,
)
from anyio.abc import ByteStream

from . import byte_stream as of_stream
from . import half_close as of_half
from .contract import PairCheck, PromiseBroken, in_words, shown

SIDES = ("first", "second")

#: What each side sends, again and again: no length that is a power of two, and no two bytes that
#: are neighbours alike, so that a byte that is missing or comes twice shows at once.
LENGTH = 65521
ALPHABETS = (b"abcdefghijklmnopqrstuvwxyz", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")

#: Bytes that a piece of one message and the beginning of the next may have in common by chance.
BY_CHANCE = 16


def _text(side: int) -> bytes:
    choices = random.Random(side)
    text = bytearray()
    while len(text) < LENGTH:
        byte = choices.choice(ALPHABETS[side])
        if not text or text[-1] != byte:
            text.append(byte)
    return bytes(text)


class Text:
    """The endless text that one side sends."""

    def __init__(self, side: int) -> None:
        self._text = _text(side)

    def __call__(self, start: int, length: int) -> bytes:
        start %= LENGTH
        whole = self._text * ((start + length) // LENGTH + 1)
        return whole[start : start + length]


TEXTS = (Text(0), Text(1))


# Operations


class Operation(ABC):
    """A call of one method of one side, and what became of it.

    :ivar rival: another call of the same kind that had not ended when this one began
    :ivar closed_before: its own side was closed then
    """

    def __init__(self, side: int, text: str) -> None:
        self.side = side
        self.text = text
        self.scope: CancelScope = CancelScope()
        self.ended: Event = Event()
        self.cancelled: bool = False
        self.error: Exception | None = None
        self.result: Any = None
        self.rival: Operation | None = None
        self.closed_before: bool = False

    @abstractmethod
    async def call(self, stream: ByteStream) -> Any: ...

    @property
    def over(self) -> bool:
        return self.ended.is_set()

    @property
    def is_refused(self) -> bool:
        """Whether it has to be: another one is still under way."""
        return self.rival is not None and not self.rival.over

    @property
    def outcome(self) -> str:
        """In a few words."""
        if not self.over:
            return "waits"
        if self.cancelled:
            return "cancelled"
        if self.error is not None:
            return repr(self.error)
        return self.returned()

    def returned(self) -> str:
        return "ok"

    @property
    def seen(self) -> str:
        """As a part of a message."""
        if not self.over:
            return "it still waits"
        if self.cancelled:
            return "it was cancelled"
        if self.error is not None:
            return f"it raised {self.error!r}"
        return f"it returned {shown(self.result)}"

    def __str__(self) -> str:
        return f"{SIDES[self.side]}.{self.text}"


class Receive(Operation):
    def __init__(self, side: int, max_bytes: int) -> None:
        super().__init__(side, f"receive({max_bytes})")
        self.max_bytes = max_bytes

    async def call(self, stream: ByteStream) -> Any:
        return await stream.receive(self.max_bytes)

    def returned(self) -> str:
        if isinstance(self.result, bytes) and len(self.result) > 3:
            return f"{len(self.result)} bytes"
        return shown(self.result)


class Send(Operation):
    def __init__(self, side: int, size: int) -> None:
        super().__init__(side, f"send({size} byte{'s'[: size != 1]})")
        self.size = size
        self.data = b""
        self.message: Message = Message(0, 0)
        self.eof_before: bool = False
        self.broken_before: bool = False

    async def call(self, stream: ByteStream) -> None:
        await stream.send(self.data)


class SendEof(Operation):
    def __init__(self, side: int) -> None:
        super().__init__(side, "send_eof()")
        #: a `send` was under way
        self.during_send: bool = False
        self.eof_before: bool = False

    async def call(self, stream: ByteStream) -> None:
        await stream.send_eof()


class Aclose(Operation):
    def __init__(self, side: int, *, forcefully: bool) -> None:
        super().__init__(side, "aclose()")
        self.forcefully = forcefully

    async def call(self, stream: ByteStream) -> None:
        await (aclose_forcefully(stream) if self.forcefully else stream.aclose())

    def __str__(self) -> str:
        if self.forcefully:
            return f"aclose_forcefully({SIDES[self.side]})"
        return super().__str__()


# The bytes


class Message:
    """What one ``send`` was given.

    :ivar whole: all of it has to arrive; otherwise any part from its beginning on may, or none
    :ivar under_way: its ``send`` has not ended
    """

    def __init__(self, start: int, length: int) -> None:
        self.start = start
        self.length = length
        self.whole: bool = False
        self.under_way: bool = True


class Direction:
    """The bytes from one side to the other.

    How far the receiver is need not be known: after a part of a message whose ``send`` was
    cancelled, the next one may begin anywhere. So there is a set of places where it may be.

    :ivar closed: the sending side was closed
    :ivar gone: the receiving side was
    :ivar eof: the end was sent
    :ivar maybe_eof: it was tried
    :ivar lossy: what has not been received may be lost, and the end be a break
    :ivar ended: the receiver has been told the end
    :ivar broken: the sender has been told of a break
    """

    def __init__(self, sender: int) -> None:
        self.text: Text = TEXTS[sender]
        self.messages: list[Message] = []
        self.places: set[tuple[int, int]] = {(0, 0)}
        self.sent: int = 0
        self.closed: bool = False
        self.gone: bool = False
        self.eof: bool = False
        self.maybe_eof: bool = False
        self.lossy: bool = False
        self.ended: bool = False
        self.broken: bool = False
        self.send_was_cancelled: bool = False
        self.receive_was_cancelled: bool = False

    def add(self, length: int) -> Message:
        message = Message(self.sent, length)
        self.sent += length
        self.messages.append(message)
        return message

    def take_back(self, message: Message) -> bool:
        """Nothing of ``message`` may arrive any more; tell whether nothing has."""
        index = self.messages.index(message)
        places = {place for place in self.places if place[0] != index or not place[1]}
        message.length, message.whole, message.under_way = 0, True, False
        if places:
            self.places = places
        return bool(places)

    def take(self, data: bytes) -> bool:
        """The receiver has got ``data``; tell whether that can be."""
        found: set[tuple[int, int]] = set()
        left = [(index, offset, 0) for index, offset in self.places]
        while left:
            index, offset, at = left.pop()
            if at == len(data):
                found.add((index, offset))
                continue
            if index == len(self.messages):
                continue
            message = self.messages[index]
            most = min(message.length - offset, len(data) - at)
            same = _alike(data[at : at + most], self.text(message.start + offset, most))
            if same == message.length - offset:
                left.append((index + 1, 0, at + same))
            elif at + same == len(data):
                found.add((index, offset + same))
            if not message.whole:
                longest = min(same, message.length - offset - 1)
                for cut in range(longest, max(-1, longest - BY_CHANCE), -1):
                    if at + cut < len(data):
                        left.append((index + 1, 0, at + cut))
        if found:
            self.places = found
        return bool(found)

    def _rest(self, place: tuple[int, int]) -> list[tuple[Message, int]]:
        index, offset = place
        rest = [(message, 0) for message in self.messages[index:]]
        if rest:
            rest[0] = (rest[0][0], offset)
        return [(message, offset) for message, offset in rest if message.length > offset]

    def missing(self, *, under_way: bool = False) -> bytes | None:
        """What has to come before the end, its beginning; ``None`` if nothing has to.

        :param under_way: so has what is being sent
        """
        missing = b""
        for place in self.places:
            needed = next(
                (
                    (message, offset)
                    for message, offset in self._rest(place)
                    if message.whole or (under_way and message.under_way)
                ),
                None,
            )
            if needed is None:
                return None
            message, offset = needed
            missing = self.text(message.start + offset, min(message.length - offset, 8))
        return missing

    @property
    def maybe_unread(self) -> bool:
        return any(self._rest(place) for place in self.places)

    def has_received(self, message: Message) -> bool:
        index = self.messages.index(message)
        return all(
            place[0] > index or (place[0] == index and place[1] == message.length)
            for place in self.places
        )


def _alike(one: bytes, other: bytes) -> int:
    """How many bytes from the beginning on are the same."""
    if one == other:
        return len(one)
    same, differs = 0, min(len(one), len(other))
    while differs - same > 1:
        middle = (same + differs) // 2
        if one[same:middle] == other[same:middle]:
            same = middle
        else:
            differs = middle
    return same if one[same : same + 1] != other[same : same + 1] else same + 1


def _returns(missing: bytes) -> str:
    return f"returns what was sent: {missing!r}..."


# The pair


class Model:
    """Two streams that are connected."""

    def __init__(self) -> None:
        #: by the side that sends
        self.directions: tuple[Direction, Direction] = (Direction(0), Direction(1))
        self.closed: list[bool] = [False, False]
        self.under_way: list[Operation] = []

    def begin(self, operation: Operation) -> None:
        """It is about to be called."""
        side = operation.side
        out, back = self.directions[side], self.directions[1 - side]
        operation.closed_before = self.closed[side]
        operation.rival = next(
            (
                each
                for each in self.under_way
                if each.side == side and type(each) is type(operation) and not each.over
            ),
            None,
        )
        self.under_way.append(operation)
        if isinstance(operation, Send):
            operation.eof_before = out.eof or out.maybe_eof
            operation.broken_before = out.broken
            operation.message = out.add(operation.size)
            operation.data = out.text(operation.message.start, operation.size)
            if out.gone and operation.size:
                back.lossy = True
        elif isinstance(operation, SendEof):
            operation.during_send = self.is_sending(side)
            operation.eof_before = out.eof
            out.maybe_eof = out.maybe_eof or operation.during_send
        elif isinstance(operation, Aclose) and not self.closed[side]:
            self.closed[side] = out.closed = back.gone = True
            out.lossy = out.lossy or operation.forcefully or back.maybe_unread

    def judge(self, operation: Operation) -> None:
        """It is over. Raise :exc:`PromiseBroken` if it may not have ended in this way."""
        self.under_way.remove(operation)
        if isinstance(operation, Receive):
            self._judge_receive(operation)
        elif isinstance(operation, Send):
            self._judge_send(operation)
        elif isinstance(operation, SendEof):
            self._judge_eof(operation)
        elif isinstance(operation, Aclose):
            self._judge_close(operation)

    def has_to_end(self, operation: Operation) -> PromiseBroken | None:
        """What is broken if it does not end; ``None`` if it may wait."""
        if isinstance(operation, Receive):
            return self._receive_has_to_end(operation)
        if isinstance(operation, Send):
            return self._send_has_to_end(operation)
        if isinstance(operation, SendEof) and not operation.during_send:
            return self._unlike(of_half.eof_ends_the_peers_receive, operation, "returns")
        if isinstance(operation, Aclose) and operation.forcefully:
            return self._unlike(of_stream.a_forceful_close_is_seen, operation, "returns at once")
        return None

    def has_something_for(self, side: int) -> bool:
        """Whether a ``receive`` of this side has bytes to return now."""
        back = self.directions[1 - side]
        return not (self.closed[side] or back.ended or back.missing(under_way=True) is None)

    def rather(self, side: int, kind: type[Receive] | type[Send]) -> int:
        """The side on which such an operation is not just refused: ``side``, if it can be."""

        def takes_it(side: int) -> bool:
            busy = any(each.side == side and type(each) is kind for each in self.under_way)
            ended = kind is Send and self.directions[side].eof
            return not (busy or ended or self.closed[side])

        return 1 - side if takes_it(1 - side) and not takes_it(side) else side

    def is_sending(self, side: int) -> bool:
        return any(each.side == side and isinstance(each, Send) for each in self.under_way)

    def _judge_receive(self, operation: Receive) -> None:
        back = self.directions[1 - operation.side]
        error, closed = operation.error, self.closed[operation.side]
        if operation.cancelled:
            back.receive_was_cancelled = True
        elif operation.rival is not None and isinstance(error, BusyResourceError):
            pass
        elif operation.is_refused:
            if operation.max_bytes > 0 or not isinstance(error, ValueError):
                check = of_stream.a_second_receiver_is_refused
                raise self._unlike(check, operation, "raises BusyResourceError")
        elif operation.max_bytes < 1:
            if not (isinstance(error, ValueError) or self._is_closed(operation)):
                raise self._unlike(of_stream.max_bytes_is_positive, operation, "raises ValueError")
        elif operation.closed_before:
            check = of_stream.a_closed_stream_does_not_receive
            if not self._is_closed_or_broken(operation):
                raise self._unlike(check, operation, "raises ClosedResourceError")
        elif error is None:
            self._took(operation, back)
        elif closed and isinstance(error, ClosedResourceError):
            pass
        elif isinstance(error, EndOfStream) and (
            back.lossy or back.ended or back.closed or back.eof or back.maybe_eof
        ):
            missing = back.missing()
            if missing is not None and not (back.lossy or back.ended):
                raise self._unlike(self._end_of(back), operation, _returns(missing))
            back.ended = True
        elif isinstance(error, BrokenResourceError) and self._may_break(operation, back):
            back.ended = back.lossy = True
        elif closed:
            raise self._unlike(
                of_stream.close_wakes_receive, operation, "raises ClosedResourceError"
            )
        else:
            raise self._receive_is_wrong(operation, back)

    def _receive_is_wrong(self, operation: Receive, back: Direction) -> PromiseBroken:
        missing = back.missing(under_way=True)
        if missing is not None and not back.lossy:
            return self._unlike(self._bytes_of(back), operation, _returns(missing))
        if back.closed or back.eof or back.maybe_eof:
            ends = (EndOfStream, BrokenResourceError) if back.lossy else EndOfStream
            return self._unlike(self._end_of(back), operation, f"raises {in_words(ends)}")
        return self._unlike(
            of_stream.the_peers_close_ends_receive, operation, "waits: nothing was sent, and no end"
        )

    def _receive_has_to_end(self, operation: Receive) -> PromiseBroken | None:
        back = self.directions[1 - operation.side]
        if operation.is_refused:
            check = of_stream.a_second_receiver_is_refused
            return self._unlike(check, operation, "raises BusyResourceError at once")
        if operation.max_bytes < 1:
            return self._unlike(of_stream.max_bytes_is_positive, operation, "raises ValueError")
        if self.closed[operation.side]:
            check = (
                of_stream.a_closed_stream_does_not_receive
                if operation.closed_before
                else of_stream.close_wakes_receive
            )
            return self._unlike(check, operation, "raises ClosedResourceError")
        if back.missing(under_way=True) is not None or back.closed or back.eof or back.ended:
            return self._receive_is_wrong(operation, back)
        return None

    def _took(self, operation: Receive, back: Direction) -> None:
        data = operation.result
        if type(data) is not bytes or not data:
            check = of_stream.received_are_bytes
            raise self._unlike(check, operation, "returns bytes, at least one")
        if len(data) > operation.max_bytes:
            check = of_stream.max_bytes_is_the_most
            raise self._unlike(check, operation, "returns no more bytes than that")
        if back.ended:
            raise self._unlike(
                self._end_of(back), operation, "raises, as before: the end is the end"
            )
        expected = back.missing(under_way=True)
        if not back.take(data):
            what = "waits: all was received" if expected is None else _returns(expected)
            raise self._unlike(self._bytes_of(back), operation, what)

    def _judge_send(self, operation: Send) -> None:
        out = self.directions[operation.side]
        error, message, closed = operation.error, operation.message, self.closed[operation.side]
        message.under_way = False
        if operation.cancelled:
            out.send_was_cancelled = out.send_was_cancelled or bool(operation.size)
        elif operation.rival is not None and isinstance(error, BusyResourceError):
            if not out.take_back(message):
                expected = f"nothing of {operation} arrives, which was refused"
                raise self._broken(of_stream.racing_senders, expected, "some of it did")
        elif operation.is_refused and (operation.size or error is not None):
            check = of_stream.a_second_sender_is_refused
            raise self._unlike(check, operation, "raises BusyResourceError")
        elif operation.closed_before:
            check = (
                of_stream.a_closed_stream_does_not_send
                if operation.size
                else of_stream.a_closed_stream_does_not_send_nothing
            )
            if not self._is_closed_or_broken(operation):
                raise self._unlike(check, operation, "raises ClosedResourceError")
        elif operation.eof_before and (operation.size or error is not None):
            check = of_half.send_after_eof_is_refused
            kinds = (ClosedResourceError, BrokenResourceError)
            if not (isinstance(error, kinds) or out.maybe_eof):
                raise self._unlike(check, operation, f"raises {in_words(kinds)}")
        elif error is None:
            if closed:
                check = of_stream.close_wakes_send
                raise self._unlike(check, operation, "raises ClosedResourceError")
            if operation.broken_before and operation.size:
                check = of_stream.the_peers_close_breaks_send
                raise self._unlike(check, operation, "raises BrokenResourceError, as before")
            message.whole = True
            if out.ended and not out.lossy and out.missing() is not None:
                check = of_half.eof_does_not_overtake_a_send
                expected = f"{operation} raises, or its bytes come before the end"
                raise self._broken(check, expected, "it returned, and they did not")
        elif closed and isinstance(error, ClosedResourceError):
            pass
        elif isinstance(error, BrokenResourceError) and (
            out.gone or out.eof or out.maybe_eof or out.send_was_cancelled
        ):
            out.broken = out.broken or out.gone
        elif out.send_was_cancelled and isinstance(error, (ClosedResourceError, BusyResourceError)):
            pass  # it is of no more use, or still at work on the one that was cancelled
        elif closed:
            raise self._unlike(of_stream.close_wakes_send, operation, "raises ClosedResourceError")
        else:
            raise self._send_is_wrong(operation)

    def _send_is_wrong(self, operation: Send) -> PromiseBroken:
        out = self.directions[operation.side]
        if out.gone or out.broken:
            check = of_stream.the_peers_close_breaks_send
            return self._unlike(check, operation, "raises BrokenResourceError, or nothing")
        if out.eof or out.maybe_eof:
            check = of_half.send_after_eof_is_refused
            kinds = (ClosedResourceError, BrokenResourceError)
            return self._unlike(check, operation, f"returns, or raises {in_words(kinds)}")
        if not operation.size:
            return self._unlike(of_stream.nothing_is_sent_as_nothing, operation, "returns")
        return self._unlike(of_stream.what_is_sent_arrives, operation, "sends its bytes")

    def _send_has_to_end(self, operation: Send) -> PromiseBroken | None:
        out = self.directions[operation.side]
        if operation.is_refused:
            check = of_stream.a_second_sender_is_refused
            return self._unlike(check, operation, "raises BusyResourceError at once")
        if self.closed[operation.side]:
            check = (
                of_stream.a_closed_stream_does_not_send
                if operation.closed_before
                else of_stream.close_wakes_send
            )
            return self._unlike(check, operation, "raises ClosedResourceError")
        if operation.eof_before and out.eof:
            kinds = (ClosedResourceError, BrokenResourceError)
            check = of_half.send_after_eof_is_refused
            return self._unlike(check, operation, f"raises {in_words(kinds)}")
        if out.gone or out.broken:
            check = of_stream.the_peers_close_wakes_send
            return self._unlike(check, operation, "raises BrokenResourceError, or returns")
        if operation.size and out.has_received(operation.message):
            check = of_stream.what_is_sent_arrives
            return self._unlike(check, operation, "returns: all of it was received")
        return None

    def _judge_eof(self, operation: SendEof) -> None:
        out, error = self.directions[operation.side], operation.error
        if operation.cancelled:
            out.maybe_eof = True
        elif operation.closed_before:
            check = of_half.eof_after_close_is_refused
            if not self._is_closed_or_broken(operation):
                raise self._unlike(check, operation, "raises ClosedResourceError")
        elif error is None:
            out.eof = True
        elif isinstance(error, BusyResourceError) and (
            operation.during_send or out.send_was_cancelled or operation.rival is not None
        ):
            pass
        elif isinstance(error, BrokenResourceError) and (
            out.gone or operation.during_send or out.send_was_cancelled
        ):
            out.maybe_eof = True
        elif out.gone:
            check = of_half.eof_to_a_peer_that_has_gone
            raise self._unlike(check, operation, "raises BrokenResourceError, or nothing")
        elif operation.eof_before:
            both = self.directions[1 - operation.side].eof
            check = of_half.eof_can_be_repeated_by_both if both else of_half.eof_can_be_repeated
            raise self._unlike(check, operation, "does nothing")
        else:
            raise self._unlike(of_half.eof_ends_the_peers_receive, operation, "returns")

    def _judge_close(self, operation: Aclose) -> None:
        out = self.directions[operation.side]
        if operation.cancelled:
            out.lossy = True
        elif operation.error is not None:
            if operation.closed_before:
                check = of_stream.close_can_be_repeated
            else:
                check = of_stream.cancelled_operations_do_not_keep_it_open
            raise self._unlike(check, operation, "returns")

    # What may be

    def _is_closed_or_broken(self, operation: Operation) -> bool:
        """Whether it says that its side is closed; or broken, if it may have been that before."""
        may_be_broken = self.directions[operation.side].send_was_cancelled
        return isinstance(operation.error, ClosedResourceError) or (
            may_be_broken and isinstance(operation.error, BrokenResourceError)
        )

    def _is_closed(self, operation: Operation) -> bool:
        return operation.closed_before and isinstance(operation.error, ClosedResourceError)

    def _may_break(self, operation: Receive, back: Direction) -> bool:
        """Whether ``receive`` may find the stream broken.

        A cancelled ``send`` may have done it, as it does on TLS: for its own side at once, for the
        other one at the end.
        """
        return (
            back.lossy
            or self.directions[operation.side].send_was_cancelled
            or (back.send_was_cancelled and back.closed and back.missing() is None)
        )

    # Which promise it is

    def _bytes_of(self, direction: Direction) -> PairCheck[ByteStream]:
        if direction.receive_was_cancelled:
            return of_stream.a_cancelled_receive_loses_nothing
        if direction.send_was_cancelled:
            return of_stream.a_cancelled_send_repeats_nothing
        return of_stream.what_is_sent_arrives

    def _end_of(self, direction: Direction) -> PairCheck[ByteStream]:
        if direction.eof and not direction.closed:
            return of_half.eof_ends_the_peers_receive
        if direction.missing() is not None:
            return of_stream.sent_bytes_survive_the_close
        return of_stream.the_peers_close_ends_receive

    def _unlike(
        self, check: PairCheck[ByteStream], operation: Operation, expected: str
    ) -> PromiseBroken:
        return self._broken(check, f"{operation} {expected}", operation.seen, operation.error)

    def _broken(
        self,
        check: PairCheck[ByteStream],
        expected: str,
        seen: str,
        error: Exception | None = None,
    ) -> PromiseBroken:
        if error is not None:
            broken = PromiseBroken.by(error, expected, seen)
            broken.__cause__ = error
        else:
            broken = PromiseBroken(expected, seen)
        broken.check = check
        return broken
