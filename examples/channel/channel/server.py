"""The server: one task reads a connection's requests, and each request is answered in its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from anyio import Semaphore, create_task_group
from anyio.abc import ByteStream

from .messages import MAX_SIZE, PEER_GONE, MessageStream, MessageTooLargeError, ProtocolError

#: Is given a request's payload and returns the result.
RequestHandler = Callable[[Any], Awaitable[Any]]


class RequestError(Exception):
    """Raised by a request handler: its text is the reply."""


class ChannelServer:
    """Answers requests with what ``handler`` returns.

    A handler that raises :exc:`RequestError` is answered with an error. Any other exception is a
    bug of the handler: it ends the connection and reaches whoever runs the server.

    :param max_in_flight: requests of one connection that are answered at once; beyond that the
        server stops reading, so the client's own ``send`` blocks
    """

    def __init__(
        self, handler: RequestHandler, *, max_size: int = MAX_SIZE, max_in_flight: int = 64
    ) -> None:
        self._handler = handler
        self._max_size = max_size
        self._max_in_flight = max_in_flight

    async def handle(self, stream: ByteStream) -> None:
        """Serve one connection until the client goes, or breaks the protocol."""
        messages = MessageStream(stream, max_size=self._max_size)
        slots = Semaphore(self._max_in_flight)
        async with stream, create_task_group() as requests:
            try:
                while True:
                    await slots.acquire()
                    message = await messages.receive()
                    if "id" not in message or "payload" not in message:
                        raise ProtocolError("not a request: it lacks an id or a payload")
                    requests.start_soon(self._answer, messages, message, slots)
            except ProtocolError as exc:
                with suppress(*PEER_GONE):
                    await messages.send({"id": None, "error": str(exc)})
            except PEER_GONE:
                pass
            # There is nobody left to answer.
            requests.cancel_scope.cancel()

    async def _answer(
        self, messages: MessageStream, request: dict[str, Any], slots: Semaphore
    ) -> None:
        reply: dict[str, Any] = {"id": request["id"]}
        try:
            reply["result"] = await self._handler(request["payload"])
        except RequestError as exc:
            reply["error"] = str(exc)
        with suppress(*PEER_GONE):  # the reader meets the same end, and deals with it
            try:
                await messages.send(reply)
            except MessageTooLargeError as exc:
                await messages.send({"id": request["id"], "error": f"the result has {exc}"})
        slots.release()
