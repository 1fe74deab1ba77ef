"""Broken ways: what the server survives, and what coredis makes of it."""

from __future__ import annotations

import coredis
import pytest
from anyio import (
    BrokenResourceError,
    EndOfStream,
    IncompleteRead,
)
from coredis.retry import ConstantRetryPolicy, NoRetryPolicy
from keyvalue import KeyValueServer, RespClient, Store
from test_keyvalue_coredis import redis_client

from harness import Harness, Server, VirtualClock
from harness.faults import (
    During,
    FirstConnections,
    Latency,
    LimitData,
    Refuse,
    ResetPeer,
    Slicer,
)

pytestmark = pytest.mark.harness(grace=0)

#: Where a client of its own gets to.
coredis_can = pytest.mark.harness(transports=["tcp", "tls", "unix"])


# Not over TLS: where its handshake fails, coredis leaves the memory streams of a connection open.
@pytest.mark.harness(transports=["tcp", "unix"])
async def test_coredis_connects_again(harness: Harness, virtual_clock: VirtualClock) -> None:
    """The server is away for 10 s, and coredis tries every 3 s."""
    proxy = await harness.proxy(await harness.serve(KeyValueServer(Store())))
    policy = ConstantRetryPolicy((coredis.exceptions.ConnectionError,), retries=10, delay=3)

    async with redis_client(proxy, retry_policy=policy) as client:
        await client.set("key", "value")
        proxy.add(Refuse(), when=During(0, 10))
        await proxy.reset_all()
        assert await client.get("key") == "value"
        assert virtual_clock.now == 12


@coredis_can
@pytest.mark.parametrize("retries", [0, 1])
async def test_coredis_after_a_reset(harness: Harness, retries: int) -> None:
    """The one connection that breaks is the error of one command, or of none if it may retry."""
    proxy = await harness.proxy(await harness.serve(KeyValueServer(Store())))
    policy = ConstantRetryPolicy((coredis.exceptions.ConnectionError,), retries=retries, delay=0)

    async with redis_client(proxy, retry_policy=policy) as client:
        await client.set("key", "value")
        proxy.add(ResetPeer(after_bytes=2), when=FirstConnections(proxy.accepted))
        if not retries:
            with pytest.raises(coredis.exceptions.ConnectionError):
                await client.get("key")
        assert await client.get("key") == "value"
    assert proxy.accepted == 2


@coredis_can
async def test_coredis_after_half_an_answer(harness: Harness) -> None:
    proxy = await harness.proxy(await harness.serve(KeyValueServer(Store())))
    value = "x" * 50_000

    async with redis_client(proxy, retry_policy=NoRetryPolicy()) as client:
        await client.set("key", value)
        proxy.add(LimitData(40_000), when=FirstConnections(proxy.accepted))
        with pytest.raises(coredis.exceptions.ConnectionError):
            await client.get("key")
        assert await client.get("key") == value


@coredis_can
async def test_coredis_waits_as_long_as_it_said(
    harness: Harness, virtual_clock: VirtualClock
) -> None:
    proxy = await harness.proxy(await harness.serve(KeyValueServer(Store())))

    async with redis_client(proxy, stream_timeout=3, retry_policy=NoRetryPolicy()) as client:
        await client.set("key", "value")
        latency = proxy.add(Latency(1.25), direction="both")
        assert await client.get("key") == "value"
        assert virtual_clock.now == 2.5
        latency.update(delay=1.75)
        with pytest.raises(TimeoutError):
            await client.get("key")
        assert virtual_clock.now == 5.5


@coredis_can
async def test_coredis_does_not_wait_for_one_answer_before_it_asks_again(
    harness: Harness, virtual_clock: VirtualClock
) -> None:
    proxy = await harness.proxy(await harness.serve(KeyValueServer(Store())))

    async with redis_client(proxy) as client:
        await client.set("counter", "0")
        proxy.add(Latency(1), direction="both")
        async with client.pipeline(transaction=False) as pipeline:
            for _ in range(100):
                pipeline.incr("counter")
        assert virtual_clock.now == 2
        assert await client.get("counter") == "100"


@pytest.mark.parametrize("cut", [1, 20, 38])
async def test_a_cut_off_command_is_none(harness: Harness, server: Server, cut: int) -> None:
    proxy = await harness.proxy(server)
    client = RespClient(await proxy.connect())
    assert await client.call("SET", "key", "before") == "OK"
    proxy.add(LimitData(cut), direction="upstream")

    with pytest.raises((EndOfStream, IncompleteRead, BrokenResourceError)):
        await client.call("SET", "key", "after" * 2)  # 39 bytes
    await server.wait_connections(0)
    assert not server.errors
    other = RespClient(await server.connect())
    assert await other.call("GET", "key") == b"before"


@pytest.mark.harness(transports=["tcp", "unix", "memory"])
async def test_commands_that_come_byte_by_byte(harness: Harness, server: Server) -> None:
    proxy = await harness.proxy(server)
    proxy.add(Slicer(1), direction="both")
    client = RespClient(await proxy.connect())
    assert await client.call("SET", "key", b"\x00\r\n\xff", "PX", 1500) == "OK"
    assert await client.call("GET", "key") == b"\x00\r\n\xff"


async def test_a_subscriber_that_stalls_is_disconnected(harness: Harness) -> None:
    server = await harness.serve(KeyValueServer(queue_size=4))
    proxy = await harness.proxy(server)
    slow = RespClient(await proxy.connect())
    await slow.call("HELLO", 3)
    await slow.send("SUBSCRIBE", "news")
    assert await slow.next_push() == [b"subscribe", b"news", 1]
    proxy.freeze()

    publisher = RespClient(await server.connect())
    published = 0
    while await publisher.call("PUBLISH", "news", b"x" * 500_000):
        published += 1
        assert published < 1000, "the server queues without a bound"
    await server.wait_connections(1)
    assert not server.errors
    proxy.thaw()
    with pytest.raises((EndOfStream, IncompleteRead, BrokenResourceError)):
        for _ in range(published + 1):
            await slow.next_push()
