"""Supervised task groups and the way of a crash, without pytest's plugin in between."""

from __future__ import annotations

import asyncio
import sys

import anyio
import pytest
from anyio import CancelScope, EndOfStream, Event
from anyio.abc import ByteStream, TaskStatus

from harness import Harness, open_harness
from harness.adapters import Main
from harness.watch import StrayCancellation

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

pytestmark = pytest.mark.harness(transports=["memory"])


async def crash(error: BaseException) -> None:
    raise error


async def test_a_crash_cancels_the_block_and_is_raised_at_its_end(harness: Harness) -> None:
    error = LookupError("crashed")
    with pytest.raises(LookupError) as caught:
        async with open_harness() as inner:
            inner.task_group.start_soon(crash, error)
            await anyio.sleep_forever()
    assert caught.value is error
    assert error.__notes__ == ["(raised in the background task 'test_supervisor.crash')"]


async def test_the_other_children_go_on(harness: Harness) -> None:
    finished: list[str] = []

    async def worker() -> None:
        with CancelScope(shield=True):
            await go_on.wait()
            finished.append("worker")

    go_on = Event()
    with pytest.raises(LookupError):
        async with open_harness() as inner:
            inner.task_group.start_soon(worker)
            inner.task_group.start_soon(crash, LookupError())
            try:
                await anyio.sleep_forever()
            finally:
                go_on.set()
    assert finished == ["worker"]


async def test_several_crashes_are_a_group(harness: Harness) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with open_harness() as inner:
            inner.task_group.start_soon(crash, LookupError("one"))
            inner.task_group.start_soon(crash, OSError("two"))
            await anyio.sleep_forever()
    assert {type(error) for error in caught.value.exceptions} == {LookupError, OSError}


async def test_an_error_of_the_block_itself_comes_along(harness: Harness) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with open_harness() as inner:
            inner.task_group.start_soon(crash, LookupError("one"))
            with CancelScope(shield=True):
                await inner.settle()
            raise AssertionError("two")
    assert [str(error) for error in caught.value.exceptions] == ["one", "two"]


async def test_what_a_client_sees_of_a_crash_is_a_note(harness: Harness) -> None:
    with pytest.raises(LookupError) as caught:
        async with open_harness() as inner:
            inner.task_group.start_soon(crash, LookupError("the cause"))
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                raise EndOfStream from None
    assert any("EndOfStream()" in note for note in caught.value.__notes__)


async def test_an_error_of_the_block_without_a_crash_is_itself(harness: Harness) -> None:
    error = AssertionError("mine")
    with pytest.raises(AssertionError) as caught:
        async with open_harness():
            raise error
    assert caught.value is error


async def test_the_harness_of_a_block_does_not_tell_another_block(harness: Harness) -> None:
    async with open_harness() as outer:
        with pytest.raises(LookupError):
            async with open_harness() as inner:
                inner.task_group.start_soon(crash, LookupError())
                await anyio.sleep_forever()
        outer.task_group.start_soon(anyio.sleep, 0)
        await outer.settle()


async def test_a_task_handle_has_the_result_or_the_exception(harness: Harness) -> None:
    async def answer() -> int:
        return 42

    with pytest.raises(LookupError):
        async with open_harness() as inner:
            good = inner.task_group.start_soon(answer)
            bad = inner.task_group.start_soon(crash, LookupError("bad"))
            try:
                await anyio.sleep_forever()
            finally:
                assert good.return_value == 42
                assert isinstance(bad.exception, LookupError)
                assert bad.status is type(bad).Status.FAILED


async def test_anyio_task_handles_still_fail_their_own_group() -> None:
    """Why ``TaskHandle._exception`` is set: AnyIO's handle cannot fail without its group."""
    with pytest.raises(ExceptionGroup):
        async with anyio.create_task_group() as tg:
            tg.start_soon(crash, LookupError())


async def test_start_hands_back_the_handle(harness: Harness) -> None:
    async def service(*, task_status: TaskStatus[str]) -> None:
        task_status.started("ready")
        await anyio.sleep_forever()

    handle = await harness.task_group.start(service, return_handle=True)
    assert handle.start_value == "ready"
    handle.cancel()
    await handle.wait()


async def test_the_task_group_is_opened_and_closed_by_the_harness(harness: Harness) -> None:
    with pytest.raises(RuntimeError, match="opens and closes this task group itself"):
        async with harness.task_group:
            pass


