"""What a test can connect to and has an address: a server, or a proxy."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from anyio.abc import ByteStream, ByteStreamConnectable

from .connection import RecordedStream
from .transports.base import Endpoint, host_of, path_of, port_of, url_of

if TYPE_CHECKING:
    import httpx

    from .core import Harness


class Reachable(ByteStreamConnectable):
    """Something under the care of a harness that listens at an address of its own."""

    _harness: Harness
    _endpoint: Endpoint

    @property
    def address(self) -> Any:
        """``(host, port)``, or the path of a unix socket."""
        return self._endpoint.address

    @property
    def host(self) -> str:
        """The IP literal it listens at. Raises :exc:`AttributeError` for a unix socket."""
        return host_of(self.address)

    @property
    def port(self) -> int:
        """The port it listens at. Raises :exc:`AttributeError` for a unix socket."""
        return port_of(self.address)

    @property
    def path(self) -> str:
        """The path of its unix socket. Raises :exc:`AttributeError` for any other transport."""
        return path_of(self.address)

    def url(self, scheme: str) -> str:
        """A URL for clients that take one: ``server.url("https")``.

        For a unix socket it is ``scheme:///path``, or ``scheme+unix://%2Fpath`` if the scheme ends
        in ``+unix``.
        """
        return url_of(scheme, self.address)

    async def connect(self) -> ByteStream:
        """Connect to it. The harness closes the stream at the end if the test does not.

        Raises :exc:`anyio.ConnectionFailed` if it does not listen.
        """
        return await self._harness.connect(self)

    def http_client(self, **options: Any) -> httpx.AsyncClient:
        """An HTTP client of it, over whatever transport: ``await client.get("/")``.

        ``base_url`` is where the server is (``http://localhost`` for a unix socket), TLS is
        trusted, and each connection is made with :meth:`connect`, whatever host a request names. A
        client that is left open loses its idle connections when the test ends, before servers stop.

        :param options: of ``httpx.AsyncClient``, but for those that are about the way to the
            server. HTTP/2 is not negotiated; ``http1=False, http2=True`` speaks it at once.
        :raises ModuleNotFoundError: without httpx: ``pip install anyio-harness[http]``
        :raises TypeError: for an option that it does not take
        :raises RuntimeError: after the end of the test
        """
        __tracebackhide__ = True
        self._harness._check_open("make an HTTP client")
        try:
            from .adapters.http import client_of
        except ModuleNotFoundError as exc:
            raise ModuleNotFoundError(
                f"http_client() needs {exc.name}: pip install anyio-harness[http]", name=exc.name
            ) from exc
        return client_of(self, **options)

    @abstractmethod
    async def _connect(self) -> ByteStream:
        """A stream to it that nobody closes. Raises :exc:`anyio.ConnectionFailed`."""

    def _was_connected(self, stream: RecordedStream) -> None:
        """A stream to it was made, which the harness keeps."""
