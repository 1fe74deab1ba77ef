"""ASGI applications for the tests of servers."""

from __future__ import annotations

import contextlib

import anyio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route


class Boom(Exception):
    pass


class App:
    """An application, and what happened to it, in order.

    :ivar log: words for what has happened
    :ivar begun: set when ``/wait`` or ``/never`` has been asked for
    :ivar go_on: lets ``/wait`` answer
    """

    def __init__(self, *, fails_at: str = "", hangs_at: str = "") -> None:
        self.log: list[str] = []
        self.begun = anyio.Event()
        self.go_on = anyio.Event()
        self._fails_at, self._hangs_at = fails_at, hangs_at
        self.asgi = Starlette(
            lifespan=self._lifespan,
            routes=[
                Route(f"/{name}", getattr(self, name), methods=["GET", "POST"])
                for name in (
                    *("hello", "echo", "stream", "endless", "state"),
                    *("crash", "wait", "never", "exit"),
                )
            ],
        )

    async def _at(self, stage: str) -> None:
        self.log.append(stage)
        if stage == self._fails_at:
            raise Boom(stage)
        if stage == self._hangs_at:
            await anyio.sleep_forever()

    @contextlib.asynccontextmanager
    async def _lifespan(self, app):
        await self._at("startup")
        yield {"greeting": "hello"}
        await self._at("shutdown")

    async def hello(self, request):
        return PlainTextResponse("hello")

    async def echo(self, request):
        return PlainTextResponse(await request.body())

    async def endless(self, request):
        async def parts():
            yield b"first"
            await anyio.sleep_forever()

        return StreamingResponse(parts())

    async def stream(self, request):
        async def parts():
            for number in range(3):
                yield f"{number} ".encode()
                await anyio.lowlevel.checkpoint()

        return StreamingResponse(parts())

    async def state(self, request):
        return PlainTextResponse(f"{request.state.greeting} {request.client is not None}")

    async def crash(self, request):
        raise Boom("crash")

    async def exit(self, request):
        raise SystemExit(7)

    async def wait(self, request):
        self.begun.set()
        await self.go_on.wait()
        self.log.append("answered")
        return PlainTextResponse("waited")

    async def never(self, request):
        self.begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.log.append("cancelled")
