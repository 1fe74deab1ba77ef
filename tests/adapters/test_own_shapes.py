"""A shape of one's own: one class, with one async method."""

from __future__ import annotations

import contextlib
from unittest import SkipTest

import anyio
import mains
import pytest
from anyio import ConnectionFailed, EndOfStream

from harness import Harness, open_harness
from harness.adapters import Shape


class WithLifespan(Shape):
    """Something begins before the first connection, and ends after the last."""

    def __init__(self):
        self.events = []

    async def run(self, site, *, task_status):
        self.events.append("begins")
        try:
            await site.accept(self.handle, task_status=task_status)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
            self.events.append("has ended")

    async def handle(self, stream):
        self.events.append("a connection")
        try:
            await mains.echo(stream)
        finally:
            self.events.append("its end")


LIFE = ["begins", "a connection", "its end", "has ended"]


async def answers(server):
    client = await server.connect()
    await client.send(b"hello")
    assert await client.receive() == b"hello"
    return client


async def test_it_has_its_time_at_the_end(harness: Harness, virtual_clock):
    shape = WithLifespan()
    async with open_harness(transport=harness.transport.name, grace=60) as inner:
        server = await inner.serve(shape)
        assert server.shape is shape
        assert server.name == "WithLifespan"
        await answers(server)
        assert len(server.connections) == 1
    assert shape.events == LIFE
    assert virtual_clock.now == 1


async def test_it_can_be_stopped_and_started_again(harness: Harness, virtual_clock):
    shape = WithLifespan()
    server = await harness.serve(shape, name="mine")
    address = server.address
    client = await answers(server)
    await server.stop(grace=0)
    with pytest.raises((EndOfStream, anyio.BrokenResourceError)):
        await client.receive()
    assert shape.events == LIFE
    with pytest.raises(ConnectionFailed):
        await server.connect()
    await server.restart()
    assert server.address == address
    await answers(server)
    await server.drop_connections()
    await answers(server)
    assert server.accepted == 3


class Particular(Shape):
    """It can be had in one place only."""

    name = "particular"

    def missing(self, site):
        if site.transport.name != "memory":
            return f"{self.name} is for memory, and not for {site.transport.name} on {site.backend}"
        return None

    async def run(self, site, *, task_status):
        await site.accept(mains.echo, task_status=task_status)


async def test_where_it_can_be_had(harness: Harness):
    if harness.transport.name == "memory":
        await answers(await harness.serve(Particular()))
        return
    reason = f"particular is for memory, and not for {harness.transport.name} on {harness.backend}"
    with pytest.raises(SkipTest, match=f"^{reason}$"):
        await harness.serve(Particular())
    await answers(await harness.serve(Particular(), transport="memory"))
    with pytest.raises(ValueError, match="particular is for memory, and not for tcp"):
        await harness.serve(Particular(), transport="tcp")


class Elsewhere(Shape):
    """It says itself where it is, and does not listen at all."""

    def __init__(self, address):
        self.address = address

    async def run(self, site, *, task_status):
        assert site.address is None
        task_status.started(self.address)
        await anyio.sleep_forever()


@pytest.mark.harness(transports=["tcp"])
async def test_an_address_of_somebody_else(harness: Harness):
    real = await harness.serve(mains.echo)
    server = await harness.serve(Elsewhere(real.address))
    assert server.address == real.address
    await answers(server)
    await answers(await harness.proxy(server))


@pytest.mark.harness(transports=["tcp"])
async def test_two_words_of_readiness(harness: Harness):
    class Hasty(Shape):
        async def run(self, site, *, task_status):
            task_status.started(("127.0.0.1", 1))
            task_status.started(("127.0.0.1", 2))

    with pytest.raises(RuntimeError, match=r"has called task_status.started\(\) twice"):
        async with open_harness(transport="tcp") as inner:
            await inner.serve(Hasty())
            await anyio.sleep_forever()


@pytest.mark.harness(transports=["memory"])
async def test_no_socket_in_memory(harness: Harness):
    class Binds(Shape):
        async def run(self, site, *, task_status):
            site.bind()

    with pytest.raises(NotImplementedError, match="transport 'memory' has no sockets"):
        await harness.serve(Binds())


async def test_what_is_neither_handler_nor_shape(harness: Harness):
    with pytest.raises(TypeError, match=r"or a shape of harness.adapters, not 5"):
        await harness.serve(5)
    with pytest.raises(TypeError, match=r"WithLifespan\(\.\.\.\), not the class"):
        await harness.serve(WithLifespan)


@pytest.mark.harness(transports=["tcp"])
async def test_one_that_cannot_be_asked_to_end_keeps_nobody_else_from_it(harness: Harness):
    class StopRaises(Shape):
        async def run(self, site, *, task_status):
            with site.bind():
                task_status.started()
                await anyio.sleep_forever()

        def stop(self, site):
            raise LookupError("in stop()")

    with pytest.raises(LookupError, match=r"in stop\(\)"):
        async with open_harness(transport="tcp") as inner:
            await inner.serve(StopRaises())
            server = await inner.serve(mains.echo)
            await answers(server)
    # And nothing is left behind, as the end of this test will show.


async def test_stop_is_not_async(harness: Harness):
    class AsyncStop(WithLifespan):
        async def stop(self, site):
            pass

    with pytest.raises(TypeError, match=r"AsyncStop.stop\(\) cannot wait: write `def stop`"):
        await harness.serve(AsyncStop())


@pytest.mark.harness(transports=["tcp"])
async def test_one_that_swallows_the_cancellation_before_it_is_ready(harness: Harness):
    class Swallows(Shape):
        async def run(self, site, *, task_status):
            with contextlib.suppress(anyio.get_cancelled_exc_class()):
                await anyio.sleep_forever()

    with anyio.move_on_after(0.001) as scope:
        await harness.serve(Swallows())
    assert scope.cancelled_caught
