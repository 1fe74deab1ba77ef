"""The key-value server under a real client: coredis, on every backend, over tcp, tls and unix."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import coredis
import pytest
from anyio import create_task_group

from harness import Server
from harness.faults import Proxy

pytestmark = pytest.mark.harness(transports=["tcp", "tls", "unix"])


@asynccontextmanager
async def redis_client(server: Server | Proxy, **options: Any) -> AsyncIterator[coredis.Redis[str]]:
    """coredis, set up for a server, or a proxy in front of it."""
    if isinstance(server.address, str):
        options["unix_socket_path"] = server.path
    else:
        options.update(host=server.host, port=server.port)
    context = getattr(server, "client_ssl_context", None)
    if context is not None:
        options.update(ssl=True, ssl_context=context)
    async with coredis.Redis(decode_responses=True, **options) as client:
        yield client


async def test_handshake(server: Server) -> None:
    async with redis_client(server, client_name="tester") as client:
        assert await client.ping() == "PONG"
        assert await client.client_getname() == "tester"
        assert str(client.server_version) == "7.4.0"
    await server.wait_connections(0)


async def test_values(server: Server) -> None:
    async with redis_client(server) as client:
        assert await client.get("key") is None
        assert await client.set("key", "value\r\n\N{SNOWMAN}")
        assert await client.get("key") == "value\r\n\N{SNOWMAN}"
        assert await client.exists(["key", "other"]) == 1
        assert await client.keys("k?y") == {"key"}
        assert await client.keys("other*") == set()
        assert await client.delete(["key", "other"]) == 1
        assert await client.exists(["key"]) == 0


async def test_set_if_absent_or_present(server: Server) -> None:
    async with redis_client(server) as client:
        assert not await client.set("key", "0", condition=coredis.PureToken.XX)
        assert await client.set("key", "1", condition=coredis.PureToken.NX)
        assert not await client.set("key", "2", condition=coredis.PureToken.NX)
        assert await client.get("key") == "1"
        assert await client.set("key", "3", condition=coredis.PureToken.XX)
        assert await client.get("key") == "3"


async def test_expiry(server: Server, clock: Any) -> None:
    async with redis_client(server) as client:
        await client.set("seconds", "s", ex=10)
        await client.set("milliseconds", "ms", px=2500)
        await client.set("for good", "g")
        assert await client.ttl("seconds") == 10
        assert await client.pttl("milliseconds") == 2500
        assert await client.ttl("for good") == -1

        clock.advance(2.499)
        assert await client.get("milliseconds") == "ms"
        clock.advance(0.001)
        assert await client.get("milliseconds") is None
        assert await client.ttl("milliseconds") == -2
        assert await client.expire("for good", 1)
        clock.advance(1)
        assert await client.keys() == {"seconds"}
        assert not await client.expire("for good", 1)


async def test_set_forgets_the_time_to_live_and_incr_keeps_it(server: Server, clock: Any) -> None:
    async with redis_client(server) as client:
        await client.set("kept", "1", ex=10)
        await client.set("forgotten", "1", ex=10)
        assert await client.incr("kept") == 2
        await client.set("forgotten", "2")

        clock.advance(10)
        assert await client.get("kept") is None
        assert await client.get("forgotten") == "2"
        assert await client.incr("kept") == 1


async def test_errors(server: Server) -> None:
    async with redis_client(server) as client:
        await client.set("key", "text")
        with pytest.raises(coredis.exceptions.ResponseError, match="not an integer"):
            await client.incr("key")
        with pytest.raises(coredis.exceptions.UnknownCommandError):
            await client.lpush("key", ["item"])
        assert await client.get("key") == "text"


async def test_increments_of_many_clients_add_up(server: Server) -> None:
    async def count() -> None:
        async with redis_client(server) as client:
            for _ in range(10):
                await client.incr("counter")

    async with create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(count)
    async with redis_client(server) as client:
        assert await client.get("counter") == "50"
    assert server.accepted >= 6


async def test_large_value(server: Server) -> None:
    value = "0123456789" * 50_000
    async with redis_client(server) as client:
        await client.set("key", value)
        assert await client.get("key") == value


async def test_pipeline(server: Server) -> None:
    async with redis_client(server) as client:
        async with client.pipeline(transaction=False) as pipeline:
            stored = pipeline.set("key", "1")
            incremented = pipeline.incr("key")
        assert await stored
        assert await incremented == 2


async def test_publish_and_subscribe(server: Server) -> None:
    async with (
        redis_client(server) as client,
        client.pubsub(ignore_subscribe_messages=True) as subscriber,
    ):
        assert await client.publish("news", "nobody is there") == 0
        await subscriber.subscribe("news", "weather")
        assert await client.publish("news", "one") == 1
        assert await client.publish("weather", "two") == 1
        received = [await anext(subscriber), await anext(subscriber)]
        assert [(each["channel"], each["data"]) for each in received] == [
            ("news", "one"),
            ("weather", "two"),
        ]

        await subscriber.unsubscribe("news")
        assert await client.publish("news", "nobody again") == 0
        await client.publish("weather", "three")
        assert (await anext(subscriber))["data"] == "three"
        await subscriber.unsubscribe()


async def test_subscriber_that_leaves_is_forgotten(server: Server) -> None:
    async with redis_client(server) as client, client.pubsub(channels=["news"]):
        assert await client.publish("news", "somebody") == 1
        assert len(server.connections) == 2
    await server.wait_connections(0)
    async with redis_client(server) as client:
        assert await client.publish("news", "nobody") == 0
