"""Requests over ways that are long, cut messages into bytes, or break."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from anyio import ConnectionFailed, create_task_group
from channel import Channel, ChannelServer, ConnectionLostError, MessageStream, open_channel

from harness import Harness, VirtualClock
from harness.faults import FirstConnections, Latency, LimitData, Proxy, ResetPeer, Slicer


async def echo(payload: Any) -> Any:
    return payload


async def ask(proxy: Proxy, payload: Any) -> Any:
    """Ask until the answer comes, each time over a new connection."""
    for _ in range(5):
        with suppress(ConnectionFailed):
            async with open_channel(proxy) as channel:
                with suppress(ConnectionLostError):
                    return await channel.request(payload)
    raise AssertionError("no answer")


async def test_requests_on_a_long_way_do_not_wait_for_one_another(
    harness: Harness, virtual_clock: VirtualClock
) -> None:
    proxy = await harness.proxy(await harness.serve(ChannelServer(echo), grace=0))
    channel = Channel(await proxy.connect())
    await harness.start(channel.run)
    assert await channel.request("hello") == "hello"
    proxy.add(Latency(0.75), direction="both")

    async def request(number: int) -> None:
        assert await channel.request(number) == number
        assert virtual_clock.now == 1.5

    async with create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(request, number)


@pytest.mark.harness(transports=["tcp", "unix", "memory"])
async def test_messages_that_come_byte_by_byte(harness: Harness) -> None:
    proxy = await harness.proxy(await harness.serve(ChannelServer(echo)))
    proxy.add(Slicer(1), direction="both")
    async with open_channel(proxy) as channel:
        assert await channel.request({"any": ["json", None]}) == {"any": ["json", None]}


@pytest.mark.harness(transports=["tcp", "unix", "memory"])
@pytest.mark.parametrize("direction", ["upstream", "downstream"])
@pytest.mark.parametrize(
    "toxic", [LimitData(3), LimitData(10), ResetPeer(after_bytes=10), ResetPeer()], ids=repr
)
async def test_a_client_that_asks_again(harness: Harness, direction: str, toxic: Any) -> None:
    """Two connections break in the middle of a message; the server is none the worse."""
    server = await harness.serve(ChannelServer(echo))
    proxy = await harness.proxy(server)
    proxy.add(toxic, direction=direction, when=FirstConnections(2))
    assert await ask(proxy, "hello") == "hello"
    assert proxy.accepted == 3
    await server.wait_connections(0)
    assert not server.errors


@pytest.mark.parametrize("cut", [1, 4, 20])
async def test_a_request_that_is_cut_off_is_none(harness: Harness, cut: int) -> None:
    requests: list[Any] = []

    async def remember(payload: Any) -> None:
        requests.append(payload)

    server = await harness.serve(ChannelServer(remember))
    proxy = await harness.proxy(server)
    messages = MessageStream(await proxy.connect())
    await messages.send({"id": 1, "payload": "first"})
    assert await messages.receive() == {"id": 1, "result": None}
    proxy.add(LimitData(cut), direction="upstream")
    await messages.send({"id": 2, "payload": "second"})
    await server.wait_connections(0)
    assert requests == ["first"]
    assert not server.errors
