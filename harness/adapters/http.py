"""HTTP clients of servers that are not at a host and a port: a connector for httpcore, for httpx.

TLS is the harness's own: :meth:`harness.Server.connect` has done the handshake, and checked the
certificate, when httpcore is given the stream. So what httpcore asks to be done for TLS is done
already, a proxy in between makes no difference, and HTTP/2 is not negotiated by ALPN.
"""

from __future__ import annotations

import select
import ssl
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx
from anyio import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    fail_after,
    sleep,
)
from anyio.abc import ByteStream, ByteStreamConnectable, SocketAttribute
from anyio.streams.tls import TLSAttribute

from ..reachable import Reachable

#: What an operation of httpcore's network raises for what a stream of AnyIO does.
_RAISED = {
    "connect": (httpcore.ConnectTimeout, httpcore.ConnectError),
    "read": (httpcore.ReadTimeout, httpcore.ReadError),
    "write": (httpcore.WriteTimeout, httpcore.WriteError),
}

#: What has to do with the way to the server, which is the harness's.
_OWN = ("cert", "mounts", "proxy", "transport", "verify")


@contextmanager
def _bounded(operation: str, timeout: float | None) -> Iterator[None]:
    """Bound an operation by AnyIO's clock, and say in httpcore's words how it has failed."""
    too_late, failed = _RAISED[operation]
    try:
        with fail_after(timeout):
            yield
    except TimeoutError as exc:
        raise too_late(exc) from exc
    except (OSError, BrokenResourceError, ClosedResourceError, EndOfStream) as exc:
        raise failed(_said(exc)) from exc


def _said(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__


class Stream(httpcore.AsyncNetworkStream):
    """A byte stream of AnyIO, as httpcore takes one. Its time-outs are in seconds."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _bounded("read", timeout):
            try:
                return await self._stream.receive(max_bytes)
            except EndOfStream:
                return b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if buffer:
            with _bounded("write", timeout):
                await self._stream.send(buffer)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Does nothing: see the module."""
        return self

    def get_extra_info(self, info: str) -> Any:
        attribute: Any
        match info:
            case "ssl_object":
                attribute = TLSAttribute.ssl_object
            case "client_addr":
                attribute = SocketAttribute.local_address
            case "server_addr":
                attribute = SocketAttribute.remote_address
            case "socket":
                attribute = SocketAttribute.raw_socket
            case "is_readable":
                return self._is_readable()
            case _:
                return None
        return self._stream.extra(attribute, None)

    def _is_readable(self) -> bool:
        """Whether there is something to read: of an idle connection, that it has ended."""
        readable: bool | None = getattr(self._stream, "readable", None)  # in memory
        if readable is not None:
            return readable
        raw = self._stream.extra(SocketAttribute.raw_socket, None)
        if raw is None:
            return False
        if raw.fileno() < 0:
            return True
        if sys.platform == "win32":
            return bool(select.select([raw], [], [], 0)[0])
        poll = select.poll()  # select() takes no descriptors from 1024 on
        poll.register(raw, select.POLLIN)
        return bool(poll.poll(0))


class Connector(httpcore.AsyncNetworkBackend):
    """Connects httpcore to one server, whatever host, port or path it asks for.

    ::

        pool = httpcore.AsyncConnectionPool(network_backend=Connector(server))

    :param server: a server, a proxy, or any other ``ByteStreamConnectable``
    :raises TypeError: if it is none
    """

    def __init__(self, server: ByteStreamConnectable) -> None:
        if not isinstance(server, ByteStreamConnectable):
            raise TypeError(
                "Connector() expects a Server or another anyio.abc.ByteStreamConnectable, "
                f"not {server!r}"
            )
        self._server = server

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A stream to the server. Raises ``httpcore.ConnectError`` and ``ConnectTimeout``."""
        with _bounded("connect", timeout):
            return Stream(await self._server.connect())

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """As :meth:`connect_tcp`."""
        return await self.connect_tcp("", 0, timeout)

    async def sleep(self, seconds: float) -> None:
        await sleep(seconds)


@contextmanager
def _in_words_of_httpx() -> Iterator[None]:
    """For an exception of httpcore, raise the one of httpx that has its name."""
    try:
        yield
    except Exception as exc:
        for cls in type(exc).__mro__:
            known = getattr(httpx, cls.__name__, None) if cls.__module__ == "httpcore" else None
            if known is not None:
                raise known(str(exc)) from exc
        raise


class RequestBody:
    """What httpcore iterates over, and may leave in the middle; asyncgens of trio want an end."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._begun: list[Any] = []

    def __aiter__(self) -> AsyncIterator[bytes]:
        parts: AsyncIterator[bytes] = self._stream.__aiter__()
        self._begun.append(parts)
        return parts

    async def aclose(self) -> None:
        for parts in self._begun:
            if hasattr(parts, "aclose"):
                await parts.aclose()


class ResponseBody(httpx.AsyncByteStream):
    """The body of a response, as httpx takes it from httpcore."""

    def __init__(self, body: Any) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _in_words_of_httpx():
            async for part in self._body:
                yield part

    async def aclose(self) -> None:
        await self._body.aclose()


class PoolTransport(httpx.AsyncBaseTransport):
    """A pool of httpcore's as a transport of httpx."""

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        body = RequestBody(request.stream)
        asked = httpcore.Request(
            method=request.method,
            url=url,
            headers=request.headers.raw,
            content=body,
            extensions=request.extensions,
        )
        with _in_words_of_httpx():
            try:
                answer = await self._pool.handle_async_request(asked)
            finally:
                await body.aclose()
        return httpx.Response(
            status_code=answer.status,
            headers=answer.headers,
            stream=ResponseBody(answer.stream),
            extensions=answer.extensions,
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


def client_of(
    server: Reachable,
    *,
    http1: bool = True,
    http2: bool = False,
    limits: httpx.Limits | None = None,
    **options: Any,
) -> httpx.AsyncClient:
    """What :meth:`harness.Server.http_client` returns."""
    refused = [name for name in _OWN if name in options]
    if refused:
        raise TypeError(
            f"http_client() takes no {', '.join(refused)}: the way to the server is the harness's"
        )
    if limits is None:
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=5)
    pool = httpcore.AsyncConnectionPool(
        # Never used, and cheaper than the default one, which loads the authorities of the machine.
        ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        max_connections=limits.max_connections,
        max_keepalive_connections=limits.max_keepalive_connections,
        keepalive_expiry=limits.keepalive_expiry,
        http1=http1,
        http2=http2,
        network_backend=Connector(server),
    )
    options.setdefault("base_url", base_url(server))
    options.setdefault("trust_env", False)
    client = httpx.AsyncClient(transport=PoolTransport(pool), **options)

    async def hang_up() -> None:
        for connection in pool.connections:
            if connection.is_idle():
                await connection.aclose()

    server._harness._at_the_end.append(hang_up)
    return client


def base_url(server: Reachable) -> str:
    """Where an HTTP client would say that ``server`` is; a unix socket is at ``localhost``."""
    scheme = "http" if getattr(server, "client_ssl_context", None) is None else "https"
    return server.url(scheme) if isinstance(server.address, tuple) else f"{scheme}://localhost"
