"""The simulated network ends its streams as TCP does: one list of scenarios, run on both.

The yardstick is TCP on the backend trio, whose streams pass on what the kernel says. AnyIO's TCP
streams on asyncio and uvloop put a protocol with a read queue of its own between; where a scenario
ends otherwise there, `ON_ASYNCIO` and `ON_UVLOOP` say how and why.
"""

from __future__ import annotations

import socket
import struct
import sys

import pytest
from anyio import create_task_group
from anyio.abc import SocketAttribute

BROKEN = "BrokenResourceError"
BUSY = "BusyResourceError"
CLOSED = "ClosedResourceError"
END = "EndOfStream"

#: More than the send and receive buffers of a loopback connection hold together.
TOO_MUCH = bytes(32 * 1024 * 1024)


async def outcome(awaitable):
    """What came back, or the name of the exception class that did."""
    try:
        return await awaitable
    except Exception as exc:
        return type(exc).__name__


async def outcome_in_background(operation, meanwhile, harness):
    """How ``operation`` ended that was blocked when ``meanwhile`` was called."""
    outcomes = []

    async def run():
        outcomes.append(await outcome(operation()))

    async with create_task_group() as task_group:
        task_group.start_soon(run)
        await harness.settle()
        assert not outcomes
        await meanwhile()
    return outcomes[0]


async def send_until_it_fails(stream):
    """Whether the first send went through, and what the first that did not raised."""
    first = await outcome(stream.send(b"x"))
    failure = first
    while failure is None:
        failure = await outcome(stream.send(b"x"))
    return [first, failure]


