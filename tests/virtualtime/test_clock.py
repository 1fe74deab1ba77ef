"""What a virtual clock promises: trio's own clock tests, and looptime's documented behaviour."""

from __future__ import annotations

import asyncio
import math
import time

import anyio
import pytest
from anyio import Event, current_time, fail_after, move_on_after, sleep
from anyio.lowlevel import checkpoint

from harness.virtualtime import VirtualClock


@pytest.fixture
async def slept(virtual_clock: VirtualClock) -> float:
    await sleep(10)
    return current_time()


@pytest.mark.parametrize("run", [1, 2])
async def test_every_clock_begins_at_the_same_instant(virtual_clock: VirtualClock, run: int):
    assert virtual_clock.now == current_time() == 0
    await sleep(5)
    assert virtual_clock.now == current_time() == 5


async def test_fixtures_go_by_the_clock_of_the_test(virtual_clock: VirtualClock, slept: float):
    assert slept == current_time() == 10


@pytest.mark.harness(virtual_time=True)
async def test_the_marker_is_enough():
    await sleep(86400)
    assert current_time() == 86400


@pytest.mark.harness
async def test_beside_it_time_is_real():
    before = current_time()
    while current_time() == before:  # a virtual one stands still while anything runs
        await checkpoint()


@pytest.mark.parametrize("seconds", [0.1, 0.3, 1 / 3, 1e-9, 0.1 + 0.2, 12345.678, 1e9])
async def test_a_sleep_takes_exactly_its_time(virtual_clock: VirtualClock, seconds: float):
    await sleep(seconds)
    assert virtual_clock.now == seconds


async def test_a_year_in_steps(virtual_clock: VirtualClock):
    for day in range(365):
        assert current_time() == day * 86400
        await sleep(86400)


async def test_things_happen_at_their_own_times_in_order(virtual_clock: VirtualClock):
    seen: list[tuple[float, float]] = []

    async def wake(at: float) -> None:
        await sleep(at)
        seen.append((at, current_time()))

    moments = [0.3, 0.1, 0.2, 0.30000000000000004, 5, 0.1, 1e-12, 7]
    async with anyio.create_task_group() as group:
        for each in moments:
            group.start_soon(wake, each)
    assert seen == [(at, at) for at in sorted(moments)]


async def test_scopes(virtual_clock: VirtualClock):
    with move_on_after(2) as scope:
        await sleep(10)
    assert scope.cancelled_caught
    assert virtual_clock.now == 2
    with pytest.raises(TimeoutError), fail_after(0.5):
        await Event().wait()
    assert virtual_clock.now == 2.5
    with move_on_after(10):
        await sleep(1)
    assert virtual_clock.now == 3.5
    with move_on_after(1):
        with anyio.CancelScope(shield=True):
            await sleep(5)
        assert virtual_clock.now == 8.5
        await checkpoint()
        pytest.fail("the deadline has passed")
    assert virtual_clock.now == 8.5


async def test_a_deadline_that_is_moved(virtual_clock: VirtualClock):
    with move_on_after(1) as scope:
        scope.deadline += 9
        await sleep(100)
    assert virtual_clock.now == 10


async def test_time_stands_still_while_something_runs(virtual_clock: VirtualClock):
    slept = Event()

    async def sleeper() -> None:
        await sleep(1)
        slept.set()

    async with anyio.create_task_group() as group:
        group.start_soon(sleeper)
        for _ in range(500):
            await checkpoint()
            assert virtual_clock.now == 0
            assert not slept.is_set()
        await slept.wait()
    assert virtual_clock.now == 1


# asyncio's and trio's own


@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_asyncios_own_timers(virtual_clock: VirtualClock):
    loop = asyncio.get_running_loop()
    start = loop.time()
    await asyncio.sleep(3)
    assert loop.time() - start == 3
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 4)
    assert loop.time() == 7
    done, pending = await asyncio.wait([asyncio.ensure_future(asyncio.sleep(9))], timeout=2)
    assert not done
    assert loop.time() == 9
    await asyncio.gather(*pending)
    assert loop.time() == 16
    called = loop.create_future()
    handle = loop.call_at(20, called.set_result, "called")
    assert handle.when() == 20
    assert await called == "called"
    assert loop.time() == 20
    cancelled = loop.call_later(5, pytest.fail, "it was cancelled")
    cancelled.cancel()
    await asyncio.sleep(10)
    assert loop.time() == 30
    if hasattr(asyncio, "timeout"):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await asyncio.sleep(100)
        assert loop.time() == 31.5


@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_callbacks_of_one_moment_come_in_the_order_they_were_set(
    virtual_clock: VirtualClock,
):
    loop = asyncio.get_running_loop()
    seen: list[object] = []
    for number in range(20):
        loop.call_at(1 + number % 2, lambda number=number: seen.append((loop.time(), number)))
    loop.call_soon(seen.append, "soon")
    await asyncio.sleep(3)
    odd_and_even = [(1, n) for n in range(0, 20, 2)] + [(2, n) for n in range(1, 20, 2)]
    assert seen == ["soon", *odd_and_even]


@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_many_timers_that_are_cancelled_do_not_stay(virtual_clock: VirtualClock):
    loop = asyncio.get_running_loop()
    for _ in range(10_000):
        loop.call_later(1000, pytest.fail, "it was cancelled").cancel()
    assert virtual_clock.deadline() == math.inf
    handle = loop.call_later(1, int)
    assert virtual_clock.deadline() == 1
    handle.cancel()
    await asyncio.sleep(2000)
    assert virtual_clock.now == 2000


