"""h11, which does no I/O, as a server of a few lines, and httpcore as its client.

httpcore has backends of its own for AnyIO and trio; it also takes one that connects to the server,
whatever that is reached over, as the harness's `Connector` does: so it runs over memory, too.
"""

from __future__ import annotations

from typing import Any

import anyio
import h11
import httpcore
import pytest
from anyio.abc import ByteStream, ByteStreamConnectable

from harness import Harness, Server
from harness.adapters import Connector
from harness.faults import ResetPeer

pytestmark = [
    pytest.mark.harness(transports=["tcp", "unix", "tls", "memory", "tcp6"]),
    # httpcore 1.0.9 leaves the body of a request that it could not send: docs/upstream-bugs.md
    pytest.mark.filterwarnings("ignore:Async generator 'httpcore:ResourceWarning"),
]

ERRORS = (httpcore.ReadError, httpcore.WriteError, httpcore.RemoteProtocolError)


async def shout(stream: ByteStream) -> None:
    """Answer requests with their bodies in upper case, on one connection as long as it lasts."""
    connection = h11.Connection(h11.SERVER)

    async def next_event() -> Any:
        while (event := connection.next_event()) is h11.NEED_DATA:
            try:
                connection.receive_data(await stream.receive())
            except anyio.EndOfStream:
                connection.receive_data(b"")
        return event

    try:
        while not isinstance(await next_event(), h11.ConnectionClosed):
            body = b""
            while isinstance(event := await next_event(), h11.Data):
                body += event.data.upper()
            length = str(len(body)).encode()
            response = h11.Response(status_code=200, headers=[("Content-Length", length)])
            for answer in (response, h11.Data(data=body), h11.EndOfMessage()):
                await stream.send(connection.send(answer) or b"")
            if connection.our_state is h11.MUST_CLOSE:
                break
            connection.start_next_cycle()
    except anyio.BrokenResourceError:
        pass


def pool(connectable: ByteStreamConnectable) -> httpcore.AsyncConnectionPool:
    return httpcore.AsyncConnectionPool(network_backend=Connector(connectable))


@pytest.fixture
async def server(harness: Harness) -> Server:
    return await harness.serve(shout)


async def test_round_trips(server: Server) -> None:
    async with pool(server) as client:
        for body in (b"", b"hello", b"x" * 300_000):
            response = await client.request("POST", "http://server/", content=body)
            assert response.content == body.upper()
        assert server.accepted == 1
    await server.wait_connections(0)


async def test_several_clients(server: Server) -> None:
    answers = set()

    async with pool(server) as client, anyio.create_task_group() as tasks:

        async def ask(number: int) -> None:
            body = b"client %d" % number
            answers.add((await client.request("POST", "http://server/", content=body)).content)

        for number in range(5):
            tasks.start_soon(ask, number)
    assert answers == {b"CLIENT %d" % number for number in range(5)}


async def test_a_client_that_stays(server: Server) -> None:
    async with pool(server) as client:
        await client.request("POST", "http://server/", content=b"hello")
        await server.stop(grace=0)
        assert not server.connections
        with pytest.raises(httpcore.ConnectError, match="is stopped"):
            await client.request("POST", "http://server/", content=b"lost")
        await server.restart()
        response = await client.request("POST", "http://server/", content=b"again")
        assert response.content == b"AGAIN"


async def test_a_reset_between_requests_is_noticed(harness: Harness, server: Server) -> None:
    proxy = await harness.proxy(server)
    async with pool(proxy) as client:
        for connections in (1, 2):
            response = await client.request("POST", "http://server/", content=b"hello")
            assert response.content == b"HELLO"
            assert server.accepted == connections
            await proxy.reset_all()
            await harness.settle()


async def test_a_reset_in_an_answer(harness: Harness, server: Server) -> None:
    proxy = await harness.proxy(server)
    async with pool(proxy) as client:
        await client.request("POST", "http://server/", content=b"hello")
        with proxy.toxic(ResetPeer(after_bytes=20)), pytest.raises(ERRORS):
            await client.request("POST", "http://server/", content=b"lost")
        response = await client.request("POST", "http://server/", content=b"again")
        assert response.content == b"AGAIN"


@pytest.mark.harness(transports=["tcp", "tls", "unix", "tcp6"])
async def test_its_own_backend(harness: Harness, server: Server) -> None:
    options: dict[str, Any] = {}
    url = "http://localhost/"
    if harness.transport.name == "unix":
        options["uds"] = server.path
    elif harness.transport.name == "tls":
        options["ssl_context"] = server.client_ssl_context
        url = server.url("https") + "/"
    else:
        url = server.url("http") + "/"
    async with httpcore.AsyncConnectionPool(**options) as client:
        assert (await client.request("POST", url, content=b"hello")).content == b"HELLO"