async def reset(stream):
    if hasattr(stream, "reset"):
        await stream.reset()
    else:
        raw = stream.extra(SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()


# The scenarios: how each ends as seen by the test, a list of values and exception class names


async def bytes_then_close(near, far, harness):
    await near.send(b"abc")
    await near.aclose()
    return [await outcome(far.receive()) for _ in range(3)]


async def bytes_then_eof_then_answer(near, far, harness):
    await near.send(b"question")
    await near.send_eof()
    seen = [await outcome(far.receive()), await outcome(far.receive())]
    await far.send(b"answer")
    seen.append(await outcome(near.receive()))
    await far.aclose()
    return [*seen, await outcome(near.receive())]


async def send_after_eof(near, far, harness):
    await near.send_eof()
    return [await outcome(near.send(b"x"))]


async def eof_twice(near, far, harness):
    await near.send_eof()
    await near.send_eof()
    return [await outcome(far.receive())]


async def eof_to_a_closed_peer(near, far, harness):
    await far.aclose()
    return [await outcome(near.receive()), await outcome(near.send_eof())]


async def sends_to_a_closed_peer(near, far, harness):
    await near.aclose()
    seen = [await outcome(far.receive())]
    return seen + await send_until_it_fails(far)


async def sends_to_a_closed_peer_without_reading(near, far, harness):
    await near.aclose()
    return await send_until_it_fails(far)


async def receive_after_the_peer_closed_with_unread_bytes(near, far, harness):
    await far.send(b"abc")
    assert await near.receive(1) == b"a"  # so "bc" has arrived
    await near.aclose()
    return [await outcome(far.receive())]


async def last_words_of_a_peer_that_closed_with_unread_bytes(near, far, harness):
    await far.send(b"abc")
    assert await near.receive(1) == b"a"
    await near.send(b"last words")
    await near.aclose()
    return [await outcome(far.receive()), await outcome(far.receive())]


async def last_words_of_a_peer_that_reset(near, far, harness):
    await near.send(b"last words")
    assert await far.receive(1) == b"l"
    await reset(near)
    return [await outcome(far.receive()), await outcome(far.receive())]


async def sends_after_a_reset_was_told(near, far, harness):
    await reset(near)
    return [await outcome(far.receive()), await outcome(far.send(b"x"))]


async def blocked_receive_and_the_peer_closes(near, far, harness):
    return [await outcome_in_background(near.receive, far.aclose, harness)]


async def blocked_receive_and_the_peer_sends_eof(near, far, harness):
    return [await outcome_in_background(near.receive, far.send_eof, harness)]


async def blocked_receive_and_the_peer_resets(near, far, harness):
    return [await outcome_in_background(near.receive, lambda: reset(far), harness)]


async def blocked_receive_and_it_is_closed(near, far, harness):
    return [await outcome_in_background(near.receive, near.aclose, harness)]


async def blocked_send_and_the_peer_closes(near, far, harness):
    return [await outcome_in_background(lambda: near.send(TOO_MUCH), far.aclose, harness)]


async def blocked_send_and_the_peer_resets(near, far, harness):
    return [await outcome_in_background(lambda: near.send(TOO_MUCH), lambda: reset(far), harness)]


async def blocked_send_and_it_is_closed(near, far, harness):
    return [await outcome_in_background(lambda: near.send(TOO_MUCH), near.aclose, harness)]


async def second_receive_at_once(near, far, harness):
    seen = []

    async def meanwhile():
        seen.append(await outcome(near.receive()))
        await far.send(b"x")

    return [await outcome_in_background(near.receive, meanwhile, harness), *seen]


async def second_send_at_once(near, far, harness):
    seen = []

    async def meanwhile():
        seen.append(await outcome(near.send(b"x")))
        await near.aclose()

    return [await outcome_in_background(lambda: near.send(TOO_MUCH), meanwhile, harness), *seen]


async def use_after_close(near, far, harness):
    await near.aclose()
    await near.aclose()
    return [await outcome(near.receive()), await outcome(near.send(b"x"))]


async def use_after_both_closed(near, far, harness):
    await near.aclose()
    await far.aclose()
    return [await outcome(far.receive()), await outcome(far.send(b"x"))]


async def receive_of_nothing(near, far, harness):
    return [await outcome(near.receive(0)), await outcome(near.receive(-1))]


async def send_of_nothing(near, far, harness):
    return [await outcome(near.send(b"")), await outcome(near.send(b"x")), await far.receive()]


EXPECTED = {
    bytes_then_close: [b"abc", END, END],
    bytes_then_eof_then_answer: [b"question", END, b"answer", END],
    send_after_eof: [BROKEN],
    eof_twice: [END],
    eof_to_a_closed_peer: [END, None],
    sends_to_a_closed_peer: [END, None, BROKEN],
    sends_to_a_closed_peer_without_reading: [None, BROKEN],
    receive_after_the_peer_closed_with_unread_bytes: [BROKEN],
    last_words_of_a_peer_that_closed_with_unread_bytes: [b"last words", BROKEN],
    last_words_of_a_peer_that_reset: [b"ast words", BROKEN],
    sends_after_a_reset_was_told: [BROKEN, BROKEN],
    blocked_receive_and_the_peer_closes: [END],
    blocked_receive_and_the_peer_sends_eof: [END],
    blocked_receive_and_the_peer_resets: [BROKEN],
    blocked_receive_and_it_is_closed: [CLOSED],
    blocked_send_and_the_peer_closes: [BROKEN],
    blocked_send_and_the_peer_resets: [BROKEN],
    blocked_send_and_it_is_closed: [CLOSED],
    second_receive_at_once: [b"x", BUSY],
    second_send_at_once: [CLOSED, BUSY],
    use_after_close: [CLOSED, CLOSED],
    use_after_both_closed: [CLOSED, CLOSED],
    receive_of_nothing: ["ValueError", "ValueError"],
    send_of_nothing: [None, None, b"x"],
}

#: Where AnyIO's TCP streams on asyncio differ from the kernel's.
ON_ASYNCIO = {
    # StreamProtocol has taken every arrived byte off the kernel, so the kernel knows of none
    # unread when the socket is closed, and sends FIN where it would have sent RST.
    receive_after_the_peer_closed_with_unread_bytes: [END],
    last_words_of_a_peer_that_closed_with_unread_bytes: [b"last words", END],
    # `transport.write()` after `write_eof()` is a RuntimeError that AnyIO passes on, as the
    # transport is not closing.
    send_after_eof: ["RuntimeError"],
}

#: uvloop is no different, in what is listed here.
ON_UVLOOP = ON_ASYNCIO

each_scenario = pytest.mark.parametrize(
    "scenario", EXPECTED, ids=[scenario.__name__ for scenario in EXPECTED]
)
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the yardstick is TCP on Linux")


@each_scenario
@pytest.mark.harness(transports=["memory"])
async def test_memory_ends_as_expected(harness, scenario):
    assert await scenario(*await harness.pair(), harness) == EXPECTED[scenario]


@on_linux
@each_scenario
@pytest.mark.harness(transports=["tcp"], backends=["trio"])
async def test_the_kernels_tcp_ends_in_the_same_way(harness, scenario):
    assert await scenario(*await harness.pair(), harness) == EXPECTED[scenario]


@on_linux
@each_scenario
@pytest.mark.harness(transports=["tcp"], backends=["asyncio", "uvloop"])
async def test_tcp_on_asyncio_differs_only_where_it_is_listed(harness, scenario):
    differing = ON_UVLOOP if harness.backend == "uvloop" else ON_ASYNCIO
    expected = {**EXPECTED, **differing}[scenario]
    assert await scenario(*await harness.pair(), harness) == expected


@pytest.mark.harness(transports=["memory"])
async def test_a_reset_in_memory_is_told_every_time(harness):
    """As AnyIO does on asyncio. Linux tells it once, and then receives find the end."""
    near, far = await harness.pair()
    await near.reset()
    assert [await outcome(far.receive()) for _ in range(3)] == [BROKEN] * 3


@on_linux
@pytest.mark.harness(transports=["tcp"], backends=["asyncio", "uvloop"])
async def test_a_reset_over_tcp_on_asyncio_is_told_every_time(harness):
    near, far = await harness.pair()
    await reset(near)
    assert [await outcome(far.receive()) for _ in range(3)] == [BROKEN] * 3