@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_a_block_can_be_left_in_another_task(harness: Harness) -> None:
    """As unittest's IsolatedAsyncioTestCase does; a trio task cannot end in an open scope."""
    block = open_harness()
    opened: list[Harness] = []

    async def enter() -> None:
        opened.append(await block.__aenter__())

    await asyncio.create_task(enter())
    await opened[0].serve(crash)
    await asyncio.create_task(block.__aexit__(None, None, None))
    with pytest.raises(RuntimeError, match="this harness is closed"):
        await opened[0].serve(crash)


async def test_a_cancelled_block_still_ends_everything(harness: Harness) -> None:
    ended: list[str] = []

    async def child() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("child")

    with CancelScope() as scope:
        async with open_harness(grace=60) as inner:
            inner.task_group.start_soon(child)
            await inner.settle()
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert ended == ["child"]


async def wait_for_what_is_cancelled() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def answer(stream: ByteStream) -> None:
    if await stream.receive() == b"cancel":
        await wait_for_what_is_cancelled()
    await stream.send(b"still there")


@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_a_handler_that_nobody_has_cancelled(harness: Harness) -> None:
    """AnyIO's task group would end the whole server, without a word."""

    with pytest.raises(StrayCancellation, match="what this waited for was cancelled") as caught:
        async with open_harness() as inner:
            server = await inner.serve(answer)
            other = await server.connect()
            client = await server.connect()
            await client.send(b"cancel")
            await anyio.sleep_forever()
    assert caught.value.__notes__ == [f"(raised in connection 2 of server {server.name!r})"]
    assert server.errors == [caught.value]
    await other.aclose()


@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_the_other_connections_outlive_it(harness: Harness) -> None:
    server = await harness.serve(answer, expect=StrayCancellation)
    other, client = await server.connect(), await server.connect()
    await client.send(b"cancel")
    with pytest.raises(EndOfStream):
        await client.receive()
    await other.send(b"anything")
    assert await other.receive() == b"still there"
    assert await server.connect()


@pytest.mark.harness(backends=["asyncio", "uvloop"], transports=["tcp"])
async def test_a_server_that_nobody_has_cancelled(harness: Harness) -> None:
    """Its end is its own; in AnyIO's task group, it would be that of all servers."""

    async def main(*, task_status: TaskStatus[object]) -> None:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as made:
            task_status.started(made)
            await wait_for_what_is_cancelled()

    other = await harness.serve(answer)
    with pytest.raises(StrayCancellation) as caught:
        async with open_harness() as inner:
            neighbour = await inner.serve(answer)
            server = await inner.serve(Main(main))
            try:
                await anyio.sleep_forever()
            finally:
                with CancelScope(shield=True):
                    assert await neighbour.connect()
    assert server.errors == [caught.value]
    assert await other.connect()


@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_a_child_that_nobody_has_cancelled_before_it_was_ready(harness: Harness) -> None:
    async def child(*, task_status: TaskStatus[None]) -> None:
        await wait_for_what_is_cancelled()

    with pytest.raises(StrayCancellation):
        await harness.start(child)


@pytest.mark.harness(backends=["asyncio", "uvloop"])
@pytest.mark.parametrize("how", ["start_soon", "start"])
async def test_a_child_that_nobody_has_cancelled(harness: Harness, how: str) -> None:
    async def child(*, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await go_on.wait()
        await wait_for_what_is_cancelled()

    async def sibling() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(anyio.current_effective_deadline())

    go_on, ended = Event(), []
    with pytest.raises(StrayCancellation):
        async with open_harness() as inner:
            if how == "start":
                await inner.start(child)
            else:
                inner.task_group.start_soon(child)
            inner.task_group.start_soon(sibling)
            await inner.settle()
            go_on.set()
            try:
                await anyio.sleep_forever()
            finally:
                assert not ended  # the sibling goes on until the end


async def test_a_child_whose_own_scope_is_cancelled_is_no_crash(harness: Harness) -> None:
    async def child() -> None:
        with CancelScope() as scope:
            scopes.append(scope)
            await anyio.sleep_forever()
        ended.append("child")

    scopes: list[CancelScope] = []
    ended: list[str] = []
    harness.task_group.start_soon(child)
    handle = harness.task_group.create_task(anyio.sleep_forever())
    await harness.settle()
    scopes[0].cancel()
    handle.cancel()
    await harness.settle()
    assert ended == ["child"]
