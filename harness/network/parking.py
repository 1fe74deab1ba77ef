"""Waiting to be woken by a socket of the simulated network."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from anyio import Event
from anyio.lowlevel import checkpoint

from ..backends import current_library


class Readable(Protocol):
    """A socket of the kernel's, of a stream or of datagrams."""

    on_readable: Callable[[], object] | None

    @property
    def readable(self) -> bool: ...


def parked() -> tuple[Callable[[], object], Awaitable[object]]:
    """What wakes this task, any number of times, and what it shall await at once.

    An ``Event`` of AnyIO's, in short. On asyncio that is a future below an event of asyncio's below
    one of AnyIO's, and a fifth of what a small round trip takes; so there it is the future.
    """
    if current_library() == "trio":
        event = Event()
        return event.set, event.wait()
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    return partial(_wake, future), future


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def until_readable(socket: Readable) -> None:
    """Wait until there is something to receive: bytes, a datagram, the end or an error.

    If there is already, this is a checkpoint.
    """
    if socket.readable:
        await checkpoint()
    while not socket.readable:
        socket.on_readable, woken = parked()
        try:
            await woken
        finally:
            socket.on_readable = None
