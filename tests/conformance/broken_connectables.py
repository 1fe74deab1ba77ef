"""Connectables with one defect each, for the checks to find."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import (
    BrokenResourceError,
    ConnectionFailed,
    ResourceGuard,
    aclose_forcefully,
    create_task_group,
    sleep_forever,
)
from anyio.abc import ByteStreamConnectable
from anyio.lowlevel import checkpoint

from harness.network import MemoryListener, MemoryStream, Network


class Sound(ByteStreamConnectable):
    """Connects in memory, without a defect."""

    def __init__(self, network, address, made):
        self.network = network
        self.address = address
        self.made = made

    async def connect(self):
        await checkpoint()
        if self.address is None:
            return await self.wait()
        return self.open()

    async def wait(self):
        """Nobody answers."""
        await sleep_forever()

    def open(self):
        try:
            return MemoryStream(self.network.connect(self.address))
        except OSError as exc:
            raise ConnectionFailed from exc


async def echo(stream):
    try:
        async for data in stream:
            await stream.send(data)
    except BrokenResourceError:
        pass
    finally:
        await aclose_forcefully(stream)


@asynccontextmanager
async def connectables_of(kind: type[Sound]) -> AsyncIterator[dict[str, Any]]:
    """The arguments of a check of ``kind``; what it leaves open is closed when the block ends."""
    network = Network()
    listening, nobody = network.listen(), network.listen()
    nobody.close()
    made = []

    def maker(address):
        async def make():
            return kind(network, address, made)

        return make

    async with create_task_group() as group:
        group.start_soon(MemoryListener(listening).serve, echo)
        yield {
            "make_connectable": maker(listening.address),
            "refusing": maker(nobody.address),
            "hanging": maker(None),
        }
        group.cancel_scope.cancel()
    listening.close()
    for each in made:
        each.close()


class GivesNoByteStream(Sound):
    async def connect(self):
        class Stream:
            def __init__(self, stream):
                self.send, self.receive = stream.send, stream.receive
                self.aclose = stream.aclose

        return Stream(await super().connect())


class GivesTheSameStream(Sound):
    stream = None

    def open(self):
        self.stream = self.stream or super().open()
        return self.stream


class ConnectsOnce(Sound):
    connected = False

    def open(self):
        if self.connected:
            raise ConnectionFailed
        self.connected = True
        return super().open()


class OneAtATime(Sound):
    def __init__(self, *args):
        super().__init__(*args)
        self.guard = ResourceGuard("connecting")

    async def connect(self):
        with self.guard:
            return await super().connect()


class DoesNotYield(Sound):
    async def connect(self):
        return await self.wait() if self.address is None else self.open()


class RaisesWhatTheSystemSays(Sound):
    def open(self):
        return MemoryStream(self.network.connect(self.address))


class LeavesASocketOpen(Sound):
    def open(self):
        self.made.append(socket.socket())
        return super().open()


class ConnectsBeforeItYields(Sound):
    async def connect(self):
        if self.address is None:
            return await self.wait()
        stream = self.open()
        await checkpoint()
        return stream


class GivesAStreamToNobody(Sound):
    async def wait(self):
        return MemoryStream(Network().pair()[0])


class AsksAgainAndAgain(Sound):
    async def wait(self):
        while True:
            await checkpoint()


#: A defect for each check to find.
BROKEN: dict[str, type[Sound]] = {
    "connect_gives_a_byte_stream": GivesNoByteStream,
    "each_connect_is_another_stream": GivesTheSameStream,
    "it_connects_again": ConnectsOnce,
    "many_at_once": OneAtATime,
    "connect_is_a_checkpoint": DoesNotYield,
    "a_refused_connect_raises_connection_failed": RaisesWhatTheSystemSays,
    "a_refused_connect_leaves_nothing": LeavesASocketOpen,
    "a_deadline_that_has_passed": DoesNotYield,
    "a_cancelled_connect_leaves_nothing": ConnectsBeforeItYields,
    "a_connect_that_nobody_answers": GivesAStreamToNobody,
    "a_connect_that_nobody_answers_does_not_keep_the_loop_busy": AsksAgainAndAgain,
}
