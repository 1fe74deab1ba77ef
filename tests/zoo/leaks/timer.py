"""An idle timer is set for each client and not taken back when the client leaves.

On trio a timer is a task that sleeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from anyio.abc import ByteStream

from harness import Harness
from harness.backends import current_library

FOUND = [
    r"leaked (timer|task)",
    r"created at .*timer\.py:\d+ in call_later: .*(call_later|spawn_system_task)\(",
]
NEEDS = "leaks"


def call_later(seconds: float, function: Callable[[], object]) -> Callable[[], object]:
    """Call ``function`` then; return what takes it back."""
    if current_library() == "asyncio":
        return asyncio.get_running_loop().call_later(seconds, function).cancel
    import trio

    scope = trio.CancelScope()

    async def wait() -> None:
        with scope:
            await trio.sleep(seconds)
            function()

    trio.lowlevel.spawn_system_task(wait)
    return scope.cancel


def log_idle_client() -> None:
    print("idle")


async def buggy(stream: ByteStream) -> None:
    call_later(3600, log_idle_client)
    await stream.send(await stream.receive())


async def correct(stream: ByteStream) -> None:
    cancel = call_later(3600, log_idle_client)
    try:
        await stream.send(await stream.receive())
    finally:
        cancel()


@pytest.mark.parametrize("handler", [buggy, correct])
async def test_echo(harness: Harness, handler) -> None:
    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"hello")
    assert await client.receive() == b"hello"
    await server.wait_connections(0)
    await harness.settle()
