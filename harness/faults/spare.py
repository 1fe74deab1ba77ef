"""A descriptor to spare: who connects when the process has none left is refused with it.

A connection that cannot be accepted stays where it is, and its client waits. With one descriptor
more it can be accepted and reset at once, so that the client is told, and the listener goes on.
(libuv's streams do so, too: ``uv__emfile_trick``.)
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from anyio.abc import Listener

from ..network import MemoryListener

#: What ``accept`` raises that is no fault of the listener (accept(2)): there is nothing left to
#: make a connection of, or the client has gone before it was accepted.
PASSING = {
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.ECONNABORTED,
    errno.EPROTO,
}


class Spare:
    """A descriptor that is open for as long as nobody needs it. A listener in memory needs none."""

    def __init__(self, listener: Listener[object]) -> None:
        self._needed = not isinstance(listener, MemoryListener)
        self._held: socket.socket | None = None

    def __enter__(self) -> Spare:
        self._take()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._let_go()

    @contextmanager
    def given_up(self) -> Iterator[None]:
        self._let_go()
        try:
            yield
        finally:
            self._take()

    def _take(self) -> None:
        if self._needed:
            with suppress(OSError):  # there is none: it is tried again the next time
                self._held = socket.socket()

    def _let_go(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None


def is_no_fault_of_a_listener(error: Exception) -> bool:
    """Whether what ``accept`` raises is over with the connection that it was about."""
    cause = _systems(error)
    return isinstance(cause, OSError) and cause.errno in PASSING


def reason_of(error: BaseException) -> str:
    """Why a connection failed, as the system has it."""
    cause = _systems(error)
    return str(cause) or repr(cause)


def _systems(error: BaseException) -> BaseException:
    """What the system has raised, if that is what ``error`` is about."""
    while isinstance(error.__cause__, OSError):
        error = error.__cause__
    return error
