"""What a proxy without toxics costs, beside a relay of a few lines and aiomisc's TCPProxy.

Two workloads over TCP: small messages to and fro, one at a time, and one direction of chunks of 64
KiB. Client and server are plain sockets in a process of their own, so that what is measured is the
proxy. The time of a round trip is what is added to that without a proxy.
"""

from __future__ import annotations

import importlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import anyio.abc
import anyio.to_thread

from harness import open_harness
from harness.backends import BUILT_IN

from .comparing import Comparison, Figures, Goal, Plan
from .peers import has

MESSAGE = b"m" * 64
ROUND_TRIPS = 400
CHUNK = b"c" * 65536
CHUNKS = 1024

Address = tuple[str, int]


# The other process: a client, and the server behind the proxy


def peer() -> None:
    """Obey lines on stdin: ``round_trips PORT`` and ``chunks PORT``; print the seconds."""
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    for line in sys.stdin:
        workload, port = line.split()
        serve, run = WORKLOADS[workload]
        with socket.create_connection(("127.0.0.1", int(port))) as client:
            accepted, _ = listening.accept()
            for each in (client, accepted):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with accepted:
                thread = threading.Thread(target=serve, args=(accepted,))
                thread.start()
                exchange(client)  # everything is warm, and connected
                begin = time.perf_counter()
                run(client)
                print(time.perf_counter() - begin, flush=True)
                client.shutdown(socket.SHUT_WR)
                thread.join()


def exchange(client: socket.socket) -> None:
    client.sendall(MESSAGE)
    received = 0
    while received < len(MESSAGE):
        received += len(client.recv(len(MESSAGE)))


def echo(server: socket.socket) -> None:
    while data := server.recv(len(MESSAGE)):
        server.sendall(data)


def round_trips(client: socket.socket) -> None:
    for _ in range(ROUND_TRIPS):
        exchange(client)


def swallow(server: socket.socket) -> None:
    received = 0
    buffer = bytearray(4 * len(CHUNK))
    while count := server.recv_into(buffer):
        received += count
        if received in (len(MESSAGE), len(MESSAGE) + CHUNKS * len(CHUNK)):
            server.sendall(MESSAGE)


def chunks(client: socket.socket) -> None:
    for _ in range(CHUNKS):
        client.sendall(CHUNK)
    received = 0
    while received < len(MESSAGE):
        received += len(client.recv(len(MESSAGE)))


WORKLOADS = {"round_trips": (echo, round_trips), "chunks": (swallow, chunks)}


# This process: the proxies


@asynccontextmanager
async def nothing(upstream: Address) -> AsyncIterator[int]:
    yield upstream[1]


@asynccontextmanager
async def bare(upstream: Address) -> AsyncIterator[int]:
    """What one writes by hand."""

    async def pump(source: anyio.abc.ByteStream, sink: anyio.abc.ByteStream) -> None:
        async for data in source:
            await sink.send(data)
        await sink.send_eof()

    async def relay(client: anyio.abc.ByteStream) -> None:
        async with (
            client,
            await anyio.connect_tcp(*upstream) as server,
            anyio.create_task_group() as pumps,
        ):
            pumps.start_soon(pump, client, server)
            pumps.start_soon(pump, server, client)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, relay)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)
        group.cancel_scope.cancel()


@asynccontextmanager
async def ours(upstream: Address) -> AsyncIterator[int]:
    async with open_harness() as harness:
        yield (await harness.proxy(upstream)).port


@asynccontextmanager
async def aiomisc(upstream: Address) -> AsyncIterator[int]:
    async with importlib.import_module("aiomisc.pytest").TCPProxy(*upstream) as proxy:
        yield proxy.proxy_port


Proxy = Callable[[Address], AbstractAsyncContextManager[int]]


def proxies(library: str) -> dict[str, Proxy]:
    found: dict[str, Proxy] = {"nothing": nothing, "bare": bare, "harness": ours}
    if library == "asyncio" and has("aiomisc"):
        found["aiomisc"] = aiomisc
    return found


async def measure(backend: str, workload: str, rounds: int) -> Figures:
    """Seconds of each turn, with each of the proxies."""
    process = subprocess.Popen(  # noqa: ASYNC220 (it starts in no time, and nothing else runs yet)
        [sys.executable, "-m", __name__, "peer"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    upstream = ("127.0.0.1", int(process.stdout.readline()))

    def ask(port: int) -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        print(workload, port, file=process.stdin, flush=True)
        return float(process.stdout.readline())

    taken: Figures = {}
    try:
        for turn in range(-1, rounds):
            for name, proxy in proxies(BUILT_IN[backend].library).items():
                async with proxy(upstream) as port:
                    seconds = await anyio.to_thread.run_sync(ask, port)
                if turn >= 0:  # the first one warms up
                    taken.setdefault(name, []).append(seconds)
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait()
    return taken


def run(plan: Plan) -> Iterator[Comparison]:
    for backend in plan.backends:
        for workload in WORKLOADS:
            chosen = BUILT_IN[backend]
            taken = anyio.run(
                measure,
                backend,
                workload,
                plan.rounds(21),
                backend=chosen.library,
                backend_options=dict(chosen.options),
            )
            without = taken.pop("nothing")
            if workload == "round_trips":
                added = {
                    name: [
                        (with_it - alone) / ROUND_TRIPS * 1e6
                        for with_it, alone in zip(each, without, strict=True)
                    ]
                    for name, each in taken.items()
                }
                what, unit, figures = "added to a round trip by a proxy", "us", added
                goals = [Goal("bare", most=1.1), Goal("aiomisc", most=1.0)]
            else:
                size = len(CHUNK) * CHUNKS / 1e6
                through = {name: [size / each for each in taken[name]] for name in taken}
                what, unit, figures = "through a proxy", "MB/s", through
                goals = [Goal("bare", least=0.9), Goal("aiomisc", least=1.0)]
            yield Comparison(f"{what}, {backend}", unit, figures, goals=goals)


if __name__ == "__main__" and sys.argv[1:] == ["peer"]:
    peer()
