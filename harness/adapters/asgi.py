"""ASGI applications (Starlette, FastAPI, ...) behind a real HTTP server.

What differs between the servers is in one class each. What does not is in :class:`Calls`, which is
what a server takes for the application: it sees each call of it, so an exception reaches the test
with its own traceback where servers log it and answer 500, and a call can be cancelled where a
server has no way to.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from anyio import (
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    Event,
    aclose_forcefully,
    create_task_group,
    get_cancelled_exc_class,
    sleep_forever,
)
from anyio.abc import ByteStream, SocketAttribute, TaskStatus

from ..backends import current_library
from ..descriptors import open_sockets
from ..watch import add_note, sole
from .base import Shape, Site
from .functions import name_of, why_not_called

if TYPE_CHECKING:
    import uvicorn

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

#: Seconds that a server would give its requests by itself. The harness says when their time is up.
NEVER = 86400

#: How many clients may wait to be accepted.
BACKLOG = 65535

#: Options of hypercorn and of anycorn that say where it listens, TLS, processes, and the end.
OWN_OF_HYPERCORN = frozenset(
    {
        "application_path",
        "backlog",
        "bind",
        "ca_certs",
        "certfile",
        "ciphers",
        "graceful_timeout",
        "insecure_bind",
        "keyfile",
        "keyfile_password",
        "quic_bind",
        "use_reloader",
        "worker_class",
        "workers",
    }
)


class ASGI(Shape):
    """An ASGI application behind a real server.

    ::

        server = await harness.serve(ASGI(app))
        async with server.http_client() as client:
            response = await client.get("/")

    An exception of the application is a crash of the server, as one of a handler is: it ends the
    test, unless ``serve(..., expect=...)`` names it. The server answers it as it always does.

    ``"anycorn"`` runs on every backend and over every transport: the harness accepts and does TLS,
    and it is given the streams. ``"hypercorn"`` and ``"uvicorn"`` accept by themselves, so they
    need a transport with sockets; uvicorn runs on asyncio and uvloop only. HTTP/2 is not negotiated
    over TLS, as no context of the harness offers it.

    When it stops, running requests have the server's grace to finish; then they are cancelled and
    their connections cut. The lifespan is shut down last.

    :param app: called as ``await app(scope, receive, send)`` (ASGI 3)
    :param server: which server runs it
    :param lifespan: run the lifespan, once from ``serve`` to the end and once for each restart. An
        application that has none must say so: here, nothing of it is passed over in silence.
    :param options: settings of the server, as its ``Config`` names them, such as
        ``keep_alive_timeout=1`` (seconds)
    :raises TypeError: if ``app`` cannot be called; and, by ``serve``, for an unknown option
    :raises ValueError: for an unknown server, and for an option that is the harness's to set
    """

    def __init__(
        self,
        app: Application,
        server: str = "anycorn",
        *,
        lifespan: bool = True,
        **options: Any,
    ) -> None:
        __tracebackhide__ = True
        if not callable(app):
            raise TypeError(f"ASGI() expects an ASGI application, not {app!r}, which is not called")
        why = why_not_called(app, object(), object(), object())
        if why is not None:
            makes_one = why_not_called(app) is None
            hint = f": ASGI({name_of(app)}(...))" if makes_one else ""
            raise TypeError(
                "ASGI() expects an application, which is called with scope, receive and send, and "
                f"{why}{hint}"
            )
        if server not in SERVERS:
            raise ValueError(
                f"ASGI() knows the servers {', '.join(map(repr, SERVERS))}, not {server!r}"
            )
        own = [name for name in options if name in SERVERS[server].own]
        if own:
            raise ValueError(f"ASGI() says by itself what {', '.join(own)} shall be for {server}")
        self.app: Application = app
        self.server: str = server
        self.lifespan: bool = lifespan
        self.options: Mapping[str, Any] = options
        self._running: dict[Site, HTTPServer] = {}

    @property
    def name(self) -> str:
        return name_of(self.app)

    def missing(self, site: Site) -> str | None:
        server = SERVERS[self.server]
        if find_spec(self.server) is None:
            return f"{self.server} is not installed: pip install anyio-harness[asgi]"
        if current_library() not in server.libraries:
            return (
                f"{self.server} is a server for {' and '.join(server.libraries)}, and the test "
                f"runs on {site.backend}; server='anycorn' runs on every backend"
            )
        if server.accepts and not site.transport.has_sockets:
            return (
                f"{self.server} accepts by itself, and transport {site.transport.name!r} has no "
                "sockets; server='anycorn' serves over every transport"
            )
        return None

    async def run(self, site: Site, *, task_status: TaskStatus[Any]) -> None:
        __tracebackhide__ = True
        calls = Calls(self.app, site, has_lifespan=self.lifespan)
        server = self._running[site] = SERVERS[self.server](site, calls, self.options)
        failures: list[BaseException] = []

        async def serve() -> None:
            # It ends by itself: servers do not tidy up where they are cancelled.
            with CancelScope(shield=True):
                try:
                    await server.serve()
                except Exception as exc:
                    failures.append(sole(exc))
                except SystemExit as exc:
                    failures.append(
                        RuntimeError(f"{self.server} has exited with status {exc.code}")
                    )
                finally:
                    server.ended.set()
                    server.ready.set()

        try:
            async with create_task_group() as running:
                running.start_soon(serve, name=self.server)
                try:
                    await server.ready.wait()
                    if not server.ended.is_set():
                        task_status.started()
                    await server.ended.wait()
                finally:
                    if not server.ended.is_set():
                        server.stop()
                        server.abort()
        except get_cancelled_exc_class():
            if calls.failure is None:
                raise
        finally:
            del self._running[site]
        if calls.failure is not None:
            raise calls.failure
        for failure in failures:
            raise failure

    def stop(self, site: Site) -> None:
        self._running[site].stop()


class Calls:
    """The application, as a server is given it.

    :ivar started: set when the lifespan has
    :ivar failure: what the lifespan has failed with
    """

    def __init__(self, app: Application, site: Site, *, has_lifespan: bool) -> None:
        self._app = app
        self._site = site
        self._has_lifespan = has_lifespan
        self.started: Event = Event()
        self.failure: BaseException | None = None
        #: of the lifespan: "startup", "running" while nobody has to do anything, "shutdown"
        self._stage = "startup"
        self._requests: set[CancelScope] = set()
        self._lifespan = CancelScope()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        __tracebackhide__ = True
        if scope["type"] != "lifespan":
            await self._answer(scope, receive, send)
        elif self._has_lifespan:
            await self._live(scope, receive, send)
        else:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            self.started.set()
            await receive()
            await send({"type": "lifespan.shutdown.complete"})

    def cancel(self) -> None:
        """Cancel all calls; the lifespan only if it has had its time, or has not begun."""
        for each in self._requests:
            each.cancel()
        if self._stage != "running":
            self._lifespan.cancel()

    async def _answer(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        __tracebackhide__ = True
        gone = False

        async def receive_noting_the_end() -> Message:
            nonlocal gone
            message = await receive()
            if message["type"].endswith(".disconnect"):
                gone = True
            return message

        with CancelScope() as request:
            self._requests.add(request)
            try:
                await self._app(scope, receive_noting_the_end, send)
            except (GeneratorExit, get_cancelled_exc_class()):
                raise
            except BaseException as exc:
                what = f"{scope.get('method', scope['type'])} {scope.get('path', '')}"
                self._site.failed(exc, what, client_is_gone=gone)
                if isinstance(exc, Exception):
                    raise
                # Out of a task of the server's own, it would end the event loop.
                raise RuntimeError(f"the application has raised {exc!r}") from exc
            finally:
                self._requests.discard(request)

    async def _live(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        heard = False
        said: str | None = None

        async def receive_stage() -> Message:
            nonlocal heard
            message = await receive()
            heard = True
            if message["type"] == "lifespan.shutdown":
                self._stage = "shutdown"
            return message

        async def send_stage(message: Message) -> None:
            nonlocal said
            if message["type"].endswith(".failed"):
                said = message.get("message", "")  # passed on when it is known what went wrong
                return
            if message["type"] == "lifespan.startup.complete":
                self._stage = "running"
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self.started.set()

        error: BaseException | None = None
        with self._lifespan:
            try:
                await self._app(scope, receive_stage, send_stage)
                if said is not None:
                    error = RuntimeError(f"the lifespan has failed at {self._stage}: {said}")
                elif self._stage == "startup":
                    error = RuntimeError("the lifespan has ended before it had started")
            except (GeneratorExit, get_cancelled_exc_class()):
                raise
            except BaseException as exc:
                error = exc
        if error is not None:
            if not heard or (said is None and self._stage == "startup"):
                add_note(error, "(an application without a lifespan: ASGI(app, lifespan=False))")
            self.failure = error
        elif self._stage == "running":  # it has ended early, and has nothing to do at the end
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        if self._stage != "running" and (error is not None or self._lifespan.cancel_called):
            text = said or repr(error)
            await send({"type": f"lifespan.{self._stage}.failed", "message": text})
        if error is not None:
            raise RuntimeError(f"the lifespan has failed: {error!r}")


class HTTPServer(ABC):
    """One running server.

    :cvar accepts: whether it listens by itself
    :cvar libraries: which libraries' event loops it runs on
    :cvar own: its options that are not the user's to set
    :ivar ready: set when clients are served
    :ivar asked: set when it shall end
    :ivar ended: set when it has
    """

    accepts: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("asyncio", "trio")
    own: ClassVar[frozenset[str]]

    def __init__(self, site: Site, calls: Calls, options: Mapping[str, Any]) -> None:
        self.site = site
        self.calls = calls
        self.options = options
        # One that accepts by itself does so as soon as the lifespan has started, and until then
        # clients wait in the queue of the socket.
        self.ready: Event = calls.started
        self.asked: Event = Event()
        self.ended: Event = Event()

    @abstractmethod
    async def serve(self) -> None:
        """Serve until all is done that there is after :meth:`stop`. It is not cancelled."""

    def stop(self) -> None:
        """Accept nobody any more, and finish what is begun."""
        self.asked.set()

    def abort(self) -> None:
        """After :meth:`stop`: cut short what is begun."""
        self.calls.cancel()
        if self.site.endpoint is not None:
            cut_connections(self.site.endpoint.address)


class Anycorn(HTTPServer):
    """The harness listens, accepts and does TLS; anycorn is given the stream of each connection.

    It does as anycorn's own worker, which takes sockets only (``anycorn/run.py``,
    ``worker_serve``).
    """

    accepts = False
    own: ClassVar[frozenset[str]] = OWN_OF_HYPERCORN

    def __init__(self, site: Site, calls: Calls, options: Mapping[str, Any]) -> None:
        super().__init__(site, calls, options)
        self.ready: Event = Event()
        self._accepting = False

    async def serve(self) -> None:
        from anycorn import Config
        from anycorn.lifespan import Lifespan
        from anycorn.tcp_server import tcp_server_handler
        from anycorn.utils import wrap_app
        from anycorn.worker_context import WorkerContext

        config = configured(Config(), self.options, "anycorn")
        state: dict[str, Any] = {}
        calls: Any = self.calls  # anycorn has a type for each message
        lifespan = Lifespan(wrap_app(calls, 0, "asgi"), config, state)
        context = WorkerContext(None)

        async def terminate() -> None:
            await self.asked.wait()
            await context.terminated.set()  # now it closes what is idle

        async def handle(connected: ByteStream) -> None:
            stream = StreamForAnycorn(connected, has_socket=self.site.transport.has_sockets)
            app = wrap_app(stream.tells_addresses_to(calls), 0, "asgi")
            failures: list[BaseException] = []
            async with create_task_group() as beside:
                beside.start_soon(stream.close_when_cancelled)
                try:
                    await tcp_server_handler(app, config, context, dict(state))(stream)
                except Exception as exc:
                    failures.append(sole(exc))
                beside.cancel_scope.cancel()
            for failure in failures:
                raise failure

        async with create_task_group() as beside:
            await beside.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
            beside.start_soon(terminate)
            if not self.asked.is_set() and self.calls.failure is None:
                self._accepting = True
                try:
                    await self.site.accept(handle, task_status=_Sets(self.ready))
                finally:
                    self._accepting = False
            await lifespan.wait_for_shutdown()
            beside.cancel_scope.cancel()

    def stop(self) -> None:
        super().stop()
        if self._accepting:
            self.site.stop_accepting()

    def abort(self) -> None:
        self.calls.cancel()
        if self._accepting:
            self.site.cancel()


class Hypercorn(HTTPServer):
    """hypercorn accepts at a socket of the harness."""

    own: ClassVar[frozenset[str]] = OWN_OF_HYPERCORN

    async def serve(self) -> None:
        from hypercorn.config import Config, Sockets

        context = self.site.transport.server_ssl_context

        class AtASocket(Config):
            def create_sockets(self) -> Sockets:
                return Sockets([listening], [], []) if context else Sockets([], [listening], [])

            def create_ssl_context(self) -> ssl.SSLContext | None:
                return context

            @property
            def ssl_enabled(self) -> bool:
                return context is not None

        serve: Any
        if current_library() == "trio":
            from hypercorn.trio import serve
        else:
            from hypercorn.asyncio import serve
        config = configured(AtASocket(), self.options, "hypercorn")
        with self.site.bind() as listening:
            listening.setblocking(False)
            await serve(self.calls, config, shutdown_trigger=self.asked.wait, mode="asgi")


class Uvicorn(HTTPServer):
    """uvicorn accepts at a socket of the harness."""

    libraries: ClassVar[tuple[str, ...]] = ("asyncio",)
    own: ClassVar[frozenset[str]] = frozenset(
        {
            "app",
            "backlog",
            "factory",
            "fd",
            "host",
            "interface",
            "lifespan",
            "loop",
            "port",
            "reload",
            "ssl_ca_certs",
            "ssl_cert_reqs",
            "ssl_certfile",
            "ssl_ciphers",
            "ssl_context_factory",
            "ssl_keyfile",
            "ssl_keyfile_password",
            "ssl_version",
            "timeout_graceful_shutdown",
            "uds",
            "workers",
        }
    )
    _server: uvicorn.Server | None = None

    async def serve(self) -> None:
        import uvicorn

        class WithoutSignals(uvicorn.Server):
            @contextlib.contextmanager
            def capture_signals(self) -> Iterator[None]:
                yield  # they are pytest's

        context = self.site.transport.server_ssl_context
        tls = {} if context is None else {"ssl_context_factory": lambda *_: context}
        config = uvicorn.Config(
            self.calls,
            backlog=BACKLOG,
            interface="asgi3",
            lifespan="on",
            **{"log_config": None, **tls, **self.options},
        )
        server = self._server = WithoutSignals(config)
        server.server_state.connections = Connections()
        if not self.asked.is_set():
            with self.site.bind() as listening:
                await server.serve(sockets=[listening])

    def stop(self) -> None:
        super().stop()
        if self._server is not None:
            self._server.should_exit = True


class Connections(set[Any]):
    """uvicorn's connections. Of one that is reset, it leaves the timer and the transport behind.

    ``uvicorn/protocols/http/h11_impl.py``, ``connection_lost``, sees to both ``if exc is None``.
    For seconds the timer would be something that a test has left, and CPython 3.10 warns of the
    transport.
    """

    def discard(self, connection: Any) -> None:
        super().discard(connection)
        connection.transport.close()
        if connection.timeout_keep_alive_task is not None:
            connection.timeout_keep_alive_task.cancel()


SERVERS: Mapping[str, type[HTTPServer]] = {
    "anycorn": Anycorn,
    "hypercorn": Hypercorn,
    "uvicorn": Uvicorn,
}


def configured(config: Any, options: Mapping[str, Any], server: str) -> Any:
    """A configuration of hypercorn or anycorn that leaves the logging of the process alone.

    Raises :exc:`TypeError` for an option that there is not.
    """
    config.errorlog = logging.getLogger(f"{server}.error")  # what is named gets handlers of its own
    config.graceful_timeout = NEVER
    config.backlog = BACKLOG
    for name, value in options.items():
        if not hasattr(type(config), name):
            raise TypeError(f"ASGI(): {server} has no option {name!r}")
        setattr(config, name, value)
    return config


class _Sets:
    """A ``task_status`` that sets an event."""

    def __init__(self, event: Event) -> None:
        self._event = event

    def started(self, value: None = None) -> None:
        self._event.set()


class StreamForAnycorn(ByteStream):
    """A stream with what anycorn expects of one, wherever it comes from.

    :param has_socket: whether there is one below, as anycorn asks that for its addresses
    """

    family = socket.AF_UNIX  # in the socket's place: the one whose addresses are not looked at

    def __init__(self, stream: ByteStream, *, has_socket: bool) -> None:
        self._stream = stream
        self._has_socket = has_socket
        self._closed = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self._stream.receive(max_bytes)

    async def send(self, item: bytes) -> None:
        await self._stream.send(item)

    async def send_eof(self) -> None:
        # anycorn's `_close` does so after it has closed, and knows one way in which that can fail.
        # There are several: docs/backend-differences.md.
        if self._closed:
            raise ClosedResourceError
        try:
            await self._stream.send_eof()
        except RuntimeError as exc:  # uvloop, of one that was reset: docs/upstream-bugs.md
            raise BrokenResourceError from exc

    async def aclose(self) -> None:
        self._closed = True
        await self._stream.aclose()

    async def close_when_cancelled(self) -> None:
        """Wait to be cancelled, and close it then.

        anycorn shields what it sends (``anycorn/tcp_server.py``, ``protocol_send``): a client that
        does not read would keep it for ever.
        """
        try:
            await sleep_forever()
        finally:
            if not self._closed:
                await aclose_forcefully(self)

    def tells_addresses_to(self, app: Application) -> Any:
        """``app``, which learns the addresses that anycorn cannot know."""
        if self._has_socket:
            return app

        async def call(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
            __tracebackhide__ = True
            scope["client"], scope["server"] = self.getpeername(), self.getsockname()
            await app(scope, receive, send)

        return call

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        attributes = self._stream.extra_attributes
        if self._has_socket:
            return attributes
        return {**attributes, SocketAttribute.raw_socket: lambda: self}

    def getpeername(self) -> Any:
        return self._stream.extra(SocketAttribute.remote_address, None)

    def getsockname(self) -> Any:
        return self._stream.extra(SocketAttribute.local_address, None)


def cut_connections(address: Any) -> None:
    """Shut down every socket of this process that was accepted at ``address``.

    A server that waits for an idle client's end of TLS, which asyncio does for half a minute, is
    not to be reached in another way on every event loop.
    """
    for descriptor in open_sockets():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as connection:
            own = connection.getsockname()
            if (own[:2] if isinstance(own, tuple) else own) == address:
                connection.getpeername()  # or it is one that listens
                connection.shutdown(socket.SHUT_RDWR)
