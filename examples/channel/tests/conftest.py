"""The one line that most tests of this example begin with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from channel import Channel, ChannelServer

from harness import Harness, Server

Start = Callable[..., Awaitable[tuple[Server, Channel]]]


@pytest.fixture
def start_server_and_connect() -> Start:
    """``server, channel = await start_server_and_connect(harness, handler)``

    Keyword arguments go to ``harness.serve``. Both ends are closed with the test.
    """

    async def start(
        harness: Harness, handler: Callable[[Any], Awaitable[Any]], **options: Any
    ) -> tuple[Server, Channel]:
        server = await harness.serve(ChannelServer(handler), **options)
        channel = Channel(await server.connect())
        await harness.start(channel.run)
        return server, channel

    return start
