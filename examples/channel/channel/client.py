"""The client: any number of tasks make requests, one background task hands out the replies."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import TASK_STATUS_IGNORED, Event, create_task_group
from anyio.abc import ByteStream, ByteStreamConnectable, TaskStatus

from .messages import MAX_SIZE, PEER_GONE, MessageStream, ProtocolError


class RemoteError(Exception):
    """The server answered with an error."""


class ConnectionLostError(Exception):
    """The connection ended before the reply came."""


class _Pending:
    """A request that waits for its reply; without one when the connection has ended."""

    def __init__(self) -> None:
        self.done = Event()
        self.reply: dict[str, Any] | None = None


class Channel:
    """Makes requests over a connected stream while :meth:`run` runs in another task."""

    def __init__(self, stream: ByteStream, *, max_size: int = MAX_SIZE) -> None:
        self._messages = MessageStream(stream, max_size=max_size)
        self._ids = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._lost: str | None = None

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        """Hand out replies until the connection ends."""
        reason = "the channel was closed"
        try:
            task_status.started()
            while True:
                reply = await self._messages.receive()
                number = reply.get("id")
                if number is None:
                    reason = f"the server said: {reply.get('error')}"
                    return
                if not isinstance(number, int):
                    raise ProtocolError(f"not a reply: its id is {number!r}")
                # A request that was cancelled in the meantime has left no entry.
                pending = self._pending.pop(number, None)
                if pending is not None:
                    pending.reply = reply
                    pending.done.set()
        except PEER_GONE as exc:
            reason = f"the server hung up ({type(exc).__name__})"
        except ProtocolError as exc:
            reason = f"the server broke the protocol: {exc}"
        finally:
            # Also when this task is cancelled: nobody would hand out a reply any more.
            self._lost = reason
            for pending in self._pending.values():
                pending.done.set()

    async def request(self, payload: Any) -> Any:
        """Send ``payload`` and wait for the result. Cancelling it leaves the channel usable.

        Raises :exc:`RemoteError`, :exc:`ConnectionLostError` or
        :exc:`~channel.MessageTooLargeError`.
        """
        if self._lost is not None:
            raise ConnectionLostError(self._lost)
        number = next(self._ids)
        pending = self._pending[number] = _Pending()
        try:
            try:
                await self._messages.send({"id": number, "payload": payload})
            except PEER_GONE as exc:
                raise ConnectionLostError(f"could not send ({type(exc).__name__})") from exc
            await pending.done.wait()
        finally:
            self._pending.pop(number, None)
        if pending.reply is None:
            raise ConnectionLostError(self._lost)
        if "error" in pending.reply:
            raise RemoteError(pending.reply["error"])
        return pending.reply.get("result")


@asynccontextmanager
async def open_channel(server: ByteStreamConnectable) -> AsyncIterator[Channel]:
    """Connect to ``server``; the connection lasts as long as the block."""
    async with await server.connect() as stream, create_task_group() as tasks:
        channel = Channel(stream)
        await tasks.start(channel.run)
        yield channel
        tasks.cancel_scope.cancel()
