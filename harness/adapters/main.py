"""A main function that listens by itself, and says where through its ``task_status``."""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from anyio.abc import TaskStatus

from ..diagnostics import place_of_function
from .base import Shape, Site
from .functions import callback_alone, checked_function, name_of, why_not_called


class ListensItself(Shape):
    """A function, with its arguments, that runs a server which accepts by itself."""

    def __init__(
        self,
        main: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        options: dict[str, Any],
        tls: bool | None,
    ) -> None:
        __tracebackhide__ = True
        self.main: Callable[..., Awaitable[Any]] = checked_function(main, type(self).__name__)
        self.args: tuple[Any, ...] = args
        self.options: dict[str, Any] = options
        self._tls = tls
        self._has_returned = False

    @property
    def name(self) -> str:
        return name_of(self.main)

    def missing(self, site: Site) -> str | None:
        return missing(self, site, self._tls, (*self.args, *self.options.values()))

    @property
    def end(self) -> str:
        if not self._has_returned:
            return super().end
        return f"has ended by itself: {self.name}() has returned, not run until it is cancelled"

    async def call(self, *args: Any, **options: Any) -> None:
        """Call it, and wait for its end. Raises :exc:`TypeError` if it is not async."""
        __tracebackhide__ = True
        self._has_returned = False
        running = self.main(*args, **options)
        if not inspect.isawaitable(running):
            raise TypeError(
                f"{type(self).__name__} takes an async function; {self.name}() has returned "
                f"{running!r}, and nothing to await{place_of_function(self.main)}"
            )
        await running
        self._has_returned = True


class Main(ListensItself):
    """``main(*args, task_status=..., **options)``, which listens where it likes.

    ::

        server = await harness.serve(Main(serve, app, host="127.0.0.1", port=0))

    It has to call ``task_status.started(value)`` when a client can connect. The value says where:
    a port, ``(host, port)``, the path of a unix socket, a URL, a socket, a listener of AnyIO's or
    trio's, an ``asyncio.Server``, or a list whose first element is one of these.

    It is stopped by cancellation, as AnyIO's and trio's servers are. After a restart it is where it
    says that it is then.

    A test runs over the transports that the address fits, and over TLS if a context is among the
    arguments: ``ssl_context=harness.transport.server_ssl_context``. Over the others it is skipped.

    :param main: an async function that takes ``task_status``
    :param args: and ``options``: what else it is called with
    :param endpoint: turns what it has reported into one of the above
    :param tls: whether it speaks TLS, if its arguments do not tell
    :raises TypeError: if ``main`` is not an async function, or does not take what it is called with
    """

    def __init__(
        self,
        main: Callable[..., Awaitable[Any]],
        *args: Any,
        endpoint: Callable[[Any], Any] | None = None,
        tls: bool | None = None,
        **options: Any,
    ) -> None:
        __tracebackhide__ = True
        super().__init__(main, args, options, tls)
        if endpoint is not None and not callable(endpoint):
            raise TypeError(f"Main: endpoint has to be a function, not {endpoint!r}")
        why = why_not_called(main, *args, **{**options, "task_status": None})
        if why is not None:
            hint = ""
            if why_not_called(main, *args, **options) is None:
                hint = callback_alone(main) or (
                    "; a server that cannot say when it listens is given a socket by Bound, or is "
                    "started by an async function of yours, which calls task_status.started(port)"
                )
            raise TypeError(
                f"Main calls the function with its arguments and task_status=..., and {why}{hint}"
            )
        self._endpoint = endpoint

    @property
    def instead(self) -> str:
        return callback_alone(self.main)

    async def run(self, site: Site, *, task_status: TaskStatus[Any]) -> None:
        __tracebackhide__ = True
        status = _Reported(task_status, self._endpoint) if self._endpoint else task_status
        await self.call(*self.args, task_status=status, **self.options)


class _Reported:
    """The ``task_status`` of a main function whose words have to be translated."""

    def __init__(self, task_status: TaskStatus[Any], endpoint: Callable[[Any], Any]) -> None:
        self._task_status = task_status
        self._endpoint = endpoint

    def started(self, value: Any = None) -> None:
        reached = self._endpoint(value)
        if reached is None:
            raise TypeError(
                f"Main: endpoint= has to turn {value!r}, which the server has reported, into "
                "where it is, and has returned None"
            )
        self._task_status.started(reached)


def missing(shape: Shape, site: Site, tls: bool | None, given: Iterable[Any]) -> str | None:
    """Why a server that accepts by itself cannot be reached over the site's transport."""
    transport = site.transport
    if not transport.has_sockets:
        return (
            f"{shape.name} listens by itself, and transport {transport.name!r} has no socket for it"
        )
    context = transport.server_ssl_context
    if tls is None:
        tls = any(isinstance(each, ssl.SSLContext) for each in given)
    if context is not None and not tls:
        return (
            f"{shape.name} speaks no TLS; give it harness.transport.server_ssl_context, whatever "
            "it calls that, or say tls=True"
        )
    if tls and context is None:
        return f"{shape.name} speaks TLS, and transport {transport.name!r} does not"
    return None
