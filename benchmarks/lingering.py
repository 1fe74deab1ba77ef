"""The end of a server with connections that linger: cancelled and closed, by how many."""

from __future__ import annotations

import functools
import resource
import time
from collections.abc import Iterator

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.lowlevel import checkpoint
from anyio.streams.stapled import StapledObjectStream

from harness import open_harness

from .comparing import Comparison, Goal, Plan, Take, in_turns
from .on_backends import taking


async def linger(stream: ByteStream) -> None:
    async with stream:
        async for _ in stream:
            pass


async def with_harness(transport: str, connections: int) -> float:
    """Microseconds a connection, from the end of the test on, with all of its teardown."""
    async with open_harness(transport=transport) as harness:
        server = await harness.serve(linger)
        for _ in range(connections):
            await server.connect()
        await harness.settle()
        begin = time.perf_counter()
    return (time.perf_counter() - begin) / connections * 1e6


class ClosesInTurn(StapledObjectStream[bytes]):
    """A stream of AnyIO's whose end is a checkpoint, as that of a socket is."""

    async def aclose(self) -> None:
        await super().aclose()
        await checkpoint()


async def bare_tasks(
    connections: int, side: type[StapledObjectStream[bytes]] = StapledObjectStream
) -> float:
    """Handlers in a task group, each on streams of AnyIO's in memory, are cancelled.

    In both directions, as a connection is; the clients' sides are closed afterwards.

    :param side: what handlers are given, and close
    """

    async def handle(stream: StapledObjectStream[bytes]) -> None:
        async with stream:
            async for _ in stream:
                pass

    clients = []
    async with anyio.create_task_group() as group:
        for _ in range(connections):
            send_there, receive_there = anyio.create_memory_object_stream[bytes](1)
            send_back, receive_back = anyio.create_memory_object_stream[bytes](1)
            group.start_soon(handle, side(send_back, receive_there))
            clients.append(StapledObjectStream(send_there, receive_back))
        await anyio.wait_all_tasks_blocked()
        begin = time.perf_counter()
        group.cancel_scope.cancel()
    for each in clients:
        await each.aclose()
    return (time.perf_counter() - begin) / connections * 1e6


async def bare_tcp(connections: int) -> float:
    """AnyIO's listener in a task group, which is cancelled."""
    clients = []
    async with await anyio.create_tcp_listener(local_host="127.0.0.1", backlog=1000) as listener:
        port = listener.extra(SocketAttribute.local_port)
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, linger)
            for _ in range(connections):
                clients.append(await anyio.connect_tcp("127.0.0.1", port))
            await anyio.wait_all_tasks_blocked()
            begin = time.perf_counter()
            group.cancel_scope.cancel()
        for each in clients:
            await each.aclose()
    return (time.perf_counter() - begin) / connections * 1e6


def run(plan: Plan) -> Iterator[Comparison]:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    for backend in plan.backends:
        for transport, bare, most in (
            ("memory", bare_tasks, 10_000),
            ("tcp", bare_tcp, min(10_000, (descriptors - 100) // 2)),
        ):
            many = plan.some(most, 20)
            contestants: dict[str, Take] = {
                "harness": taking(backend, functools.partial(with_harness, transport, many)),
                "bare task group": taking(backend, functools.partial(bare, many)),
            }
            if transport == "memory":
                contestants["bare, closing is a checkpoint"] = taking(
                    backend, functools.partial(bare_tasks, many, ClosesInTurn)
                )
            yield Comparison(
                f"end of {many} connections, {transport}, {backend}",
                "us a connection",
                in_turns(contestants, plan.rounds(5)),
                goals=[Goal("bare task group", most=1.3)],
            )
            few = plan.some(100, 10)
            yield Comparison(
                f"{many} connections or {few}, {transport}, {backend}",
                "us a connection",
                in_turns(
                    {
                        f"{count}": taking(
                            backend, functools.partial(with_harness, transport, count)
                        )
                        for count in (many, few)
                    },
                    plan.rounds(7),
                ),
                ours=f"{many}",
                goals=[Goal(f"{few}", most=1.3)],
            )
