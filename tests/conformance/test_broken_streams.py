"""Every check can fail: each finds the streams that were broken for it, on either side."""

from __future__ import annotations

from contextlib import suppress
from unittest import SkipTest

import pytest
from broken_streams import BROKEN, Sound, maker

from harness.conformance import PromiseBroken, byte_stream_checks, half_close_checks
from harness.virtualtime import VirtualClock

pytestmark = pytest.mark.harness()

CHECKS = {check.name: check for check in (*byte_stream_checks(), *half_close_checks())}

MUTANTS = [(name, broken) for name, mutants in BROKEN.items() for broken in mutants]


def ids(value: object) -> str:
    return value.__name__ if isinstance(value, type) else str(value)


@pytest.mark.parametrize("side", ["both", "first", "second"])
@pytest.mark.parametrize(("name", "broken"), MUTANTS, ids=ids)
async def test_it_is_found(
    name: str, broken: type[Sound], side: str, anyio_backend: object, virtual_clock: VirtualClock
):
    check = CHECKS[name]
    first = Sound if side == "second" else broken
    second = Sound if side == "first" else broken
    with pytest.raises(PromiseBroken) as caught:
        await check(maker(first, second))
    found = caught.value
    assert found.check is check
    message = str(found)
    lines = message.splitlines()
    turned = " (with the second stream of the pair as its first)" if found.turned else ""
    assert lines[0] == name + turned
    assert lines[1] == f"  promised: {check.promise}"
    assert lines[2].strip() == f"({check.source})"
    assert lines[3] == f"  expected: {found.expected}"
    assert lines[4] == f"  seen:     {found.seen}"


@pytest.mark.parametrize("check", CHECKS.values(), ids=str)
async def test_the_sound_one_keeps_it(check, anyio_backend, virtual_clock: VirtualClock):
    await check(maker(Sound))


def test_every_check_has_a_broken_stream():
    assert set(BROKEN) == set(CHECKS)
    assert len(CHECKS) > 25


#: What may keep others waiting for ever, or for as long as anybody tries again.
ENDLESS = [
    "CannotBeCancelled",
    "GivesNothingAtTheEnd",
    "HoldsSmallMessagesBack",
    "StaysBusyAfterARefusal",
]


@pytest.mark.parametrize("name", ENDLESS)
async def test_every_check_comes_to_an_end(name: str, anyio_backend, virtual_clock: VirtualClock):
    (broken,) = (broken for _, broken in MUTANTS if broken.__name__ == name)
    for check in set(CHECKS.values()) - {CHECKS["sixteen_mebibytes_each_way"]}:
        with suppress(PromiseBroken, SkipTest):
            await check(maker(broken))


async def test_what_hangs_is_told_with_what_runs(anyio_backend, virtual_clock: VirtualClock):
    (broken,) = {broken for _, broken in MUTANTS if broken.__name__ == "SendCannotBeCancelled"}
    with pytest.raises(PromiseBroken) as caught:
        await CHECKS["a_deadline_to_come"](maker(broken), timeout=7)
    assert caught.value.seen == (
        "after 7 s it still waits for the end of the send(), and goes on when it is cancelled"
    )
    (tree,) = caught.value.__notes__
    assert "send: await super().send(item)" in tree  # Python 3.10 does not know its class
    assert "waits to send 33554432 bytes to 127.1.0.1:" in tree
    assert virtual_clock.now == 7
