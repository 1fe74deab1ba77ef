"""How the streams of the simulated network wait."""

from __future__ import annotations

import asyncio

import anyio
import pytest
import trio
import trio.testing
from anyio import create_task_group, move_on_after

from harness.network import MemoryStream, Network
from harness.network.parking import parked


async def test_it_is_woken_once_however_often_that_is_said(anyio_backend):
    wake, woken = parked()
    wake()
    wake()
    await woken
    wake()


async def test_it_is_woken_while_it_waits(anyio_backend):
    wake, woken = parked()
    async with create_task_group() as group:

        async def later():
            await anyio.lowlevel.checkpoint()
            wake()

        group.start_soon(later)
        await woken


async def test_what_was_cancelled_can_be_woken(anyio_backend):
    wake, woken = parked()
    with move_on_after(0) as scope:
        await woken
    assert scope.cancelled_caught
    wake()


@pytest.mark.parametrize("operation", ["send", "send_eof"])
async def test_a_stream_is_for_one_task_in_each_direction(anyio_backend, operation):
    near, far = map(MemoryStream, Network(capacity=1).pair())
    arguments = (b"two",) if operation == "send" else ()
    async with create_task_group() as group:
        group.start_soon(near.send, b"one")
        group.start_soon(near.receive)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError, match="writing to"):
            await getattr(near, operation)(*arguments)
        with pytest.raises(anyio.BusyResourceError, match="reading from"):
            await near.receive()
        group.cancel_scope.cancel()
    assert await far.receive() == b"o"
    await near.aclose()
    await far.aclose()


async def received_in_trio():
    """What a task of trio's receives that waits for it."""
    near, far = map(MemoryStream, Network().pair())
    received = []

    async def receive():
        received.append(await near.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        await far.send(b"sent")
    near.close()
    far.close()
    return received


def test_trio_as_the_guest_of_asyncio():
    """Both are running then, and it is trio's task that waits."""

    async def host():
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        trio.lowlevel.start_guest_run(
            received_in_trio,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=over.set_result,
        )
        return (await over).unwrap()

    assert asyncio.run(host()) == [b"sent"]


def test_trio_inside_of_a_task_of_asyncio():
    """A call that blocks, as long as it takes: asyncio's task is there, and is not what waits."""

    async def host():
        return trio.run(received_in_trio)

    assert asyncio.run(host()) == [b"sent"]
