"""A server that is given a socket which listens already."""

from __future__ import annotations

import inspect
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from anyio.abc import TaskStatus

from .base import Site
from .functions import why_not_called
from .main import ListensItself

#: What a socket is given as.
FORMS = ("socket", "sockets", "fd", "url")


class Bound(ListensItself):
    """``main(<a listening socket>, *args, **options)``: it can be connected to before it runs.

    So there is nothing to wait for, no port is guessed, and a restart is at the same address::

        server = await harness.serve(Bound(uvicorn_server.serve, give="sockets", to="sockets"))
        server = await harness.serve(Bound(main, give="fd"))

    It is stopped by cancellation; with ``stop``, that is called first, and it has its grace.

    A test runs over each transport with sockets; over TLS if the server's context is among the
    arguments: ``ssl_context=harness.transport.server_ssl_context``. It is skipped over the others.

    :param main: an async function
    :param args: and ``options``: what else it is called with
    :param give: ``"socket"``, a ``socket.socket``; ``"sockets"``, a list of one; ``"fd"``, the
        number of a file descriptor; ``"url"``, ``"fd://N"``. It may be closed by ``main``; what is
        still open when that has ended is closed then.
    :param to: the keyword that it is given as; by default it is the first argument
    :param tls: whether it speaks TLS, if its arguments do not tell
    :param stop: asks it to end, and does not wait for that: ``stop=event.set``
    :raises TypeError: if ``main`` is not an async function, or does not take what it is called with
    :raises ValueError: for an unknown form
    """

    def __init__(
        self,
        main: Callable[..., Awaitable[Any]],
        *args: Any,
        give: str = "socket",
        to: str | None = None,
        tls: bool | None = None,
        stop: Callable[[], object] | None = None,
        **options: Any,
    ) -> None:
        __tracebackhide__ = True
        if give not in FORMS:
            raise ValueError(f"give has to be one of {', '.join(FORMS)}, not {give!r}")
        super().__init__(main, args, options, tls)
        if stop is not None and (not callable(stop) or inspect.iscoroutinefunction(stop)):
            raise TypeError(f"Bound: stop has to be a function that is not async, not {stop!r}")
        self._give = give
        self._to = to
        self._stop = stop
        args, options = self._call_with(None)
        why = why_not_called(main, *args, **options)
        if why is not None:
            as_what = "as the first argument" if to is None else f"as {to}="
            raise TypeError(f"Bound gives the function its {give} {as_what}, and {why}")

    def _call_with(self, given: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of ``main``."""
        if self._to is None:
            return (given, *self.args), self.options
        return self.args, {**self.options, self._to: given}

    async def run(self, site: Site, *, task_status: TaskStatus[Any]) -> None:
        __tracebackhide__ = True
        with site.bind() as bound:
            # Whoever is given a number makes a socket of it and closes that, or does not.
            descriptor = os.dup(bound.fileno()) if self._give in ("fd", "url") else -1
            try:
                given = self._form(bound, descriptor)
                task_status.started()
                args, options = self._call_with(given)
                await self.call(*args, **options)
            finally:
                if is_same_file(descriptor, bound.fileno()):
                    os.close(descriptor)

    def stop(self, site: Site) -> None:
        if self._stop is None:
            super().stop(site)
        else:
            self._stop()

    def _form(self, bound: socket.socket, descriptor: int) -> Any:
        if self._give == "socket":
            return bound
        if self._give == "sockets":
            return [bound]
        return descriptor if self._give == "fd" else f"fd://{descriptor}"


def is_same_file(descriptor: int, other: int) -> bool:
    """Whether a number still stands for what another does: a closed one is given away again."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.fstat(other))
    except OSError:
        return False
