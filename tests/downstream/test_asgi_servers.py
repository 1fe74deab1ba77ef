"""Anycorn, Hypercorn and Uvicorn with an application of Starlette's; httpx is their client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest
from anyio import create_task_group
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from harness import Harness
from harness.adapters import ASGI

CUT_SHORT = (httpx.ReadError, httpx.RemoteProtocolError)


class Application(Starlette):
    """Says hello, echoes, streams for ever, and waits until the test lets it answer."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.asked = anyio.Event()
        self.may_answer = anyio.Event()
        super().__init__(
            routes=[
                Route("/", self.hello),
                Route("/echo", self.echo, methods=["POST"]),
                Route("/endless", self.endless),
                Route("/late", self.late),
            ],
            lifespan=self.while_it_lives,
        )

    @asynccontextmanager
    async def while_it_lives(self, app: Starlette) -> AsyncIterator[None]:
        self.log.append("startup")
        yield
        self.log.append("shutdown")

    async def hello(self, request: Request) -> Response:
        return PlainTextResponse("hello\n")

    async def echo(self, request: Request) -> Response:
        return Response(await request.body())

    async def endless(self, request: Request) -> Response:
        async def chunks() -> AsyncGenerator[bytes, None]:
            yield b"first"
            await anyio.sleep_forever()

        return StreamingResponse(chunks())

    async def late(self, request: Request) -> Response:
        self.asked.set()
        await self.may_answer.wait()
        return PlainTextResponse("at last\n")


@pytest.fixture
def app() -> Application:
    return Application()


class ServerTests:
    """The same for each of them. No request has a time-out: a slow machine must not fail a test."""

    name: str

    async def test_round_trips(self, harness: Harness, app: Application) -> None:
        server = await harness.serve(ASGI(app, self.name))
        body = bytes(range(256)) * 1000

        async def upload() -> AsyncGenerator[bytes, None]:
            for start in range(0, len(body), 10_000):
                yield body[start : start + 10_000]

        async with server.http_client(timeout=None) as client:
            assert (await client.get("/")).text == "hello\n"
            assert (await client.post("/echo", content=body)).content == body
            assert (await client.post("/echo", content=upload())).content == body
            assert (await client.get("/nowhere")).status_code == 404
        assert app.log == ["startup"]

    async def test_several_clients(self, harness: Harness, app: Application) -> None:
        server = await harness.serve(ASGI(app, self.name))
        answers: dict[int, bytes] = {}

        async def ask(number: int) -> None:
            async with server.http_client(timeout=None) as client:
                for _ in range(2):
                    response = await client.post("/echo", content=b"%d" % number * 5000)
                answers[number] = response.content

        async with create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(ask, number)
        assert answers == {number: b"%d" % number * 5000 for number in range(5)}
        assert server.accepted == 5

    async def test_a_client_that_stays(self, harness: Harness, app: Application) -> None:
        """An answer that never ends, and a connection that is idle: both end with the server."""
        server = await harness.serve(ASGI(app, self.name))
        async with (
            server.http_client(timeout=None) as idle,
            server.http_client(timeout=None) as client,
        ):
            await idle.get("/")
            async with client.stream("GET", "/endless") as response:
                received = response.aiter_raw()
                assert await anext(received) == b"first"
                await server.stop(grace=0)
                with pytest.raises(CUT_SHORT):
                    await anext(received)
            with pytest.raises(httpx.ConnectError):
                await client.get("/")
            with pytest.raises(httpx.ConnectError):
                await idle.get("/")
        assert app.log == ["startup", "shutdown"]

    async def test_it_ends_with_a_client_that_stays(
        self, harness: Harness, app: Application
    ) -> None:
        """The same, and the test ends first: nothing is left behind."""
        server = await harness.serve(ASGI(app, self.name), grace=0)
        client = await server.connect()
        await client.send(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while b"first" not in answer:
            answer += await client.receive()

    async def test_what_was_begun_is_finished(self, harness: Harness, app: Application) -> None:
        server = await harness.serve(ASGI(app, self.name), grace=30)

        async def ask() -> None:
            async with server.http_client(timeout=None) as client:
                assert (await client.get("/late")).text == "at last\n"

        async with create_task_group() as tasks:
            tasks.start_soon(ask)
            await app.asked.wait()
            tasks.start_soon(server.stop)
            await harness.settle()
            app.may_answer.set()
        assert app.log == ["startup", "shutdown"]

    async def test_a_reset_in_the_middle_of_an_answer(
        self, harness: Harness, app: Application
    ) -> None:
        server = await harness.serve(ASGI(app, self.name))
        proxy = await harness.proxy(server)
        async with proxy.http_client(timeout=None) as client:
            async with client.stream("GET", "/endless") as response:
                received = response.aiter_raw()
                assert await anext(received) == b"first"
                await proxy.reset_all()
                with pytest.raises(CUT_SHORT):
                    await anext(received)
            assert (await client.get("/")).text == "hello\n"
        assert proxy.accepted == 2
        assert not server.errors


@pytest.mark.harness(transports=["tcp", "unix", "tls", "memory", "tcp6"])
class TestAnycorn(ServerTests):
    name = "anycorn"


@pytest.mark.harness(transports=["tcp", "unix", "tls", "tcp6"])
class TestHypercorn(ServerTests):
    name = "hypercorn"


@pytest.mark.harness(transports=["tcp", "unix", "tls", "tcp6"], backends=["asyncio", "uvloop"])
class TestUvicorn(ServerTests):
    name = "uvicorn"
