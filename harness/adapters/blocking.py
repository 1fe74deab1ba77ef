"""A server for synchronous code: the harness runs in a thread of its own."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from anyio import Event
from anyio.abc import TaskStatus
from anyio.from_thread import BlockingPortal, start_blocking_portal

from ..backends import BUILT_IN, Backend
from ..connection import Connection
from ..core import Harness, open_harness
from ..durations import DEFAULT_CANCEL_TIMEOUT, DEFAULT_GRACE
from ..reachable import Reachable
from ..server import Server
from ..transports import Transport
from ..watch import add_note, hear_from_elsewhere

if TYPE_CHECKING:
    from ..faults import Proxy, Toxic

T = TypeVar("T")

#: Called by :func:`serve_blocking`, in the thread that is going to wait for it.
listeners: list[Callable[[], object]] = []

#: The harnesses of :func:`serve_blocking` that run, for a report.
serving: list[Harness] = []


class BlockingReachable:
    """Something that listens in the thread of :func:`serve_blocking`."""

    def __init__(self, portal: BlockingPortal, harness: Harness, what: Reachable) -> None:
        self._portal = portal
        self._harness = harness
        self._what = what

    @property
    def address(self) -> Any:
        """``(host, port)``, or the path of a unix socket."""
        return self._what.address

    @property
    def host(self) -> str:
        """The IP literal it listens at. Raises :exc:`AttributeError` for a unix socket."""
        return self._what.host

    @property
    def port(self) -> int:
        """The port it listens at. Raises :exc:`AttributeError` for a unix socket."""
        return self._what.port

    @property
    def path(self) -> str:
        """The path of its unix socket. Raises :exc:`AttributeError` for any other transport."""
        return self._what.path

    def url(self, scheme: str) -> str:
        """A URL for clients that take one, as :meth:`harness.Server.url` has it."""
        return self._what.url(scheme)

    def call(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run an async function in the harness's thread, and return what it returns.

        ``server.call(server.harness.settle)``. Raises what it raises, and :exc:`RuntimeError` after
        the end of the block.
        """
        return self._portal.call(function, *args)

    @property
    def harness(self) -> Harness:
        """The harness it belongs to, for use in :meth:`call` only."""
        return self._harness

    def proxy(self, *toxics: Toxic, **options: Any) -> BlockingProxy:
        """A proxy in front of it, as :meth:`harness.Harness.proxy` makes it."""

        async def make() -> Proxy:
            return await self._harness.proxy(self._what, *toxics, **options)

        return BlockingProxy(self._portal, self._harness, self.call(make))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._what!r}>"


class BlockingServer(BlockingReachable):
    """What :func:`serve_blocking` gives: a :class:`harness.Server` for synchronous code."""

    _what: Server

    @property
    def server(self) -> Server:
        """The server itself, for use in :meth:`call` only."""
        return self._what

    @property
    def name(self) -> str:
        """What messages call it."""
        return self._what.name

    @property
    def transport(self) -> Transport:
        """What it is reached over."""
        return self._what.transport

    @property
    def client_ssl_context(self) -> ssl.SSLContext:
        """A context that trusts it. Raises :exc:`AttributeError` if it has no TLS."""
        return self._what.client_ssl_context

    @property
    def accepted(self) -> int:
        """How many connections its handler was given."""
        return self._what.accepted

    @property
    def errors(self) -> Sequence[BaseException]:
        """What its handlers raised, expected or not."""
        return list(self._what.errors)

    @property
    def connections(self) -> Sequence[Connection]:
        """The live connections, oldest first."""
        return self._what.connections

    def connect(self, *, timeout: float | None = 60.0) -> socket.socket:
        """A blocking socket to it, with TLS if it has that. The caller closes it.

        :param timeout: seconds that connecting, and each operation later, may take
        :raises OSError: if it does not listen
        """
        if isinstance(self.address, str):
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        else:
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            client = socket.socket(family, socket.SOCK_STREAM)
        try:
            client.settimeout(timeout)
            client.connect(self.address)
            context = self._what._endpoint.client_ssl_context
            if context is not None:
                return context.wrap_socket(client, server_hostname=self.host)
        except BaseException:
            client.close()
            raise
        return client

    def wait_connections(self, n: int) -> None:
        """Wait until at least ``n`` connections are live; for ``n == 0``, until none is."""
        self.call(self._what.wait_connections, n)

    def drop_connections(self) -> None:
        """Cancel the handler of every live connection and wait for them; go on accepting."""
        self.call(self._what.drop_connections)

    def stop(self, *, grace: float | None = None) -> None:
        """Stop accepting, let handlers finish for ``grace`` seconds, cancel the others, close."""

        async def stop() -> None:
            await self._what.stop(grace=grace)

        self.call(stop)

    def restart(self) -> None:
        """Stop, and start again at the same address."""
        self.call(self._what.restart)


