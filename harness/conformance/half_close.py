"""What AnyIO's byte streams promise of ``send_eof``, where they have it.

Not every byte stream can end one direction alone: ``anyio.streams.tls.TLSStream`` raises
:exc:`NotImplementedError`. So these are checks of their own.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from anyio import (
    BrokenResourceError,
    BusyResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    create_task_group,
)
from anyio.abc import ByteStream

from ..settling import settle
from .byte_stream import byte_stream_checks, check_or_fuzz
from .contract import (
    TIMEOUT,
    Checks,
    MakePair,
    PairCheck,
    PromiseBroken,
    Waiting,
    expect,
    raises,
    tasks,
    waits_for,
)
from .exchange import (
    MORE_THAN_FITS,
    Streams,
    blocked_send,
    clogged,
    goes_through,
    ignoring_end,
    received_is,
    until_the_end,
)

SEND_EOF = "anyio.abc.ByteStream.send_eof"

_check: Checks[ByteStream] = Checks()


async def check_half_closeable(
    make_pair: MakePair[ByteStream],
    *,
    clogged_pair: MakePair[ByteStream] | None = None,
    timeout: float = TIMEOUT,
    except_for: Collection[str] = (),
    seed: int | str | None = None,
    operations: int | None = None,
    examples: int | None = None,
) -> None:
    """Check that a byte stream keeps all that AnyIO promises of one, ``send_eof`` included.

    Its arguments and what it raises are those of :func:`check_byte_stream`.
    """
    __tracebackhide__ = True
    checks = (*byte_stream_checks(), *_check.all)
    asked: dict[str, Any] = {"seed": seed, "operations": operations, "examples": examples}
    await check_or_fuzz(
        checks, make_pair, clogged_pair, timeout, except_for, asked, half_close=True
    )


def half_close_checks() -> tuple[PairCheck[ByteStream], ...]:
    """The checks that :func:`check_half_closeable` has beyond those of a byte stream."""
    return _check.all


@_check("Send an end-of-file indication to the peer", SEND_EOF)
async def eof_ends_the_peers_receive(make: Streams) -> None:
    """What was sent before it comes first; and the end stays the end."""
    async with make() as (first, second), create_task_group() as group:

        async def send_and_end() -> None:
            await first.send(b"the last words")
            await first.send_eof()

        group.start_soon(send_and_end)
        await settle()
        await received_is(second, b"the last words", "what was sent before the end")
        for again in ("", ", asked again", ", and once more"):
            await raises(EndOfStream, second.receive(), f"receive() after send_eof(){again}")


@_check("Send an end-of-file indication to the peer", SEND_EOF)
async def eof_wakes_the_peers_receive(make: Streams) -> None:
    """A ``receive`` that is blocked sees it."""
    async with make() as (first, second), tasks() as group:
        receiving = await Waiting.begin(group, second.receive, "a blocked receive()")
        receiving.expect_waiting()
        await first.send_eof()
        await receiving.expect_raised(EndOfStream, "when the peer sends the end")


@_check("Send an end-of-file indication to the peer", SEND_EOF)
async def eof_leaves_the_other_direction_alone(make: Streams) -> None:
    """The side that has sent the end still receives, before and after the other one sees it."""
    async with make() as (first, second):
        await first.send_eof()
        await goes_through(second, first, b"before", "what is sent back")
        await raises(EndOfStream, second.receive(), "receive() after send_eof()")
        await goes_through(second, first, bytes(range(256)) * 256, "64 KiB that are sent back")
        async with tasks() as group:
            receiving = await Waiting.begin(group, first.receive, "receive() after send_eof()")
            receiving.expect_waiting()


@_check("This method is idempotent (does nothing on successive calls)", SEND_EOF)
async def eof_can_be_repeated(make: Streams) -> None:
    """Before and after the peer has seen the end."""
    async with make() as (first, second):
        await first.send_eof()
        await first.send_eof()
        await raises(EndOfStream, second.receive(), "receive() after two send_eof()")
        await first.send_eof()
        await goes_through(second, first, b"still", "what is sent back")


@_check("This method is idempotent (does nothing on successive calls)", SEND_EOF)
async def eof_can_be_repeated_by_both(make: Streams) -> None:
    """When both directions have ended."""
    async with make() as (first, second):
        for stream in (first, second, first, second):
            await stream.send_eof()
        for stream in (first, second):
            await raises(EndOfStream, stream.receive(), "receive() after all send_eof()")
            await stream.send_eof()


@_check(
    "You should not try to send any further data to this stream after calling this method",
    SEND_EOF,
)
async def send_after_eof_is_refused(make: Streams) -> None:
    """With one of AnyIO's exceptions; and the peer gets none of it."""
    async with make() as (first, second):
        await first.send_eof()
        refused = (ClosedResourceError, BrokenResourceError)
        await raises(refused, first.send(b"late"), "send() after send_eof()")
        await raises(EndOfStream, second.receive(), "receive() of the peer")


