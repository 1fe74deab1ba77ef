"""Members whose ways are slow, or break."""

from __future__ import annotations

import pytest
from anyio import BrokenResourceError, IncompleteRead
from chat import ChatClient, ChatServer

from harness import Harness, VirtualClock
from harness.faults import Bandwidth, Latency, LimitData

pytestmark = pytest.mark.harness(grace=0)


async def test_who_is_stalled_has_to_go_and_stops_nobody(harness: Harness) -> None:
    chat = ChatServer(max_line=65536, queue_size=4)
    server = await harness.serve(chat)
    proxy = await harness.proxy(server)
    ann = await ChatClient.join(await server.connect(), "ann")
    bob = await ChatClient.join(await server.connect(), "bob")
    cid = await ChatClient.join(await proxy.connect(), "cid")
    proxy.freeze()

    # Long lines, because what the kernel buffers on the way has to be filled first.
    line = "x" * 60_000
    said = 0
    while "cid" in chat.nicks:
        await ann.say(line)
        said += 1
        heard = await bob.hear()
        if heard == "* cid left (too slow)":
            heard = await bob.hear()
        assert heard == f"ann: {line}"
        assert said < 2000, "the server queues without a bound"
    assert await ann.hear() == "* cid left (too slow)"
    assert not server.errors

    # What was on its way is still to be heard, and then there is no more.
    proxy.thaw()
    last: list[str] = []
    with pytest.raises((IncompleteRead, BrokenResourceError)):
        while True:
            last.append(await cid.hear())
    assert 0 < len(last) < said
    assert set(last) == {f"ann: {line}"}


@pytest.mark.harness(transports=["tcp", "unix", "memory"])
async def test_who_hears_slowly_hears_all_of_it_in_order(
    harness: Harness, virtual_clock: VirtualClock
) -> None:
    server = await harness.serve(ChatServer())
    proxy = await harness.proxy(server)
    ann = await ChatClient.join(await server.connect(), "ann")
    bob = await ChatClient.join(await proxy.connect(), "bob")
    proxy.add(Bandwidth(10))
    for number in range(100):
        await ann.say(f"{number:04}")
    for number in range(100):
        assert await bob.hear() == f"ann: {number:04}"  # ten bytes, with the new line
    assert virtual_clock.now == 100


async def test_a_conversation_over_a_long_way(
    harness: Harness, virtual_clock: VirtualClock
) -> None:
    server = await harness.serve(ChatServer())
    proxy = await harness.proxy(server)
    ann = await ChatClient.join(await server.connect(), "ann")
    bob = await ChatClient.join(await proxy.connect(), "bob")
    proxy.add(Latency(0.25), direction="both")
    for round_trip in range(1, 11):
        await ann.say("ping")
        assert await bob.hear() == "ann: ping"
        await bob.say("pong")
        assert await ann.hear() == "bob: pong"
        assert virtual_clock.now == 0.5 * round_trip


@pytest.mark.parametrize("end", ["reset", "disconnect", "half a line"])
async def test_who_is_cut_off_has_left(harness: Harness, end: str) -> None:
    chat = ChatServer()
    server = await harness.serve(chat)
    proxy = await harness.proxy(server)
    ann = await ChatClient.join(await server.connect(), "ann")
    bob = await ChatClient.join(await proxy.connect(), "bob")
    await bob.say("hello")
    assert await ann.hear() == "bob: hello"
    match end:
        case "reset":
            await proxy.reset_all()
        case "disconnect":
            await proxy.disconnect_all()
        case "half a line":
            proxy.add(LimitData(10), direction="upstream")
            await bob.say("nobody is to hear the half of this")
    assert await ann.hear() == "* bob left"
    assert chat.nicks == ["ann"]
    assert not server.errors
