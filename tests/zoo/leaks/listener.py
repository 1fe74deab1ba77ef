"""A server opens a port for its statistics and stops without closing it."""

from __future__ import annotations

import anyio
import pytest
from anyio.abc import SocketListener
from anyio.streams.stapled import MultiListener

from harness import Harness

FOUND = [r"leaked socket", r"created at .*listener\.py:\d+ in (\w+\.)?start: .*create_tcp_listener"]
NEEDS = "leaks"


class Buggy:
    running: list[Buggy] = []  # noqa: RUF012
    listener: MultiListener[SocketListener]

    async def start(self) -> None:
        self.listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.running.append(self)

    async def stop(self) -> None:
        await anyio.lowlevel.checkpoint()


class Correct(Buggy):
    async def stop(self) -> None:
        await self.listener.aclose()


@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize("statistics", [Buggy, Correct])
async def test_start_and_stop(harness: Harness, statistics) -> None:
    server = statistics()
    await server.start()
    await server.stop()
