"""Requests that take hours, and clients that do not wait so long."""

from __future__ import annotations

from typing import Any

import pytest
from anyio import fail_after, sleep

from harness import Harness, VirtualClock


async def work(seconds: float) -> Any:
    await sleep(seconds)
    return f"worked for {seconds:g} s"


async def test_a_slow_request_holds_up_nobody(
    harness: Harness, virtual_clock: VirtualClock, start_server_and_connect: Any
) -> None:
    _server, channel = await start_server_and_connect(harness, work, grace=0)
    with pytest.raises(TimeoutError), fail_after(60):
        await channel.request(7200)
    assert virtual_clock.now == 60
    assert await channel.request(0.5) == "worked for 0.5 s"
    assert virtual_clock.now == 60.5
    assert await channel.request(3600) == "worked for 3600 s"
    assert virtual_clock.now == 3660.5
