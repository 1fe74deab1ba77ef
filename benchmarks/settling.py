"""``settle()`` among a hundred tasks, three of which hand on a token, beside AnyIO's own.

If all tasks are blocked already, or one turn of the event loop later, both return at once. If not -
a message that passes through three tasks is enough - AnyIO's sleeps for 0.1 s at a time on asyncio
(anyio/_backends/_asyncio.py, ``wait_all_tasks_blocked``).
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator

import anyio

from harness.settling import settle

from .comparing import Comparison, Goal, Plan, in_turns
from .on_backends import per_round, taking

TASKS = 100
HANDED_ON = 3


async def among_tasks(wait: Callable[[], Awaitable[object]], times: int) -> float:
    ends = [anyio.create_memory_object_stream[int](1) for _ in range(HANDED_ON)]
    sends = [send for send, _ in ends]

    async def hand_on(number: int) -> None:
        async for token in ends[number][1]:
            if number + 1 < HANDED_ON:
                sends[number + 1].send_nowait(token)

    async def hand_on_and_wait() -> None:
        sends[0].send_nowait(1)
        await wait()

    async with anyio.create_task_group() as group:
        for _ in range(TASKS - HANDED_ON):
            group.start_soon(anyio.sleep_forever)
        for number in range(HANDED_ON):
            group.start_soon(hand_on, number)
        await wait()
        taken = await per_round(times, hand_on_and_wait)
        group.cancel_scope.cancel()
    for send, receive in ends:
        send.close()
        receive.close()
    return taken


def run(plan: Plan) -> Iterator[Comparison]:
    for backend in plan.backends:
        waits: dict[str, Callable[[], Awaitable[object]]] = {
            "harness": settle,
            "wait_all_tasks_blocked": anyio.wait_all_tasks_blocked,
        }
        times = plan.some(20, 2)
        figures = in_turns(
            {
                name: taking(backend, functools.partial(among_tasks, wait, times))
                for name, wait in waits.items()
            },
            plan.rounds(5),
        )
        goals = [Goal("wait_all_tasks_blocked", most=0.01)] if backend != "trio" else []
        yield Comparison(f"settle among {TASKS} tasks, {backend}", "us", figures, goals=goals)