@_check("Send an end-of-file indication to the peer", SEND_EOF)
async def both_ends(make: Streams) -> None:
    """Both sides send the end, see the other's, and close."""
    async with make() as (first, second):
        for stream in (first, second):
            await stream.send_eof()
        for stream in (first, second):
            await raises(EndOfStream, stream.receive(), "receive() after both send_eof()")
        for stream in (first, second):
            await stream.aclose()
            await raises(ClosedResourceError, stream.receive(), "receive() after aclose()")


@_check("Send an end-of-file indication to the peer", f"{SEND_EOF}; trio's check")
async def eof_does_not_overtake_a_send(make: Streams) -> None:
    """During a blocked ``send``, ``send_eof`` is refused, or the end comes after all bytes."""
    async with clogged(make) as (first, second), create_task_group() as group:
        sending = await blocked_send(group, first)
        try:
            with CancelScope() as scope:
                group.start_soon(_cancel_when_blocked, scope)
                await first.send_eof()
        except (BusyResourceError, BrokenResourceError):
            group.cancel_scope.cancel()
            return
        if scope.cancelled_caught:  # it waits for the `send`
            group.cancel_scope.cancel()
            return
        received = bytearray()
        with waits_for(lambda: f"the end, after {len(received)} bytes"):
            await until_the_end(second, received)
        expect(
            len(received) == MORE_THAN_FITS or sending.error is not None,
            f"all {MORE_THAN_FITS} bytes arrive before the end, or send() raises",
            f"{len(received)} bytes arrived, and of the send(): {sending.state}",
        )
        group.cancel_scope.cancel()


@_check(
    "BrokenResourceError: rendered unusable due to external causes (e.g. a send stream whose peer "
    "has disconnected)",
    "anyio.BrokenResourceError",
)
async def eof_to_a_peer_that_has_gone(make: Streams) -> None:
    """It does nothing, or raises :exc:`~anyio.BrokenResourceError`: nothing else."""
    async with make() as (first, second):
        async with create_task_group() as group:
            group.start_soon(ignoring_end, first.send, b"unread")
            await settle()
            await second.aclose()
        await settle()
        try:
            await first.send_eof()
        except BrokenResourceError:
            pass
        except Exception as exc:
            expected = "send_eof() raises BrokenResourceError, or nothing"
            raise PromiseBroken.by(exc, expected, f"it raised {exc!r}") from exc


@_check("ClosedResourceError: trying to use a resource that has been closed", "AnyIO's exceptions")
async def eof_after_close_is_refused(make: Streams) -> None:
    """After its own ``aclose`` a stream cannot send the end."""
    async with make() as (first, _):
        await first.aclose()
        await raises(ClosedResourceError, first.send_eof(), "send_eof() after aclose()")


async def _cancel_when_blocked(scope: CancelScope) -> None:
    await settle()
    scope.cancel()
