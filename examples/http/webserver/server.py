"""The server: h11 knows HTTP/1.1, this module moves its bytes and calls the routes.

Persistent connections, request bodies with a bound, responses of known length or chunked, HEAD,
``Expect: 100-continue``, and a limit to the time that a client takes for its next request.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from http import HTTPStatus

import h11
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, move_on_after
from anyio.abc import ByteStream

#: Bytes of one request's body, if nothing else is said.
MAX_BODY = 1024 * 1024

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Request:
    """A request with its whole body. ``headers`` has names in lower case."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    body: bytes


@dataclass(frozen=True)
class Response:
    """What a route answers. A body that is an async generator is sent in chunks as it comes."""

    body: bytes | AsyncGenerator[bytes, None] = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Awaitable[Response]]


class BodyTooLargeError(Exception):
    """The request's body is, or says that it is, larger than the server takes."""


class ClientGoneError(Exception):
    """The connection broke. Not AnyIO's own exceptions: a route's bug may raise those too."""


class WebServer:
    """Serves ``routes``, which maps ``"GET /path"`` to handlers. HEAD goes to the GET route.

    An exception in a route is answered with 500 and goes on to whoever runs the server.

    :param idle_timeout: seconds until the next request has to be there, whole
    """

    def __init__(
        self,
        routes: Mapping[str, Handler],
        *,
        max_body: int = MAX_BODY,
        idle_timeout: float = math.inf,
    ) -> None:
        self._routes = routes
        self._max_body = max_body
        self._idle_timeout = idle_timeout

    async def handle(self, stream: ByteStream) -> None:
        """Serve one connection, request after request."""
        async with stream:
            with suppress(ClientGoneError):
                await _Exchange(stream, self._max_body, self._idle_timeout).serve(self._respond)

    async def _respond(self, request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        handler = self._routes.get(f"{method} {request.path}")
        if handler is not None:
            return await handler(request)
        methods = [
            route.partition(" ")[0] for route in self._routes if route.endswith(f" {request.path}")
        ]
        if methods:
            return _plain(405, {"Allow": ", ".join(sorted(methods))})
        return _plain(404)


class _Exchange:
    """The HTTP side of one connection."""

    def __init__(self, stream: ByteStream, max_body: int, idle_timeout: float) -> None:
        self._stream = stream
        self._max_body = max_body
        self._idle_timeout = idle_timeout
        self._http = h11.Connection(h11.SERVER)

    async def serve(self, respond: Handler) -> None:
        while True:
            request = None
            try:
                with move_on_after(self._idle_timeout):
                    request = await self._receive()
            except h11.RemoteProtocolError as exc:
                await self._refuse(exc.error_status_hint)
                return
            except BodyTooLargeError:
                # The body is not read: if the client sends it anyway, it gets a reset for it.
                await self._refuse(413)
                return
            if request is None:
                return
            try:
                response = await respond(request)
            except Exception:
                await self._refuse(500)
                raise
            await self._send_response(request.method, response)
            if self._http.our_state is h11.MUST_CLOSE:
                return
            self._http.start_next_cycle()

    async def _receive(self) -> Request | None:
        """The next request with its body; ``None`` if the client is done."""
        head = await self._next_event()
        if isinstance(head, h11.ConnectionClosed):
            return None
        assert isinstance(head, h11.Request)
        headers = {bytes(name): bytes(value) for name, value in head.headers}
        # Looked at before the body is asked for, so that `Expect: 100-continue` saves the upload.
        if int(headers.get(b"content-length", b"0")) > self._max_body:
            raise BodyTooLargeError
        body = bytearray()
        while isinstance(event := await self._next_event(), h11.Data):
            body += event.data
            if len(body) > self._max_body:
                raise BodyTooLargeError
        path = head.target.partition(b"?")[0].decode("ascii")
        return Request(head.method.decode("ascii"), path, headers, bytes(body))

    async def _next_event(self) -> h11.Event:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            try:
                self._http.receive_data(await self._stream.receive())
            except EndOfStream:
                self._http.receive_data(b"")  # h11's word for it
            except (BrokenResourceError, ClosedResourceError) as exc:
                raise ClientGoneError from exc
        assert not isinstance(event, type)  # h11.PAUSED only comes where nobody asks
        return event

    async def _send_response(self, method: str, response: Response) -> None:
        headers: Headers = [
            (name.encode("ascii"), value.encode("latin-1"))
            for name, value in response.headers.items()
        ]
        if isinstance(response.body, bytes):
            headers.append((b"content-length", b"%d" % len(response.body)))
        await self._send(h11.Response(status_code=response.status, headers=headers))
        if isinstance(response.body, bytes):
            if method != "HEAD":
                await self._send(h11.Data(data=response.body))
        else:
            # Closed here and now, also if the client goes or the task is cancelled halfway.
            async with aclosing(response.body) as chunks:
                if method != "HEAD":
                    async for chunk in chunks:
                        await self._send(h11.Data(data=chunk))
        await self._send(h11.EndOfMessage())

    async def _refuse(self, status: int) -> None:
        """Answer with an error and close, unless an answer is already on its way."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self._send_response("", _plain(status, {"Connection": "close"}))

    async def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            try:
                await self._stream.send(data)
            except (BrokenResourceError, ClosedResourceError, EndOfStream) as exc:
                raise ClientGoneError from exc  # the last one comes from TLS


def _plain(status: int, headers: Mapping[str, str] | None = None) -> Response:
    phrase = f"{status} {HTTPStatus(status).phrase}\n".encode()
    return Response(phrase, status, {"Content-Type": "text/plain", **(headers or {})})
