"""Servers that listen by themselves, as people write them."""

from __future__ import annotations

import asyncio
import socket

import anyio
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSListener


async def echo(stream):
    async with stream:
        async for data in stream:
            await stream.send(data)


async def reports_its_port(*, task_status):
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener:
        task_status.started(listener.extra(SocketAttribute.local_port))
        await listener.serve(echo)


async def reports_an_address(host="127.0.0.1", *, task_status):
    async with await anyio.create_tcp_listener(local_host=host) as listener:
        task_status.started(listener.extra(SocketAttribute.local_address))
        await listener.serve(echo)


async def reports_its_listener(*, task_status):
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        task_status.started(listener)
        await listener.serve(echo)


async def reports_a_url(*, task_status):
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        task_status.started([f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"])
        await listener.serve(echo)


async def at_a_path(path, *, task_status):
    async with await anyio.create_unix_listener(path) as listener:
        task_status.started(path)
        await listener.serve(echo)


async def with_tls(ssl_context, *, task_status):
    tcp = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with TLSListener(tcp, ssl_context, standard_compatible=False) as listener:
        task_status.started(listener)
        await listener.serve(echo)


async def of_trio(*, task_status):
    import trio

    async def echo(stream):
        async for data in stream:
            await stream.send_all(data)

    await trio.serve_tcp(echo, 0, host="127.0.0.1", task_status=task_status)


class OfAsyncio:
    """The class that cannot be stopped by its ``close()``: each client is served in a loop."""

    async def handle(self, reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    async def main(self, *, task_status):
        server = await asyncio.start_server(self.handle, "127.0.0.1", 0)
        task_status.started(server)
        async with server:
            await server.serve_forever()


async def on_a_socket(bound):
    bound.setblocking(False)
    async with await anyio.abc.SocketListener.from_socket(bound) as listener:
        await listener.serve(echo)


async def on_sockets(*, sockets):
    (bound,) = sockets
    await on_a_socket(bound)


async def on_a_descriptor(fd):
    bound = socket.socket(fileno=fd)
    try:
        bound.setblocking(False)
        async with await anyio.abc.SocketListener.from_socket(bound) as listener:
            await listener.serve(echo)
    finally:
        bound.detach()


async def with_tls_on_a_socket(bound, ssl_context):
    bound.setblocking(False)
    listener = await anyio.abc.SocketListener.from_socket(bound)
    async with TLSListener(listener, ssl_context, standard_compatible=False) as tls:
        await tls.serve(echo)