@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_a_timer_that_is_due_does_not_wait_for_the_others_to_block(
    virtual_clock: VirtualClock,
):
    called = asyncio.Event()
    asyncio.get_running_loop().call_later(0, called.set)
    for _ in range(5):
        await asyncio.sleep(0)
    assert called.is_set()
    assert virtual_clock.now == 0


@pytest.mark.harness(backends=["trio"])
async def test_trios_own_timers(virtual_clock: VirtualClock):
    import trio

    await trio.sleep(3)
    assert trio.current_time() == 3
    with trio.move_on_at(5):
        await trio.sleep_forever()
    assert trio.current_time() == 5
    with pytest.raises(trio.TooSlowError), trio.fail_after(1):
        await trio.sleep_until(100)
    assert trio.current_time() == 6
    assert isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)


# Control


async def test_a_clock_that_does_not_jump(mock_clock: VirtualClock):
    assert not mock_clock.autojump
    assert mock_clock.autojump_threshold == math.inf
    woken: list[float] = []

    async def ticker() -> None:
        while True:
            await sleep(1)
            woken.append(current_time())

    async with anyio.create_task_group() as group:
        group.start_soon(ticker)
        await mock_clock.settle()
        assert mock_clock.deadline() == 1
        assert woken == []
        await mock_clock.advance(3.5)
        assert woken == [1, 2, 3]
        assert mock_clock.now == 3.5
        await mock_clock.advance(0.5)
        assert woken == [1, 2, 3, 4]
        assert mock_clock.now == 4
        await mock_clock.advance(0)
        assert mock_clock.now == 4
        mock_clock.autojump = True
        assert mock_clock.autojump_threshold == 0
        await sleep(2.5)
        assert woken == [1, 2, 3, 4, 5, 6]
        assert mock_clock.now == 6.5
        group.cancel_scope.cancel()


async def test_advance_lets_each_thing_settle_at_its_own_time(virtual_clock: VirtualClock):
    virtual_clock.autojump = False
    seen: list[tuple[str, float]] = []
    send, receive = anyio.create_memory_object_stream[str](0)

    async def producer() -> None:
        async with send:
            for name in "abc":
                await sleep(1)
                await send.send(name)

    async def consumer() -> None:
        async with receive:
            async for name in receive:
                seen.append((name, current_time()))
                await sleep(0.25)
                seen.append((name.upper(), current_time()))

    async with anyio.create_task_group() as group:
        group.start_soon(producer)
        group.start_soon(consumer)
        await virtual_clock.advance(10)
    assert seen == [("a", 1), ("A", 1.25), ("b", 2), ("B", 2.25), ("c", 3), ("C", 3.25)]
    assert virtual_clock.now == 10


async def test_a_jump_is_one_step(mock_clock: VirtualClock):
    seen: list[float] = []

    async def wake(at: float) -> None:
        await sleep(at)
        seen.append(current_time())

    async with anyio.create_task_group() as group:
        for at in (1, 2, 3):
            group.start_soon(wake, at)
        await mock_clock.settle()
        mock_clock.jump(2.5)
        await mock_clock.settle()
        assert seen == [2.5, 2.5]
        assert mock_clock.deadline() == 3
        mock_clock.jump(1)
    assert seen == [2.5, 2.5, 3.5]


async def test_settle_lets_no_time_pass(virtual_clock: VirtualClock):
    seen: list[str] = []

    async def work() -> None:
        for _ in range(50):
            await checkpoint()
        seen.append("worked")
        await sleep(1)
        seen.append("slept")

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await virtual_clock.settle()
        assert seen == ["worked"]
        assert virtual_clock.now == 0
        await anyio.wait_all_tasks_blocked()
        assert seen == ["worked"]
        assert virtual_clock.now == 0
    assert seen == ["worked", "slept"]
    assert virtual_clock.now == 1


async def test_a_rate(virtual_clock: VirtualClock):
    virtual_clock.autojump = False
    virtual_clock.rate = 1000
    before, real = virtual_clock.now, time.perf_counter()
    await sleep(20)
    passed, real = virtual_clock.now - before, time.perf_counter() - real
    assert passed >= 20
    assert real >= 20 / 1000  # no more is promised: the machine may have been busy
    virtual_clock.rate = 0
    now = virtual_clock.now
    await checkpoint()
    assert virtual_clock.now == now
    virtual_clock.autojump = True
    await sleep(3600)
    assert virtual_clock.now == now + 3600


@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan, math.inf])
async def test_what_cannot_be_advanced_by(virtual_clock: VirtualClock, seconds: float):
    with pytest.raises(ValueError, match="zero or more"):
        await virtual_clock.advance(seconds)
    with pytest.raises(ValueError, match="zero or more"):
        virtual_clock.jump(seconds)
    with pytest.raises(ValueError, match="zero or more"):
        virtual_clock.rate = seconds
    with pytest.raises(ValueError, match="0 or infinite"):
        virtual_clock.autojump_threshold = 0.5
    assert virtual_clock.now == 0


async def test_repr(virtual_clock: VirtualClock):
    await sleep(1.5)
    assert repr(virtual_clock) == "<VirtualClock at 1.5 s>"
    assert repr(VirtualClock()) == "<VirtualClock, not running yet>"
    with pytest.raises(RuntimeError, match="does not run yet"):
        _ = VirtualClock().now
