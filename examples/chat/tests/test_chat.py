"""The chat, with many clients, some of whom misbehave."""

from __future__ import annotations

import pytest
from anyio import BrokenResourceError, EndOfStream, IncompleteRead, create_task_group
from chat import ChatClient, ChatServer, RefusedError

from harness import Harness, Server

# A handler with a writer task beside its reader is never idle to the harness, and most of these
# tests leave their clients open: without this, each would wait for the grace of half a second.
pytestmark = pytest.mark.harness(grace=0)


async def join(server: Server, nick: str) -> ChatClient:
    return await ChatClient.join(await server.connect(), nick)


async def test_everybody_else_hears_a_line(harness: Harness) -> None:
    server = await harness.serve(ChatServer())
    ann = await join(server, "ann")
    bob = await join(server, "bob")
    cid = await join(server, "cid")

    await ann.say("hello")
    assert await bob.hear() == await cid.hear() == "ann: hello"
    await bob.say("hello yourself")
    # The next thing that ann hears is not what she said.
    assert await ann.hear() == await cid.hear() == "bob: hello yourself"


async def test_lines_keep_their_order(harness: Harness) -> None:
    server = await harness.serve(ChatServer(queue_size=8))
    ann = await join(server, "ann")
    bob = await join(server, "bob")

    async def talk() -> None:
        for number in range(500):
            await ann.say(str(number))

    async with create_task_group() as tasks:
        tasks.start_soon(talk)
        for number in range(500):
            assert await bob.hear() == f"ann: {number}"


async def test_many_lines_in_one_piece_are_no_reason_to_drop_a_reader(harness: Harness) -> None:
    server = await harness.serve(ChatServer(queue_size=8))
    ann = await join(server, "ann")
    bob = await join(server, "bob")

    await ann.stream.send(b"".join(b"%d\n" % number for number in range(500)))
    for number in range(500):
        assert await bob.hear() == f"ann: {number}"


async def test_leaving_is_announced(harness: Harness) -> None:
    chat = ChatServer()
    server = await harness.serve(chat)
    ann = await join(server, "ann")
    bob = await join(server, "bob")

    await bob.leave()
    assert await ann.hear() == "* bob left"
    assert chat.nicks == ["ann"]
    await join(server, "bob")  # the nick is free again


@pytest.mark.parametrize("nick", ["", "two words", "x" * 33, "ann"])
async def test_nick_that_is_refused(harness: Harness, nick: str) -> None:
    chat = ChatServer()
    server = await harness.serve(chat)
    await join(server, "ann")
    stream = await server.connect()

    with pytest.raises(RefusedError, match="error: "):
        await ChatClient.join(stream, nick)
    with pytest.raises(EndOfStream):
        await stream.receive()
    assert chat.nicks == ["ann"]


async def test_client_that_leaves_before_it_joins(harness: Harness) -> None:
    server = await harness.serve(ChatServer())
    stream = await server.connect()
    await stream.send(b"an")
    await server.wait_connections(1)
    await stream.aclose()

    await server.wait_connections(0)
    assert not server.errors


async def test_client_that_leaves_in_the_middle_of_a_line(harness: Harness) -> None:
    server = await harness.serve(ChatServer())
    ann = await join(server, "ann")
    bob = await join(server, "bob")

    await bob.stream.send(b"a whole line\nhalf a li")
    assert await ann.hear() == "bob: a whole line"
    await bob.leave()
    assert await ann.hear() == "* bob left"


async def test_rude_client_never_ends_its_line(harness: Harness) -> None:
    server = await harness.serve(ChatServer(max_line=100))
    ann = await join(server, "ann")
    bob = await join(server, "bob")

    await bob.stream.send(b"x" * 99)
    await harness.settle()
    await ann.say("still waiting for bob")
    assert await bob.hear() == "ann: still waiting for bob"
    await bob.stream.send(b"x")
    assert await bob.hear() == "error: the line is too long"
    with pytest.raises(IncompleteRead):
        await bob.hear()
    assert await ann.hear() == "* bob left (rude)"


async def test_rude_client_sends_too_long_a_line_at_once(harness: Harness) -> None:
    server = await harness.serve(ChatServer(max_line=100))
    ann = await join(server, "ann")
    bob = await join(server, "bob")

    await bob.say("x" * 101)
    assert await bob.hear() == "error: the line is too long"
    assert await ann.hear() == "* bob left (rude)"


async def test_slow_reader_is_disconnected_and_stops_nobody(harness: Harness) -> None:
    chat = ChatServer(max_line=65536, queue_size=4)
    server = await harness.serve(chat)
    talker = await join(server, "talker")
    reader = await join(server, "reader")
    slow = await join(server, "slow")

    # Long lines, because what the kernel buffers for the slow one has to be filled first.
    line = "x" * 60_000
    said = 0
    while "slow" in chat.nicks:
        await talker.say(line)
        said += 1
        heard = await reader.hear()
        if heard == "* slow left (too slow)":
            heard = await reader.hear()
        assert heard == f"talker: {line}"
        assert said < 2000, "the server queues without a bound"
    assert said > 4
    assert await talker.hear() == "* slow left (too slow)"
    assert not server.errors

    # It gets what was on its way to it, and then its connection ends.
    last: list[str] = []
    with pytest.raises((IncompleteRead, BrokenResourceError)):
        while True:
            last.append(await slow.hear())
    assert len(last) < said


async def test_three_hundred_clients_linger(harness: Harness) -> None:
    everybody = [f"client_{number}" for number in range(300)]
    chat = ChatServer()
    server = await harness.serve(chat)
    clients: list[ChatClient] = []

    async def arrive(nick: str) -> None:
        clients.append(await join(server, nick))

    async with create_task_group() as tasks:
        for nick in everybody:
            tasks.start_soon(arrive, nick)

    assert sorted(chat.nicks) == sorted(everybody)
    assert len(server.connections) == 300
    await clients[0].say("good night")
    for client in clients[1:]:
        assert await client.hear() == f"{clients[0].nick}: good night"
    # Nobody says goodbye: the harness ends 300 handlers here, and none of them is an error.
