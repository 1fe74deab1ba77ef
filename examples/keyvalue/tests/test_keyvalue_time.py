"""Keys that expire after a day, by the loop's own clock, in no time."""

from __future__ import annotations

import coredis
import pytest
from anyio import create_task_group, sleep
from coredis.retry import ExponentialBackoffRetryPolicy
from keyvalue import KeyValueServer, RespClient, Store
from test_keyvalue_coredis import redis_client

from harness import Harness, VirtualClock

DAY = 86400


async def test_a_day(harness: Harness, virtual_clock: VirtualClock) -> None:
    server = await harness.serve(KeyValueServer(Store()))
    client = RespClient(await server.connect())
    await client.call("SET", "key", "value", "EX", DAY)
    await client.call("SET", "for good", "value")
    assert await client.call("TTL", "key") == DAY
    await sleep(DAY - 1)
    assert await client.call("GET", "key") == b"value"
    assert await client.call("TTL", "key") == 1
    await sleep(1)
    assert await client.call("GET", "key") is None
    await sleep(365 * DAY)
    assert await client.call("KEYS", "*") == [b"for good"]
    assert virtual_clock.now == 366 * DAY


@pytest.mark.harness(transports=["tcp", "tls", "unix"])
async def test_a_day_with_coredis(harness: Harness, virtual_clock: VirtualClock) -> None:
    server = await harness.serve(KeyValueServer(Store()))
    async with redis_client(server) as client:
        await client.set("key", "value", ex=DAY)
        await sleep(DAY / 2)
        assert await client.ttl("key") == DAY / 2
        await sleep(DAY / 2)
        assert await client.get("key") is None


@pytest.mark.harness(transports=["tcp", "tls", "unix"])
async def test_coredis_tries_again(harness: Harness, virtual_clock: VirtualClock) -> None:
    """It pauses for 1, 2, 4, ... seconds: the first attempt after 100 s is at 127."""
    server = await harness.serve(KeyValueServer(Store()))
    policy = ExponentialBackoffRetryPolicy((coredis.exceptions.ResponseError,), 10, base_delay=1)

    async def make_room() -> None:
        await sleep(100)
        await RespClient(await server.connect()).call("DEL", "counter")

    async with redis_client(server, retry_policy=policy) as client:
        await client.set("counter", "no number")
        async with create_task_group() as group:
            group.start_soon(make_room)
            assert await client.incr("counter") == 1
            assert virtual_clock.now == 127
