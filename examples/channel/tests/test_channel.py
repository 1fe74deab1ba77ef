"""The channel, with a handler of its own for every test."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anyio import (
    CancelScope,
    EndOfStream,
    Event,
    create_memory_object_stream,
    create_task_group,
    sleep_forever,
)
from channel import (
    MAX_SIZE,
    Channel,
    ChannelServer,
    ConnectionLostError,
    MessageStream,
    MessageTooLargeError,
    RemoteError,
    RequestError,
    open_channel,
)

from harness import Harness
from harness.transports.memory import MemoryTransport


async def echo(payload: Any) -> Any:
    return payload


async def test_reply(harness: Harness, start_server_and_connect: Any) -> None:
    async def double(payload: int) -> int:
        return payload * 2

    _, channel = await start_server_and_connect(harness, double)

    assert await channel.request(21) == 42


async def test_open_channel_takes_a_server_as_it_is(harness: Harness) -> None:
    server = await harness.serve(ChannelServer(echo))

    async with open_channel(server) as channel:
        assert await channel.request({"any": ["json", None]}) == {"any": ["json", None]}

    await server.wait_connections(0)
    with pytest.raises(ConnectionLostError, match="was closed"):
        await channel.request("too late")


async def test_replies_out_of_order_find_their_requests(
    harness: Harness, start_server_and_connect: Any
) -> None:
    gates = {name: Event() for name in ("first", "second", "third")}

    async def wait_at_the_gate(name: str) -> str:
        await gates[name].wait()
        return f"{name} is through"

    _, channel = await start_server_and_connect(harness, wait_at_the_gate)
    send, answers = create_memory_object_stream[tuple[str, str]]()

    async def ask(name: str) -> None:
        await send.send((name, await channel.request(name)))

    with send, answers:
        async with create_task_group() as tasks:
            for name in gates:
                tasks.start_soon(ask, name)
            for name in reversed(gates):
                gates[name].set()
                assert await answers.receive() == (name, f"{name} is through")


async def test_server_answers_no_more_at_once_than_it_wants(harness: Harness) -> None:
    started: list[int] = []
    gate = Event()

    async def wait_at_the_gate(number: int) -> int:
        started.append(number)
        await gate.wait()
        return number

    server = await harness.serve(ChannelServer(wait_at_the_gate, max_in_flight=2))
    async with open_channel(server) as channel, create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(channel.request, number)
        await harness.settle()
        assert len(started) == 2
        gate.set()
    assert sorted(started) == [0, 1, 2, 3, 4]


async def test_error_reply(harness: Harness, start_server_and_connect: Any) -> None:
    async def refuse_odd(payload: int) -> int:
        if payload % 2:
            raise RequestError(f"{payload} is odd")
        return payload

    _, channel = await start_server_and_connect(harness, refuse_odd)

    with pytest.raises(RemoteError, match="3 is odd"):
        await channel.request(3)
    assert await channel.request(4) == 4


async def test_bug_in_a_handler_costs_its_own_connection_only(
    harness: Harness, start_server_and_connect: Any
) -> None:
    async def divide(payload: tuple[int, int]) -> float:
        return payload[0] / payload[1]

    server, channel = await start_server_and_connect(harness, divide, expect=ZeroDivisionError)

    async with open_channel(server) as other:
        with pytest.raises(ConnectionLostError):
            await channel.request((1, 0))
        assert await other.request((1, 2)) == 0.5
    (error,) = server.errors  # as the task group of the connection raised it: in a group
    (bug,) = error.exceptions
    assert isinstance(bug, ZeroDivisionError)


async def test_handler_that_never_answers(harness: Harness, start_server_and_connect: Any) -> None:
    asked = Event()

    async def never(payload: str) -> str:
        if payload == "never":
            asked.set()
            await sleep_forever()
        return payload

    _, channel = await start_server_and_connect(harness, never)
    giving_up = CancelScope()

    async def ask() -> None:
        with giving_up:
            await channel.request("never")

    async with create_task_group() as tasks:
        tasks.start_soon(ask)
        await asked.wait()
        giving_up.cancel()

    # The request was cancelled, the channel was not; the handler is left to the harness.
    assert giving_up.cancelled_caught
    assert await channel.request("now") == "now"


async def test_stopping_the_server_ends_requests_without_an_answer(
    harness: Harness, start_server_and_connect: Any
) -> None:
    asked = Event()

    async def never(payload: None) -> None:
        asked.set()
        await sleep_forever()

    server, channel = await start_server_and_connect(harness, never)

    async def ask() -> None:
        with pytest.raises(ConnectionLostError):
            await channel.request(None)

    async with create_task_group() as tasks:
        tasks.start_soon(ask)
        await asked.wait()
        await server.stop(grace=0)


async def test_client_that_leaves_takes_its_requests_along(harness: Harness) -> None:
    asked, cancelled = Event(), Event()

    async def never(payload: None) -> None:
        asked.set()
        try:
            await sleep_forever()
        finally:
            cancelled.set()

    server = await harness.serve(ChannelServer(never))
    client = MessageStream(stream := await server.connect())
    await client.send({"id": 1, "payload": None})
    await asked.wait()
    await stream.aclose()
    await cancelled.wait()
    await server.wait_connections(0)


@pytest.mark.parametrize("cut", [1, 4, 5, -1])
async def test_client_that_leaves_in_the_middle_of_a_message(harness: Harness, cut: int) -> None:
    requests: list[Any] = []

    async def remember(payload: Any) -> None:
        requests.append(payload)

    server = await harness.serve(ChannelServer(remember))
    body = json.dumps({"id": 1, "payload": "whole"}).encode()
    message = len(body).to_bytes(4, "big") + body
    stream = await server.connect()
    await stream.send(message + message[:cut])
    assert await MessageStream(stream).receive() == {"id": 1, "result": None}
    await stream.aclose()
    await server.wait_connections(0)

    assert requests == ["whole"]
    assert not server.errors


async def test_server_that_answers_nonsense(harness: Harness) -> None:
    near, far = await harness.pair()
    channel = Channel(near)
    await MessageStream(far).send({"id": ["no", "number"]})
    await channel.run()

    with pytest.raises(ConnectionLostError, match="broke the protocol"):
        await channel.request("hello")


async def test_server_that_leaves_in_the_middle_of_a_reply(harness: Harness) -> None:
    near, far = await harness.pair()
    channel = Channel(near)
    await harness.start(channel.run)

    async def play_the_server() -> None:
        assert await MessageStream(far).receive() == {"id": 1, "payload": "hello"}
        await far.send((100).to_bytes(4, "big") + b'{"id": 1, "resu')
        await far.aclose()

    async with create_task_group() as tasks:
        tasks.start_soon(play_the_server)
        with pytest.raises(ConnectionLostError, match="hung up"):
            await channel.request("hello")


async def test_client_sends_no_message_that_is_too_large(
    harness: Harness, start_server_and_connect: Any
) -> None:
    _, channel = await start_server_and_connect(harness, echo)

    with pytest.raises(MessageTooLargeError):
        await channel.request("x" * MAX_SIZE)
    assert await channel.request("small") == "small"


async def test_result_that_is_too_large_is_an_error_reply(
    harness: Harness, start_server_and_connect: Any
) -> None:
    async def repeat(times: int) -> str:
        return "x" * times

    _, channel = await start_server_and_connect(harness, repeat)

    with pytest.raises(RemoteError, match="the limit is"):
        await channel.request(MAX_SIZE)
    assert await channel.request(3) == "xxx"


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        (b"\xff\xff\xff\xff", "the limit is"),
        (b"\0\0\0\2{x", "not JSON"),
        (b"\0\0\0\2\xff\xfe", "not JSON"),
        (b"\0\0\xc3\x50" + b"[" * 50_000, "not JSON"),
        (b"\0\0\0\2[]", "not a JSON object"),
        (b'\0\0\0\x09{"id": 1}', "not a request"),
    ],
    ids=["oversized", "not-json", "not-text", "too-deep", "not-an-object", "not-a-request"],
)
async def test_server_refuses_what_is_no_request(
    harness: Harness, sent: bytes, complaint: str
) -> None:
    server = await harness.serve(ChannelServer(echo))
    stream = await server.connect()
    await stream.send(sent)

    messages = MessageStream(stream)
    refusal = await messages.receive()
    assert refusal["id"] is None
    assert complaint in refusal["error"]
    with pytest.raises(EndOfStream):
        await messages.receive()


@pytest.mark.harness(transports=["memory"])
@pytest.mark.parametrize("seed", range(5))
async def test_messages_may_arrive_in_pieces(
    harness: Harness, start_server_and_connect: Any, seed: int
) -> None:
    _, channel = await start_server_and_connect(
        harness, echo, transport=MemoryTransport(chunking_seed=seed)
    )

    for size in (0, 1, 3, 300):
        assert await channel.request("x" * size) == "x" * size
