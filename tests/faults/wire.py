"""A connection through a proxy, both of whose ends a test has in its hands."""

from __future__ import annotations

from anyio import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    Event,
    current_time,
    sleep_forever,
)


class Arrivals:
    """What arrives at one end, and when.

    :ivar runs: when, and which bytes; those that came at one time are one
    :ivar end: when it ended, and how: ``"end"``, ``"reset"`` or ``"closed here"``; ``None`` as
        long as it has not
    :ivar over: is set with that
    """

    def __init__(self) -> None:
        self.runs: list[tuple[float, bytes]] = []
        self.end: tuple[float, str] | None = None
        self.over = Event()

    @property
    def data(self) -> bytes:
        return b"".join(data for _, data in self.runs)

    async def collect(self, stream) -> None:
        try:
            while True:
                data = await stream.receive()
                now = current_time()
                if self.runs and self.runs[-1][0] == now:
                    data = self.runs.pop()[1] + data
                self.runs.append((now, data))
        except EndOfStream:
            self.end = (current_time(), "end")
        except BrokenResourceError:
            self.end = (current_time(), "reset")
        except ClosedResourceError:
            self.end = (current_time(), "closed here")
        self.over.set()


class Wire:
    """A connection: ``sender[direction]`` sends what ``arrivals[direction]`` gets."""

    def __init__(self, harness, server, proxy) -> None:
        self.harness = harness
        self.server = server
        self.proxy = proxy
        self.arrivals = {"upstream": Arrivals(), "downstream": Arrivals()}
        self.sender = {}

    @property
    def connection(self):
        (connection,) = self.proxy.connections
        return connection

    async def send(self, direction, data):
        await self.sender[direction].send(data)

    async def send_eof(self, direction):
        """End the stream; where TLS has no half-close, by the end of the connection."""
        stream = self.sender[direction]
        try:
            await stream.send_eof()
        except NotImplementedError:
            await stream.aclose()

    def got(self, direction):
        return self.arrivals[direction].runs

    def end(self, direction):
        return self.arrivals[direction].end


class Ends:
    """A server that hands out its ends of connections, in their order."""

    def __init__(self) -> None:
        self.streams = []

    async def handle(self, stream):
        self.streams.append(stream)
        await sleep_forever()


async def open_wire(
    harness, *toxics, collect=("upstream", "downstream"), transport=None, **options
):
    """A server, a proxy in front of it and a connection through that.

    :param collect: the directions in which somebody receives
    """
    ends = Ends()
    server = await harness.serve(ends, grace=0, transport=transport)
    proxy = await harness.proxy(server, *toxics, **options)
    return await open_another(harness, server, proxy, ends, collect=collect)


async def open_another(harness, server, proxy, ends, collect=("upstream", "downstream")):
    wire = Wire(harness, server, proxy)
    before = len(ends.streams)
    client = await proxy.connect()
    await server.wait_connections(before + 1)
    await harness.settle()
    wire.ends = ends
    wire.sender = {"upstream": client, "downstream": ends.streams[before]}
    receiver = {"upstream": ends.streams[before], "downstream": client}
    for direction in collect:
        harness.task_group.start_soon(wire.arrivals[direction].collect, receiver[direction])
    return wire
