"""What a check is given, and what it says of what it cannot use."""

from __future__ import annotations

import math
from unittest import SkipTest

import anyio
import pytest
from anyio import sleep_forever
from anyio.lowlevel import checkpoint
from broken_streams import BROKEN, Sound, maker

from harness.conformance import (
    PromiseBroken,
    byte_stream_checks,
    check_byte_stream,
    check_half_closeable,
    half_close_checks,
)
from harness.virtualtime import VirtualClock

pytestmark = pytest.mark.harness()

CHECKS = {check.name: check for check in (*byte_stream_checks(), *half_close_checks())}

#: A check, and all of them: both are asked alike.
ASKED = [CHECKS["ping_pong"], check_byte_stream, check_half_closeable]


def ids(value: object) -> str:
    return getattr(value, "name", None) or getattr(value, "__name__", None) or repr(value)


@pytest.mark.parametrize("check", ASKED, ids=ids)
@pytest.mark.parametrize("wrong", [None, 3, (Sound, Sound)], ids=["None", "3", "a pair"])
async def test_what_is_no_maker(check, wrong, anyio_backend):
    with pytest.raises(TypeError) as caught:
        await check(wrong)
    assert str(caught.value) == (
        f"make_pair has to be an async callable that returns two streams, not {wrong!r}"
    )
    with pytest.raises(TypeError, match=r"^clogged_pair has to be an async callable that "):
        await check(maker(Sound), clogged_pair=3)


@pytest.mark.parametrize("check", ASKED, ids=ids)
@pytest.mark.parametrize(
    "made", [None, 3, (), ("one",), ("one", "two"), "ab", (None, None)], ids=repr
)
async def test_what_makes_no_pair(check, made, anyio_backend):
    async def make_pair():
        return made

    with pytest.raises(TypeError) as caught:
        await check(make_pair)
    assert str(caught.value) == (
        f"make_pair has to return two streams that are connected, not {made!r}"
    )


async def test_what_makes_one_stream_only(anyio_backend):
    async def make_pair():
        first, second = await maker(Sound)()
        await second.aclose()
        return first

    with pytest.raises(TypeError, match=r"^make_pair has to return two streams that are .*Sound"):
        await check_byte_stream(make_pair)


async def test_what_makes_it_without_await(anyio_backend):
    with pytest.raises(TypeError) as caught:
        await check_byte_stream(lambda: ("one", "two"))
    assert str(caught.value) == (
        "make_pair has to be async: it returned ('one', 'two'), which cannot be awaited"
    )


async def test_a_clogged_pair_that_is_not_clogged(anyio_backend):
    roomy = maker(Sound, capacity=1 << 40)
    with pytest.raises(ValueError, match=r"^clogged_pair has to make streams on which no send"):
        await CHECKS["close_wakes_send"](maker(Sound), clogged_pair=roomy)
    with pytest.raises(ValueError, match=r"^clogged_pair has to make streams on which no send"):
        await check_byte_stream(maker(Sound), clogged_pair=roomy)


async def test_what_does_not_go_together(anyio_backend):
    with pytest.raises(ValueError, match="clogged_pair is for the checks; random operations"):
        await check_byte_stream(maker(Sound), clogged_pair=maker(Sound), seed=1)
    with pytest.raises(TypeError, match="a list of names of checks, not 'ping_pong'"):
        await check_byte_stream(maker(Sound), except_for="ping_pong")


async def test_a_send_that_takes_its_time_is_a_checkpoint(anyio_backend, virtual_clock):
    class Unhurried(Sound):
        async def send(self, item):
            await super().send(item)
            await anyio.sleep(0.01)

    await CHECKS["operations_are_checkpoints"](maker(Unhurried))


async def test_what_spins_is_ended_in_virtual_time_too(anyio_backend, virtual_clock):
    class Spins(Sound):
        async def receive(self, max_bytes=65536):
            while not self.reads_ahead or self.peer_has_gone:
                await checkpoint()
            return await super().receive(max_bytes)

    with pytest.raises(PromiseBroken) as caught:
        await CHECKS["the_peers_close_ends_receive"](maker(Spins), timeout=0.5)
    assert caught.value.seen.startswith("after 0.5 s it still waits for receive() ")
    assert virtual_clock.now == 0


async def test_a_check_that_runs_is_named_in_the_tree(anyio_backend, virtual_clock):
    names: list[str] = []

    class Hangs(Sound):
        async def receive(self, max_bytes=65536):
            names.extend(task.name or "" for task in anyio.get_running_tasks())
            return await super().receive(max_bytes)

    await CHECKS["ping_pong"](maker(Hangs))
    assert "the time-out of ping_pong" in names


