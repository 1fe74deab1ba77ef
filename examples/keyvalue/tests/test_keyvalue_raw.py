"""The key-value server under plain RESP, over every transport."""

from __future__ import annotations

from typing import Any

import pytest
from anyio import BrokenResourceError, EndOfStream, IncompleteRead
from keyvalue import ErrorReply, KeyValueServer, RespClient
from keyvalue.resp import MAX_LINE

from harness import Harness, Server

# A handler with a writer task beside its reader is never idle to the harness, and most of these
# tests leave their clients open: without this, each would wait for the grace of half a second.
pytestmark = pytest.mark.harness(grace=0)


@pytest.mark.parametrize("protocol", [2, 3])
async def test_both_protocols(server: Server, clock: Any, protocol: int) -> None:
    client = RespClient(await server.connect())
    hello: Any = await client.call("HELLO", protocol)
    if protocol == 2:  # a map is an array there
        hello = dict(zip((key.decode() for key in hello[::2]), hello[1::2], strict=True))
    assert hello["proto"] == protocol

    assert await client.call("SET", "key", b"\x00\r\n\xff", "PX", 1500) == "OK"
    assert await client.call("GET", "key") == b"\x00\r\n\xff"
    assert await client.call("PTTL", "key") == 1500
    assert await client.call("KEYS", "*") == [b"key"]
    clock.advance(1.5)
    assert await client.call("GET", "key") is None


async def test_null_and_push_differ_on_the_wire(server: Server) -> None:
    stream = await server.connect()

    async def exchange(command: bytes, reply: bytes) -> None:
        await stream.send(command + b"\r\n")
        received = b""
        while len(received) < len(reply):
            received += await stream.receive()
        assert received == reply

    await exchange(b"GET nothing", b"$-1\r\n")
    await exchange(b"SUBSCRIBE c", b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n")
    await stream.send(b"HELLO 3\r\n")
    while not (await stream.receive()).endswith(b"modules\r\n*0\r\n"):
        pass
    await exchange(b"GET nothing", b"_\r\n")
    await exchange(b"UNSUBSCRIBE", b">3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:0\r\n")
    await exchange(b"UNSUBSCRIBE", b">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n")


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (["NONSENSE"], "ERR unknown command 'NONSENSE'"),
        (["NON\r\nSENSE"], "ERR unknown command 'NON  SENSE'"),
        (["GET"], "ERR wrong number of arguments for 'get'"),
        (["SET", "key", "value", "NX", "XX"], "ERR syntax error"),
        (["SET", "key", "value", "EX"], "ERR value is not an integer or out of range"),
        (["SET", "key", "value", "EX", "0"], "ERR invalid expire time in 'set' command"),
        (["SET", "key", "value", "PX", "9" * 400], "ERR value is not an integer or out of range"),
        (["EXPIRE", "key", "soon"], "ERR value is not an integer or out of range"),
        (["SELECT", "1"], "ERR DB index is out of range"),
        (["HELLO", "4"], "NOPROTO unsupported protocol version"),
        (["SUBSCRIBE"], "ERR wrong number of arguments for 'subscribe'"),
    ],
)
async def test_error_leaves_the_connection_as_it_was(
    server: Server, command: list[str], error: str
) -> None:
    client = RespClient(await server.connect())

    with pytest.raises(ErrorReply) as caught:
        await client.call(*command)
    assert str(caught.value) == error
    assert await client.call("EXISTS", "key") == 0


@pytest.mark.parametrize(
    "sent",
    [
        b"*1\r\n:4\r\n",
        b"*x\r\n",
        b"*-1\r\n",
        b"*999999\r\n",
        b"*1\r\n$99999999999\r\n",
        b"*1\r\n$1\r\nlong\r\n",
        # To the byte: were there more, it would lie unread when the server closes, and TCP would
        # reset the connection and perhaps the error with it.
        b"x" * MAX_LINE,
    ],
    ids=["no-string", "no-number", "negative", "many", "huge", "longer-than-said", "endless-line"],
)
async def test_broken_protocol_ends_the_connection(server: Server, sent: bytes) -> None:
    stream = await server.connect()
    client = RespClient(stream)
    await stream.send(sent)

    error = await client.receive()
    assert isinstance(error, ErrorReply)
    assert str(error).startswith("ERR Protocol error: ")
    with pytest.raises(IncompleteRead):
        await client.receive()
    await server.wait_connections(0)
    assert not server.errors


async def test_pipelined_commands_are_answered_in_order_after_the_end(server: Server) -> None:
    client = RespClient(await server.connect())
    await client.send("SET", "key", "41")
    for _ in range(100):
        await client.send("INCR", "key")
    await client.send("QUIT")
    await client.send("INCR", "key")

    replies = [await client.receive() for _ in range(102)]
    assert replies == ["OK", *range(42, 142), "OK"]
    await server.wait_connections(0)
    other = RespClient(await server.connect())
    assert await other.call("GET", "key") == b"141"


async def test_publish_and_subscribe(server: Server) -> None:
    publisher = RespClient(await server.connect())
    subscribers = []
    for _ in range(3):
        subscriber = RespClient(await server.connect())
        await subscriber.call("HELLO", 3)
        await subscriber.send("SUBSCRIBE", "news", "weather")
        assert await subscriber.next_push() == [b"subscribe", b"news", 1]
        assert await subscriber.next_push() == [b"subscribe", b"weather", 2]
        subscribers.append(subscriber)

    assert await publisher.call("PUBLISH", "news", "one") == 3
    assert await publisher.call("PUBLISH", "sports", "two") == 0
    assert await publisher.call("PUBLISH", "weather", "three") == 3
    for subscriber in subscribers:
        assert await subscriber.next_push() == [b"message", b"news", b"one"]
        assert await subscriber.next_push() == [b"message", b"weather", b"three"]
        assert await subscriber.call("PING") == "PONG"  # RESP3: commands go on working


async def test_subscriber_that_does_not_read_is_disconnected(harness: Harness) -> None:
    server = await harness.serve(KeyValueServer(queue_size=4))
    publisher = RespClient(await server.connect())
    slow_stream = await server.connect()
    slow = RespClient(slow_stream)
    await slow.call("HELLO", 3)
    await slow.send("SUBSCRIBE", "news")
    assert await slow.next_push() == [b"subscribe", b"news", 1]

    message = b"x" * 500_000
    published = 0
    while await publisher.call("PUBLISH", "news", message):
        published += 1
        assert published < 1000, "the server queues without a bound"
    assert published > 4

    # What it gets to see is no more than what had left the queue; then it is cut off.
    with pytest.raises((IncompleteRead, EndOfStream, BrokenResourceError)):
        for _ in range(published + 1):
            await slow.next_push()
    assert await publisher.call("PING") == "PONG"
    assert not server.errors


@pytest.mark.parametrize("sent", [b"", b"*2\r\n$3\r\nGET\r\n$3\r\nke", b"PIN"])
async def test_client_that_leaves(server: Server, sent: bytes) -> None:
    stream = await server.connect()
    await stream.send(sent)
    await server.wait_connections(1)
    await stream.aclose()
    await server.wait_connections(0)

    assert not server.errors
