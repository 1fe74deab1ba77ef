"""The contract of a server shape: what ``Harness.serve`` takes beside a handler.

A shape is one class in one module: one way of being a server. It says how it starts at a *site*,
when it is ready and where, and how it is asked to end. All else - the name, the connections, what a
crash means, ``stop`` and ``restart``, what a proxy needs - is :class:`harness.Server`'s, the same
for every shape.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar

from anyio import CancelScope, aclose_forcefully, create_task_group
from anyio.abc import ByteStream, TaskGroup, TaskStatus
from anyio.lowlevel import checkpoint_if_cancelled

from ..transports.base import Endpoint, Transport
from .addresses import address_of

if TYPE_CHECKING:
    from ..server import Server

Handler = Callable[[ByteStream], Awaitable[object]]


class Shape(ABC):
    """One way of being a server; a subclass says which.

    An object of it serves one server at a time.
    """

    #: whether it is handlers of the user's and nothing else, so that the end has only them to wait
    #: for, and a task group around an exception is their own
    is_all_handlers: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """What messages call the server when ``serve`` was given no name."""
        return type(self).__name__

    def missing(self, site: Site) -> str | None:
        """Why it cannot serve at ``site``, or ``None`` if it can.

        With a reason, the test is skipped; if the transport was asked for in ``serve``, that is a
        :exc:`ValueError`.
        """
        return None

    @abstractmethod
    async def run(self, site: Site, *, task_status: TaskStatus[Any]) -> None:
        """Serve at ``site`` until cancelled, or until :meth:`stop` was called and all is done.

        ``task_status.started()`` says that a client can connect now. It takes the address, if
        ``site`` does not know it: a port, ``(host, port)``, the path of a unix socket, a URL, a
        socket, a listener, or a :class:`harness.Endpoint`. Called again for a restart. What it
        raises is a crash of the server; before it has started, ``serve`` raises it.
        """

    def stop(self, site: Site) -> None:
        """Ask :meth:`run` to end: to accept nobody any more, and finish what is begun.

        What has not ended after the server's grace is cancelled. By default it has no grace, and is
        cancelled at once; with :meth:`Site.accept`, handlers have theirs. It cannot wait.
        """
        site.stop_accepting()

    @property
    def doing(self) -> str:
        """What it does while it serves, in words, for a report; where it is reached comes after."""
        return "waits for connections"

    def release(self) -> None:  # noqa: B027 (most have nothing)
        """Give back what would outlive the process that runs this code.

        Called last, more than once, and even if the event loop was interrupted: it cannot await.
        """

    @property
    def end(self) -> str:
        """How it has come to the end of :meth:`run`, in words, if nobody has stopped the server."""
        return "has ended by itself"

    @property
    def instead(self) -> str:
        """What to serve in its place if it is never ready, in words that go on a sentence."""
        return ""

    def __repr__(self) -> str:
        try:
            return f"<{type(self).__name__} {self.name!r}>"
        except AttributeError:  # its constructor has raised, and a traceback shows it
            return f"<{type(self).__name__}>"


class Site:
    """Where a shape serves: one server of a harness, over one transport.

    :ivar transport: what the server shall be reached over
    :ivar backend: the name of the backend that runs
    """

    def __init__(self, server: Server, transport: Transport, backend: str) -> None:
        self.transport: Transport = transport
        self.backend: str = backend
        self._server = server
        #: where the server is reached, once it has started
        self.endpoint: Endpoint | None = None
        #: whether the harness accepts for it, and knows each connection
        self.accepts: bool = False
        self._scope = CancelScope()
        self._accepting: CancelScope | None = None
        self._handlers: TaskGroup | None = None

    @property
    def name(self) -> str:
        """The server's name."""
        return self._server.name

    @property
    def cancel_timeout(self) -> float:
        """Seconds that what was asked to end may take."""
        return self._server._cancel_timeout

    @property
    def address(self) -> Any:
        """Where the server was reached before, for a restart; ``None`` at the first start."""
        return None if self.endpoint is None else self.endpoint.address

    async def accept(self, handler: Handler, *, task_status: TaskStatus[None]) -> None:
        """Listen, and let the harness accept: each connection is ``handler``'s, in its own task.

        Returns after the server was stopped and the last handler has ended. Raises :exc:`OSError`
        if it cannot listen.
        """
        self.accepts = True
        endpoint = self.endpoint
        if endpoint is None:
            endpoint = self.endpoint = await self.transport.listen()
        else:
            await endpoint.listen_again()
        try:
            async with create_task_group() as self._handlers:
                try:
                    with CancelScope() as self._accepting:
                        task_status.started()
                        task = self._server._task_function(handler)
                        await endpoint.listener.serve(task, self._handlers)
                finally:
                    self._server._no_longer_accepts()
                    await aclose_forcefully(endpoint.listener)
            await checkpoint_if_cancelled()  # trio's nursery takes what comes while it waits
        finally:
            self._accepting = self._handlers = None

    def bind(self) -> socket.socket:
        """A listening socket of the transport, for a server that accepts by itself.

        At the same address each time. Clients may connect from now on. It is the caller's to close.
        Raises :exc:`OSError` if it cannot be bound, and :exc:`NotImplementedError` if the transport
        has no sockets, as ``transport.has_sockets`` says.
        """
        if self.endpoint is None:
            self.endpoint = self.transport.reserve()
        return self.endpoint.bind()

    def failed(self, error: BaseException, what: str, *, client_is_gone: bool = False) -> None:
        """Say that part of the server has failed, where nothing else would hear of it.

        It is a crash, unless ``serve`` expects it, and one of ``server.errors``.

        :param what: which part, in words
        :param client_is_gone: it may be only what that looks like. Once the test has ended, when
            the harness takes clients from servers, that is no crash.
        """
        self._server._failed(error, f"{what} of server {self.name!r}", of_the_end=client_is_gone)

    def stop_accepting(self) -> None:
        """End :meth:`accept`, handlers apart; without one, cancel all of ``run``."""
        (self._accepting or self._scope).cancel()

    def cancel(self) -> None:
        """Cancel what is left: handlers, or all of ``run``."""
        (self._handlers.cancel_scope if self._handlers is not None else self._scope).cancel()

    @property
    def is_cancelled(self) -> bool:
        """Whether ``run`` was."""
        return self._scope.cancel_called

    def begin(self) -> CancelScope:
        """The scope of the next run."""
        self._scope = CancelScope()
        return self._scope

    def reached_at(self, address: Any) -> Endpoint:
        """Where it is, after what ``run`` has said about it.

        Raises :exc:`ValueError` for an address that is not of the transport's kind, and
        :exc:`TypeError` if there is none.
        """
        if address is not None:
            address = address_of(address)
        if isinstance(address, Endpoint):
            self.endpoint = address
        elif address is not None:
            try:
                self.endpoint = self.transport.at(address)
            except (ValueError, NotImplementedError) as exc:
                raise ValueError(
                    f"server {self.name!r} is not to be reached over transport "
                    f"{self.transport.name!r}: {exc}"
                ) from None
        elif self.endpoint is None:
            raise TypeError(
                f"server {self.name!r} has called task_status.started() without saying where it is"
            )
        return self.endpoint

    def release(self) -> None:
        if self.endpoint is not None:
            self.endpoint.release()

    async def aclose(self) -> None:
        if self.endpoint is not None:
            await self.endpoint.aclose()


class Handled(Shape):
    """A handler: the harness accepts, and the handler is given the stream of each connection."""

    is_all_handlers: ClassVar[bool] = True

    def __init__(self, handler: Handler, name: str) -> None:
        self.handler: Handler = handler
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    async def run(self, site: Site, *, task_status: TaskStatus[Any]) -> None:
        await site.accept(self.handler, task_status=task_status)
