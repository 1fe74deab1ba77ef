"""What a leak check costs a clean test: one that does nothing, and one that serves and echoes.

The event loop is made once: a loop of its own for each test costs more than either.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator

import anyio
import anyio.lowlevel
from anyio.abc import ByteStream

from harness import open_harness
from harness.leaks import LeakCheck

from .comparing import Comparison, Plan, in_turns
from .on_backends import per_round, taking

Test = Callable[[], Awaitable[None]]


async def nothing() -> None:
    """A test with nothing in it."""
    await anyio.lowlevel.checkpoint()


async def echo() -> None:
    """A small test, as users write them."""

    async def handle(stream: ByteStream) -> None:
        async for chunk in stream:
            await stream.send(chunk)

    async with open_harness(transport="tcp") as harness:
        server = await harness.serve(handle)
        async with await server.connect() as client:
            for _ in range(10):
                await client.send(b"hello")
                assert await client.receive() == b"hello"


async def checked(test: Test) -> None:
    check = LeakCheck()
    check.start()
    check.entered_loop()
    await test()
    leaks = [*await check.find(), *check.stop()]
    assert not leaks, "\n".join(map(str, leaks))


def run(plan: Plan) -> Iterator[Comparison]:
    tests = plan.some(60, 2)
    for backend in plan.backends:
        for test in (nothing, echo):
            steps: dict[str, Test] = {
                "with leak check": functools.partial(checked, test),
                "without": test,
            }
            figures = in_turns(
                {
                    name: taking(backend, functools.partial(per_round, tests, step))
                    for name, step in steps.items()
                },
                plan.rounds(9),
            )
            yield Comparison(
                f"leak check of a test with {test.__name__}, {backend}",
                "us a test",
                figures,
                ours="with leak check",
            )
