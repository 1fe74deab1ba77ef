"""What a leak check costs a clean test: how many times as long the test takes with it.

    python benchmarks/leak_check.py [backend ...]

Prints ratios, smallest of several rounds by smallest. Two tests are measured: one that does nothing
(the worst case) and one that serves, connects, and echoes over TCP. The event loop is made once:
a loop of its own for each test costs more than either.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel

from harness import open_harness
from harness.backends import BUILT_IN, DEFAULT
from harness.leaks import LeakCheck

ROUNDS = 7
TESTS = 60


async def nothing() -> None:
    """A test with nothing in it."""
    await anyio.lowlevel.checkpoint()


async def echo() -> None:
    """A small test, as users write them."""

    async def handle(stream: anyio.abc.ByteStream) -> None:
        async for chunk in stream:
            await stream.send(chunk)

    async with open_harness(transport="tcp") as harness:
        server = await harness.serve(handle)
        async with await server.connect() as client:
            for _ in range(10):
                await client.send(b"hello")
                assert await client.receive() == b"hello"


async def checked(test: Callable[[], Awaitable[None]]) -> None:
    check = LeakCheck()
    check.start()
    check.entered_loop()
    await test()
    leaks = [*await check.find(), *check.stop()]
    assert not leaks, "\n".join(map(str, leaks))


async def seconds(run: Callable[[], Awaitable[None]]) -> float:
    """How long ``run`` takes, on the average of a round."""
    begin = time.perf_counter()
    for _ in range(TESTS):
        await run()
    return (time.perf_counter() - begin) / TESTS


async def measure(name: str) -> None:
    for test in (nothing, echo):
        without, with_check = [], []
        for _ in range(ROUNDS):
            without.append(await seconds(test))
            with_check.append(await seconds(lambda test=test: checked(test)))  # type: ignore[misc]
        plain, looked_at = min(without), min(with_check)
        print(
            f"{name:8} {test.__name__:8} ratio {looked_at / plain:6.2f}   "
            f"(+{(looked_at - plain) * 1e6:.0f} µs on {plain * 1e6:.0f} µs)"
        )


def main() -> None:
    for name in sys.argv[1:] or DEFAULT:
        backend = BUILT_IN[name]
        anyio.run(measure, name, backend=backend.library, backend_options=dict(backend.options))


if __name__ == "__main__":
    main()