class BlockingProxy(BlockingReachable):
    """A proxy in front of a :class:`BlockingServer`."""

    _what: Proxy

    @property
    def inner(self) -> Proxy:
        """The proxy itself, for use in :meth:`call` only: ``proxy.call(proxy.inner.enable)``."""
        return self._what

    def disconnect_all(self) -> None:
        """End every live connection with FIN."""
        self.call(self._what.disconnect_all)

    def reset_all(self) -> None:
        """End every live connection with RST."""
        self.call(self._what.reset_all)


@contextlib.contextmanager
def serve_blocking(
    what: Any,
    *,
    backend: str | Backend = "asyncio",
    transport: str | Transport = "tcp",
    name: str | None = None,
    grace: float = DEFAULT_GRACE,
    cancel_timeout: float = DEFAULT_CANCEL_TIMEOUT,
    expect: type[BaseException] | Iterable[type[BaseException]] = (),
    expect_required: bool = False,
    backends: Mapping[str, Backend] = BUILT_IN,
) -> Iterator[BlockingServer]:
    """Serve for synchronous tests and clients: the harness runs in a thread, on any backend.

    ::

        with serve_blocking(handler, backend="trio") as server:
            smtplib.SMTP(server.host, server.port)

    Also the way to a server of another backend in an async test: an asyncio peer in a trio test.
    When the block ends, the server stops, whatever the outcome; a crash in a handler is raised
    then, also if the block has failed of it: synchronous code cannot be cancelled, but its
    connections end with the crash.

    :param what: a handler or a shape of server, as for :meth:`Harness.serve`, with ``name``,
        ``expect`` and ``expect_required``
    :param backend: the name of one, or a :class:`harness.Backend`
    :param transport: a name or a :class:`harness.Transport`; not ``"memory"``, which no other
        thread can reach
    :param grace: seconds that handlers get to finish
    :param cancel_timeout: seconds that a cancelled handler may take to stop
    :param backends: what names of backends stand for
    :raises ValueError: for an unknown backend or transport
    :raises RuntimeError: if the backend is not installed
    """
    __tracebackhide__ = True
    chosen = _backend(backend, backends)
    if (transport if isinstance(transport, str) else transport.name) == "memory":
        raise ValueError("transport 'memory' cannot be reached from another thread; use 'tcp'")

    async def serve(*, task_status: TaskStatus[tuple[Harness, Server, Event]]) -> None:
        over = Event()
        with contextlib.ExitStack() as shown:
            async with open_harness(
                transport=transport,
                grace=grace,
                cancel_timeout=cancel_timeout,
                backend=chosen.name,
            ) as harness:
                serving.append(harness)
                shown.callback(serving.remove, harness)
                server = await harness.serve(
                    what, name=name, expect=expect, expect_required=expect_required
                )
                task_status.started((harness, server, over))
                await over.wait()

    for listener in listeners:
        listener()
    with start_blocking_portal(chosen.library, dict(chosen.options)) as portal:
        running, (harness, server, over) = portal.start_task(serve, name="serve_blocking()")
        error: BaseException | None = None
        try:
            yield BlockingServer(portal, harness, server)
        except BaseException as exc:
            error = exc
        if isinstance(error, Exception):  # of the end of a connection, which may look like anything
            portal.call(hear_from_elsewhere)
        portal.call(_set, over)
        _raise_either(running, error)


def _raise_either(running: Future[Any], error: BaseException | None) -> None:
    """The crash of the server, if there is one; what the block has raised is its consequence."""
    __tracebackhide__ = True
    crash = running.exception()
    if crash is not None and (error is None or isinstance(error, Exception)):
        if error is not None:
            add_note(crash, f"(the block has then failed with {error!r})")
        raise crash from error
    if error is not None:
        raise error


async def _set(event: Event) -> None:
    event.set()


def _backend(backend: str | Backend, backends: Mapping[str, Backend]) -> Backend:
    if isinstance(backend, str):
        if backend not in backends:
            raise ValueError(f"unknown backend {backend!r}; expected one of {', '.join(backends)}")
        backend = backends[backend]
    elif not isinstance(backend, Backend):
        raise TypeError(f"backend has to be a name or a harness.Backend, not {backend!r}")
    reason = backend.missing()
    if reason is not None:
        raise RuntimeError(reason)
    return backend
