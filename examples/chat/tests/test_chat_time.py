"""Who falls asleep in the chat."""

from __future__ import annotations

import pytest
from anyio import EndOfStream, IncompleteRead, sleep
from chat import ChatClient, ChatServer

from harness import Harness, VirtualClock


async def test_who_says_nothing_has_to_go(harness: Harness, virtual_clock: VirtualClock) -> None:
    server = await harness.serve(ChatServer(idle_timeout=900), grace=0)
    ann = await ChatClient.join(await server.connect(), "ann")
    bob = await ChatClient.join(await server.connect(), "bob")
    await sleep(600)
    await ann.say("anybody there?")
    assert await bob.hear() == "ann: anybody there?"
    assert await ann.hear() == "* bob left (rude)"
    assert virtual_clock.now == 900
    assert await bob.hear() == "error: you have fallen asleep"
    with pytest.raises((EndOfStream, IncompleteRead)):
        await bob.hear()
    assert await ann.hear() == "error: you have fallen asleep"
    assert virtual_clock.now == 1500
