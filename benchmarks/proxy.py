"""What a proxy without toxics costs, beside a relay of a few lines and aiomisc's TCPProxy.

    python -m pip install aiomisc
    python benchmarks/proxy.py [backend ...]

Two workloads over TCP: small messages to and fro, one at a time, and one direction of chunks of 64
KiB. Client and server are plain sockets in a process of their own, so that what is measured is the
proxy. All take turns, and are compared within a turn; printed is the median of the turns, and
between which values half of them lie. The round-trip time is what is added to that without a proxy.
Throughputs are given as a share of the bare relay's, of that by the clock and that by the processor
time of the process with the proxy in it.
"""

from __future__ import annotations

import importlib
import importlib.util
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import anyio
import anyio.abc
import anyio.to_thread

from harness import open_harness
from harness.backends import BUILT_IN, DEFAULT

ROUNDS = 21
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
    if library == "asyncio":
        if importlib.util.find_spec("aiomisc") is None:
            print("aiomisc is not installed")
        else:
            found["aiomisc"] = aiomisc
    return found


@dataclass
class Taken:
    """Seconds of each turn."""

    clock: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


async def measure(name: str) -> None:
    process = subprocess.Popen(  # noqa: ASYNC220 (it starts in no time, and nothing else runs yet)
        [sys.executable, __file__, "peer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    upstream = ("127.0.0.1", int(process.stdout.readline()))

    def ask(workload: str, port: int) -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        print(workload, port, file=process.stdin, flush=True)
        return float(process.stdout.readline())

    try:
        for workload in WORKLOADS:
            taken: dict[str, Taken] = {}
            for turn in range(-1, ROUNDS):
                for each, proxy in proxies(BUILT_IN[name].library).items():
                    async with proxy(upstream) as port:
                        begin = time.process_time()
                        clock = await anyio.to_thread.run_sync(ask, workload, port)
                        processor = time.process_time() - begin
                    if turn >= 0:  # the first one warms up
                        taken.setdefault(each, Taken()).clock.append(clock)
                        taken[each].processor.append(processor)
            report = report_round_trips if workload == "round_trips" else report_chunks
            for line in report(taken):
                print(f"{name:8} {line}", flush=True)
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait()


def report_round_trips(taken: dict[str, Taken]) -> list[str]:
    without = taken.pop("nothing").clock
    added = {
        name: [
            (with_it - alone) / ROUND_TRIPS * 1e6
            for with_it, alone in zip(each.clock, without, strict=True)
        ]
        for name, each in taken.items()
    }
    return [
        f"round trip   {name:8} +{spread(values, '.0f')} µs, "
        f"x{spread(ratios(values, added['bare']))} of bare; "
        f"processor x{spread(ratios(taken[name].processor, taken['bare'].processor))}"
        for name, values in added.items()
    ]


def report_chunks(taken: dict[str, Taken]) -> list[str]:
    size = len(CHUNK) * CHUNKS / 1e6
    bare = taken["bare"]
    return [
        f"throughput   {name:8} {spread([size / clock for clock in each.clock], '.0f')} MB/s, "
        f"x{spread(ratios(bare.clock, each.clock))} of bare; "
        f"by processor time x{spread(ratios(bare.processor, each.processor))}"
        for name, each in taken.items()
        if name != "nothing"
    ]


def ratios(ones: list[float], others: list[float]) -> list[float]:
    return [one / other for one, other in zip(ones, others, strict=True)]


def spread(values: list[float], form: str = ".2f") -> str:
    """The median, and between which values half of them lie."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:{form}} ({low:{form}}-{high:{form}})"


def main() -> None:
    if sys.argv[1:] == ["peer"]:
        peer()
        return
    for name in sys.argv[1:] or DEFAULT:
        backend = BUILT_IN[name]
        anyio.run(measure, name, backend=backend.library, backend_options=dict(backend.options))


if __name__ == "__main__":
    main()
