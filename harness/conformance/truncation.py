"""What is promised of the end of a stream that authenticates it.

Whoever sits on the wire can end what lies below a stream at any moment. TLS therefore ends with a
closing handshake (RFC 8446, 6.1): an end without one is a truncation, and must not look like an
end. AnyIO's ``TLSStream`` keeps to that with ``standard_compatible=True``, its default, and raises
:exc:`~anyio.BrokenResourceError`. With ``standard_compatible=False`` it takes a truncation for an
end, and says so: these checks are not for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from anyio import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    create_task_group,
)
from anyio.abc import ByteStream

from ..settling import settle
from .contract import (
    TIMEOUT,
    Check,
    CheckList,
    MakePair,
    Pairs,
    PromiseBroken,
    Waiting,
    checked_maker,
    each_of,
    raises,
    shown,
    tasks,
)
from .exchange import expect_same, ignoring_end, received_is, send_until_noticed

ENDS = (
    "According to the TLS standard, encrypted connections should end with a closing handshake. "
    "This practice prevents so-called truncation attacks. AnyIO follows the standard by default"
)
TLS = "AnyIO, docs/streams, Dealing with ragged EOFs; RFC 8446, 6.1"

#: Ends what lies below a stream, without the closing handshake.
Cut = Callable[[Any], Awaitable[object]]


class Cuttable(Pairs[ByteStream]):
    """Pairs of streams, and how what lies below one of them is ended."""

    def __init__(self, make_pair: MakePair[ByteStream], cut: Cut, *, turned: bool) -> None:
        super().__init__(make_pair, None, turned=turned)
        self.cut: Cut = cut


class TruncationCheck(Check[Cuttable]):
    """A check of two streams that are connected to one another, one of which is cut off.

    ``await check(make_pair, cut)`` makes pairs by ``await make_pair()``, ends what lies below one
    of them by ``await cut(stream)``, and looks at the other; and the other way round.
    """

    async def __call__(
        self, make_pair: MakePair[ByteStream], cut: Cut, *, timeout: float = TIMEOUT
    ) -> None:
        """Check that the promise is kept.

        :param make_pair: an async callable that returns two connected streams
        :param cut: an async callable that ends what lies below the stream that it is given
        :param timeout: seconds for each of the two looks
        :raises PromiseBroken: if it is not kept
        """
        __tracebackhide__ = True
        checked_maker(make_pair, "make_pair")
        if not callable(cut):
            raise TypeError(f"cut has to be an async callable that takes a stream, not {cut!r}")
        for turned in (False, True):
            pairs = Cuttable(make_pair, cut, turned=turned)
            await self.look(pairs, timeout=timeout, turned=turned)


_check: CheckList[Cuttable, TruncationCheck] = CheckList(TruncationCheck)


async def check_truncation(
    make_pair: MakePair[ByteStream], cut: Cut, *, timeout: float = TIMEOUT
) -> None:
    """Check that a stream tells a truncation from an end.

    Both streams of a pair are looked at. :func:`truncation_checks` has the same checks one by one.

    ::

        async def cut(stream):
            await stream.transport_stream.aclose()

        await check_truncation(make_tls_pair, cut)

    :param make_pair: an async callable that returns two connected streams, new ones at each call.
        The check closes them.
    :param cut: an async callable that ends what lies below the stream that it is given, without the
        closing handshake. What was sent before has to arrive.
    :param timeout: seconds for each check; in virtual time, what hangs takes none
    :raises PromiseBroken: naming the promise, what was expected and what was seen; in an
        ``ExceptionGroup`` if there are several
    """
    __tracebackhide__ = True
    await each_of(_check.all, make_pair, cut, timeout=timeout)


def truncation_checks() -> tuple[TruncationCheck, ...]:
    """All checks of :func:`check_truncation`, for one test each."""
    return _check.all


# A cut


@_check(ENDS, TLS)
async def a_cut_is_no_end(make: Cuttable) -> None:
    """``receive`` raises ``BrokenResourceError``, and so it stays."""
    async with make() as (first, second):
        await make.cut(first)
        for again in ("", ", asked again", ", and once more"):
            await raises(BrokenResourceError, second.receive(), f"receive() after a cut{again}")


@_check(ENDS, TLS)
async def a_cut_after_bytes_is_no_end(make: Cuttable) -> None:
    """What was sent before it comes first."""
    async with make() as (first, second), create_task_group() as group:

        async def send_and_cut() -> None:
            await first.send(b"the last words")
            await make.cut(first)

        group.start_soon(send_and_cut)
        await settle()
        await received_is(second, b"the last words", "what was sent before the cut")
        await raises(BrokenResourceError, second.receive(), "receive() after a cut")


@_check(ENDS, TLS)
async def a_cut_wakes_receive(make: Cuttable) -> None:
    """A ``receive`` that is blocked sees it."""
    async with make() as (first, second), tasks() as group:
        receiving = await Waiting.begin(group, second.receive, "a blocked receive()")
        receiving.expect_waiting()
        await make.cut(first)
        await receiving.expect_raised(BrokenResourceError, "when what lies below is cut off")


@_check(ENDS, f"{TLS}; anyio.abc.ByteReceiveStream")
async def a_cut_is_raised_by_iteration(make: Cuttable) -> None:
    """``async for`` does not simply stop, or a part would be taken for the whole."""
    received = []

    async with make() as (first, second), create_task_group() as group:

        async def send_and_cut() -> None:
            await first.send(b"a part")
            await make.cut(first)

        async def iterate() -> str:
            async for data in second:
                received.append(data)
            return f"the end, after {shown(b''.join(received))}"

        group.start_soon(send_and_cut)
        await raises(BrokenResourceError, iterate(), "iterating over a stream that is cut off")
    expect_same(b"".join(received), b"a part", "what comes before it")


@_check(
    "BrokenResourceError: rendered unusable due to external causes (e.g. a send stream whose peer "
    "has disconnected)",
    "anyio.BrokenResourceError",
)
async def a_cut_breaks_send(make: Cuttable) -> None:
    """``send`` notices in the end, and raises ``BrokenResourceError`` as well."""
    async with make() as (first, second):
        await make.cut(first)
        await ignoring_end(second.receive)
        await raises(BrokenResourceError, send_until_noticed(second), "send() after a cut")


@_check("Close the resource", "anyio.abc.AsyncResource.aclose")
async def a_stream_that_is_cut_off_can_be_closed(make: Cuttable) -> None:
    """``aclose`` may raise ``BrokenResourceError``, as its own handshake fails; it closes."""
    async with make() as (first, second):
        await make.cut(first)
        for stream, what in ((second, "aclose() after a cut"), (first, "aclose() of the cut side")):
            try:
                await stream.aclose()
            except (BrokenResourceError, ClosedResourceError):
                pass
            except Exception as exc:
                expected = f"{what} raises BrokenResourceError, or nothing"
                raise PromiseBroken(expected, f"it raised {exc!r}") from exc
            refused = (ClosedResourceError, BrokenResourceError)
            await raises(refused, stream.receive(), f"receive() after {what}")


# An end


@_check(
    "EndOfStream: if this stream has been closed from the other end",
    f"anyio.abc.ByteReceiveStream.receive; {TLS}",
)
async def a_close_is_an_end(make: Cuttable) -> None:
    """With its handshake, ``aclose`` is ``EndOfStream``, after all that was sent before."""
    async with make() as (first, second), create_task_group() as group:

        async def send_and_close() -> None:
            await first.send(b"the last words")
            # Its handshake may fail as the peer closes without one: that is not looked at.
            await ignoring_end(first.aclose)

        group.start_soon(send_and_close)
        await received_is(second, b"the last words", "what was sent before the close")
        for again in ("", ", asked again"):
            await raises(
                EndOfStream, second.receive(), f"receive() after the peer's aclose(){again}"
            )
        await ignoring_end(second.aclose)


@_check(
    "EndOfStream: if this stream has been closed from the other end",
    f"anyio.abc.ByteReceiveStream.receive; {TLS}",
)
async def both_close(make: Cuttable) -> None:
    """Both at the same time: neither raises anything, and neither waits for ever."""
    raised: list[Exception] = []

    async def close(stream: ByteStream) -> None:
        try:
            await stream.aclose()
        except Exception as exc:
            raised.append(exc)

    async with make() as (first, second), create_task_group() as group:
        group.start_soon(close, first)
        group.start_soon(close, second)
    if raised:
        raise PromiseBroken("aclose() of both sides returns", f"it raised {raised[0]!r}")
