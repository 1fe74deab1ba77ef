"""A small HTTP/1.1 server on a byte stream of AnyIO, for clients to talk to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import h11
from anyio import EndOfStream
from anyio.abc import ByteStream

Answer = Callable[[h11.Request, bytes], Awaitable[bytes]]


def http(answer: Answer):
    """A handler that answers each request of a connection with what ``answer`` returns."""

    async def handler(stream: ByteStream) -> None:
        connection = h11.Connection(h11.SERVER)
        async with stream:
            while True:
                request = await next_event(connection, stream)
                if isinstance(request, h11.ConnectionClosed):
                    return
                body = b""
                while isinstance(event := await next_event(connection, stream), h11.Data):
                    body += event.data
                found = await answer(request, body)
                headers = [("content-length", str(len(found)))]
                sent = connection.send(h11.Response(status_code=200, headers=headers))
                sent += connection.send(h11.Data(data=found))
                await stream.send(sent + connection.send(h11.EndOfMessage()))
                if connection.our_state is h11.MUST_CLOSE:
                    return
                connection.start_next_cycle()

    return handler


async def next_event(connection: h11.Connection, stream: ByteStream):
    while (event := connection.next_event()) is h11.NEED_DATA:
        try:
            connection.receive_data(await stream.receive())
        except EndOfStream:
            connection.receive_data(b"")
    return event
