"""A mend for sockets whose wait is cancelled as they become ready, apart so that it can go.

``anyio/_backends/_asyncio.py``, ``_RawSocketMixin._wait_until_readable`` (and ``_writable``, and
``UNIXSocketListener.accept``) registers ``f.set_result`` itself as the loop's reader callback. When
the waiting task is cancelled in the very iteration in which the descriptor became readable, the
callback finds a cancelled future and raises ``InvalidStateError`` into the loop's exception
handler, and AnyIO's test runner then fails whatever test is running. Closing a peer and cancelling
its reader in one step, which is what every teardown does, hits it each time. AnyIO's own
``wait_readable`` has the needed ``except InvalidStateError``.

``TCPSocketListener.accept`` waits in asyncio's ``loop.sock_accept``, which has the same flaw
(CPython, ``asyncio/selector_events.py``, ``_sock_accept``: ``fut.set_result`` without a look at the
future) and loses the accepted socket as well. A background client that connects while its test ends
hits it. Both listeners therefore wait with ``wait_readable`` first.

``_RawSocketMixin.aclose`` closes the socket before the loop is told to forget it. With a task
blocked in ``receive`` and another in ``send``, asyncio is then asked to look on for one of them at
a descriptor that is no more, and the ``OSError`` goes the same way; uvloop keeps the socket open
until it has forgotten both, and the ``receive`` waits again. Here the loop forgets them first.

``docs/upstream-bugs.md`` has a reproducer; ``tests/transports/test_cancelled_futures.py`` fails
when the mend is no longer needed.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any, TypeVar

from anyio import notify_closing, wait_readable

T = TypeVar("T")


def tolerate_cancelled_futures(stream_or_listener: T) -> T:
    """Return the argument, mended if it is AnyIO's unix stream or socket listener on asyncio."""
    subject: Any = stream_or_listener
    if hasattr(subject, "_wait_until_readable"):
        # Instance attributes hide the methods; each is called as f(loop).
        subject._wait_until_readable = functools.partial(
            _wait, subject, "_receive_future", "reader"
        )
        subject._wait_until_writable = functools.partial(_wait, subject, "_send_future", "writer")
        close = subject.aclose

        async def mended_close() -> None:
            _forget(subject)
            await close()

        subject.aclose = mended_close
    elif hasattr(subject, "_accept_future") or hasattr(subject, "_accept_scope"):
        accept, aclose, raw_socket = subject.accept, subject.aclose, subject._raw_socket

        async def mended_accept() -> Any:
            try:
                await wait_readable(raw_socket)
            except ValueError:
                if raw_socket.fileno() >= 0:
                    raise
                # The listener was closed before the wait began; accept() says so.
            return tolerate_cancelled_futures(await accept())

        async def mended_aclose() -> None:
            if raw_socket.fileno() >= 0:
                notify_closing(raw_socket)
            await aclose()

        subject.accept, subject.aclose = mended_accept, mended_aclose
    return stream_or_listener


def _wait(
    stream: Any, attribute: str, side: str, loop: asyncio.AbstractEventLoop
) -> asyncio.Future[None]:
    raw_socket = stream._raw_socket
    add: Callable[..., object] = getattr(loop, f"add_{side}")
    remove: Callable[..., object] = getattr(loop, f"remove_{side}")
    future: asyncio.Future[None] = loop.create_future()

    def ready() -> None:
        if not future.done():
            future.set_result(None)

    def done(_: object) -> None:
        delattr(stream, attribute)
        if raw_socket.fileno() >= 0:
            remove(raw_socket)

    setattr(stream, attribute, future)
    add(raw_socket, ready)
    future.add_done_callback(done)
    return future


def _forget(stream: Any) -> None:
    """Let the loop look at the socket for nobody any more."""
    raw_socket = stream._raw_socket
    if raw_socket.fileno() >= 0:
        loop = asyncio.get_running_loop()
        for attribute, remove in (
            ("_receive_future", loop.remove_reader),
            ("_send_future", loop.remove_writer),
        ):
            if getattr(stream, attribute, None) is not None:
                remove(raw_socket)
