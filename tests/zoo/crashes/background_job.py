"""A job beside the server takes one from a list that is used up: ``next`` in a coroutine."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from anyio import TASK_STATUS_IGNORED, create_memory_object_stream
from anyio.abc import TaskStatus

from harness import Harness

FOUND = [r"^E +RuntimeError: coroutine raised StopIteration", r"next\(backends\)"]


async def buggy(names: Iterable[str], *, task_status: TaskStatus = TASK_STATUS_IGNORED) -> None:
    backends = iter(names)
    send, receive = create_memory_object_stream[str]()
    with send, receive:
        task_status.started(receive)
        while True:
            await send.send(next(backends))


async def correct(names: Iterable[str], *, task_status: TaskStatus = TASK_STATUS_IGNORED) -> None:
    backends = itertools.cycle(names)
    send, receive = create_memory_object_stream[str]()
    with send, receive:
        task_status.started(receive)
        while True:
            await send.send(next(backends))


@pytest.mark.harness(transports=["memory"])
@pytest.mark.parametrize("round_robin", [buggy, correct])
async def test_round_robin(harness: Harness, round_robin) -> None:
    turns = await harness.start(round_robin, ["a", "b"])
    assert [await turns.receive() for _ in range(3)] == ["a", "b", "a"]