async def test_a_clogged_pair_that_is_none(anyio_backend):
    async def clogged_pair():
        return None

    with pytest.raises(TypeError, match=r"^clogged_pair has to return two streams "):
        await check_byte_stream(maker(Sound), clogged_pair=clogged_pair)


@pytest.mark.parametrize("check", ASKED, ids=ids)
@pytest.mark.parametrize("error", [OSError("no route"), AssertionError("no"), SkipTest("no net")])
async def test_what_the_maker_raises_is_no_broken_promise(check, error, anyio_backend):
    async def make_pair():
        raise error

    with pytest.raises(type(error)) as caught:
        await check(make_pair)
    assert caught.value is error


async def test_a_maker_that_fails_later(anyio_backend):
    made = 0

    async def make_pair():
        nonlocal made
        made += 1
        if made == 2:
            raise ConnectionRefusedError("only one")
        return await maker(Sound)()

    with pytest.raises(ConnectionRefusedError, match="only one"):
        await CHECKS["a_deadline_to_come"](make_pair)


async def test_a_maker_that_hangs(anyio_backend, virtual_clock: VirtualClock):
    with pytest.raises(PromiseBroken) as caught:
        await CHECKS["ping_pong"](sleep_forever, timeout=3)
    assert caught.value.seen == "after 3 s it still waits for make_pair()"
    assert virtual_clock.now == 3


@pytest.mark.parametrize("check", ASKED, ids=ids)
@pytest.mark.parametrize("timeout", [0, -1, -math.inf, math.nan], ids=repr)
async def test_a_timeout_that_is_none(check, timeout, anyio_backend):
    with pytest.raises(ValueError, match="timeout has to be a positive number of seconds, not "):
        await check(maker(Sound), timeout=timeout)


async def test_a_timeout_without_end(anyio_backend):
    await CHECKS["ping_pong"](maker(Sound), timeout=math.inf)


# Back-pressure

#: The checks that need a `send` that is blocked.
NEED_A_BLOCKED_SEND = {
    "a_blocked_direction_does_not_block_the_other",
    "a_cancelled_send_repeats_nothing",
    "a_deadline_that_is_now",
    "a_deadline_to_come",
    "a_second_sender_is_refused",
    "close_wakes_send",
    "eof_does_not_overtake_a_send",
    "the_peers_close_wakes_send",
    "what_waits_does_not_keep_the_loop_busy",
}

WITHOUT_END = 1 << 40


@pytest.mark.parametrize("check", CHECKS.values(), ids=ids)
async def test_without_back_pressure(check, anyio_backend, virtual_clock: VirtualClock):
    """What cannot be found out is skipped, and says how it could be."""
    make_pair = maker(Sound, capacity=WITHOUT_END)
    if check.name not in NEED_A_BLOCKED_SEND:
        await check(make_pair)
        return
    with pytest.raises(SkipTest) as caught:
        await check(make_pair)
    assert "does not wait for the peer, so it cannot be blocked" in str(caught.value)
    assert "A `clogged_pair` may help" in str(caught.value)


@pytest.mark.parametrize("name", sorted(NEED_A_BLOCKED_SEND))
async def test_with_a_clogged_pair(name: str, anyio_backend, virtual_clock: VirtualClock):
    """A pair of the user's own, which is full at once, is what the check looks at."""
    made: list[str] = []

    async def make_pair():
        made.append("pair")
        return await maker(Sound, capacity=WITHOUT_END)()

    async def clogged_pair():
        made.append("clogged")
        return await maker(Sound, capacity=65536)()

    await CHECKS[name](make_pair, clogged_pair=clogged_pair)
    assert "clogged" in made
    for broken in BROKEN[name]:
        with pytest.raises(PromiseBroken) as caught:
            await CHECKS[name](maker(broken, capacity=WITHOUT_END), clogged_pair=maker(broken))
        assert caught.value.check is CHECKS[name]


async def test_one_side_that_cannot_be_blocked_does_not_hide_the_other(
    anyio_backend, virtual_clock: VirtualClock
):
    (broken,) = (b for b in BROKEN["a_deadline_to_come"] if b.__name__.startswith("IsBroken"))
    with pytest.raises(PromiseBroken) as caught:
        await CHECKS["a_deadline_to_come"](maker(broken, Sound, capacity=WITHOUT_END))
    assert caught.value.turned or caught.value.check is not None


async def test_all_of_them_without_back_pressure(anyio_backend, virtual_clock: VirtualClock):
    """A skip is none of the streams' faults."""
    await check_half_closeable(maker(Sound, capacity=WITHOUT_END))
