"""Sockets, files and pipes that stay open, and sockets that are dropped."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing.resource_tracker
import os
import select
import selectors
import socket
import ssl
import struct
import sys
import warnings

import anyio
import pytest
from anyio.abc import SocketAttribute
from leak_driver import leaks_of, line_of, the_one

kept = []


@pytest.fixture(autouse=True)
def nothing_is_kept():
    yield
    for each in kept:
        each.close()
    kept.clear()


def test_a_listening_socket(backend):
    async def leak():
        sock = socket.socket()  # made here
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        kept.append(sock)

    leaks = leaks_of(backend, leak)
    port = kept[0].getsockname()[1]
    the_one(
        leaks,
        "socket",
        f"AF_INET SOCK_STREAM 127.0.0.1:{port}, listening",
        line_of(leak, "# made here"),
    )


def test_a_socket_that_is_closed(backend):
    async def twin():
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen()
        one, other = socket.socketpair()
        one.close()
        os.close(other.detach())

    assert leaks_of(backend, twin) == []


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_socket_that_is_dropped(backend):
    async def leak():
        socket.socket()  # made here

    the_one(
        leaks_of(backend, leak),
        "socket",
        "AF_INET SOCK_STREAM, dropped without close()",
        line_of(leak, "# made here"),
    )


def test_anyios_connection(backend):
    async def leak():
        nonlocal client, listener
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(SocketAttribute.local_port)
        client = await anyio.connect_tcp("127.0.0.1", port)  # made here
        await listener.aclose()

    client = listener = None
    # The listener is gone, and so is what was accepted for nobody; its peer may have no name now.
    leaks = leaks_of(backend, leak, after=lambda: client.aclose())
    the_one(leaks, "socket", "AF_INET SOCK_STREAM 127.0.0.1:", line_of(leak, "# made here"))


def test_anyios_connections_that_are_closed(backend):
    async def handle(stream):
        async with stream:
            await stream.send(await stream.receive())

    async def twin():
        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
            anyio.create_task_group() as group,
        ):
            group.start_soon(listener.serve, handle)
            port = listener.extra(SocketAttribute.local_port)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(b"x")
                assert await stream.receive() == b"x"
            group.cancel_scope.cancel()

    assert leaks_of(backend, twin) == []


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("collected", [False, True])
@pytest.mark.parametrize("used", [False, True])
def test_anyios_connection_that_is_dropped(backend, used, collected):
    async def talk(port):
        client = await anyio.connect_tcp("127.0.0.1", port)  # made here
        if used:
            await client.send(b"x")

    async def leak():
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            await talk(listener.extra(SocketAttribute.local_port))
        if collected:
            gc.collect()

    the_one(leaks_of(backend, leak), "socket", "AF_INET SOCK_STREAM", line_of(talk, "# made here"))


def without_writers_that_close():
    """Skip the test on a Python whose writers do not close their transport as they are dropped."""
    if not hasattr(asyncio.StreamWriter, "__del__"):
        pytest.skip("on this Python, a writer does not close its transport as it is dropped")


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("collected", [False, True])
def test_asyncios_streams_that_are_dropped(backend, collected):
    if backend == "trio":
        pytest.skip("they are asyncio's")
    without_writers_that_close()

    async def talk(port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)  # made here
        writer.write(b"x")
        if collected:
            writer.in_a_cycle = writer

    async def leak():
        with socket.create_server(("127.0.0.1", 0)) as server:
            await talk(server.getsockname()[1])
            gc.collect()
        await asyncio.sleep(0)

    the_one(leaks_of(backend, leak), "socket", "AF_INET SOCK_STREAM", line_of(talk, "# made here"))


@pytest.mark.parametrize("end", ["close", "abort", "reset"])
def test_asyncios_streams_that_are_closed(backend, end):
    if backend == "trio":
        pytest.skip("they are asyncio's")

    async def talk(server):
        reader, writer = await asyncio.open_connection(*server.getsockname())
        accepted, _ = server.accept()
        with accepted:
            if end == "close":
                writer.close()
                await writer.wait_closed()
            elif end == "abort":
                writer.transport.abort()
            else:
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.suppress(OSError):
            await reader.read()

    async def twin():
        with socket.create_server(("127.0.0.1", 0)) as server:
            for _ in range(3):
                await talk(server)
            gc.collect()

    assert leaks_of(backend, twin) == []


def test_a_writer_that_is_dropped_is_not_of_a_test_that_did_not_make_it(backend):
    if backend == "trio":
        pytest.skip("they are asyncio's")
    without_writers_that_close()

    async def fixture():
        server = socket.create_server(("127.0.0.1", 0))
        kept.append(server)
        kept.extend(await asyncio.open_connection("127.0.0.1", server.getsockname()[1]))

    async def twin():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del kept[1:]
            gc.collect()

    kept = []
    assert leaks_of(backend, twin, before=fixture) == []
    kept[0].close()


def test_an_accepted_connection(backend):
    """The client is closed; who has accepted the connection keeps it."""

    async def handle(stream):
        streams.append(stream)
        arrived.set()

    async def leak():
        nonlocal arrived
        arrived = anyio.Event()
        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
            anyio.create_task_group() as group,
        ):
            group.start_soon(listener.serve, handle)  # made here
            port = listener.extra(SocketAttribute.local_port)
            async with await anyio.connect_tcp("127.0.0.1", port):
                await arrived.wait()
            group.cancel_scope.cancel()

    arrived = None
    streams = []
    leaks = leaks_of(backend, leak, after=lambda: streams[0].aclose())
    the_one(leaks, "socket", "AF_INET SOCK_STREAM 127.0.0.1:", line_of(leak, "# made here"))


def test_a_server_of_asyncio(backend):
    if backend == "trio":
        pytest.skip("asyncio's")

    async def leak():
        loop = asyncio.get_running_loop()
        kept.append(await loop.create_server(asyncio.Protocol, "127.0.0.1", 0))  # made here

    leaks = leaks_of(backend, leak, after=lambda: kept[0].close())
    the_one(leaks, "socket", ", listening", line_of(leak, "# made here"))


@pytest.mark.parametrize("how", ["open", "path", "os.open", "pipe"])
def test_a_file(backend, how, tmp_path):
    path = tmp_path / "file"
    path.touch()

    async def leak():
        if how == "open":
            kept.append(open(path))  # open  # noqa: ASYNC230, SIM115
        elif how == "path":
            kept.append(path.open())  # path
        elif how == "os.open":
            kept.append(os.fdopen(os.open(path, os.O_RDONLY)))  # os.open
        else:
            near, far = os.pipe()  # pipe
            kept.append(os.fdopen(near))
            os.close(far)

    what = "pipe:[" if how == "pipe" else str(path)
    # pathlib has a reference of its own to io.open on Python 3.10.
    unknown = how == "path" and sys.version_info < (3, 11)
    where = None if unknown else line_of(leak, f"# {how}")
    the_one(leaks_of(backend, leak), "file", what, where)


def test_a_file_that_is_closed(backend, tmp_path):
    async def twin():
        with open(tmp_path / "file", "w") as file:  # noqa: ASYNC230
            file.write("x")
        async with await anyio.open_file(tmp_path / "file") as file:
            assert await file.read() == "x"

    assert leaks_of(backend, twin) == []


def test_the_files_that_multiprocessing_opens_once(backend):
    tracker = multiprocessing.resource_tracker._resource_tracker
    before = tracker._fd

    async def twin():
        tracker.ensure_running()

    assert leaks_of(backend, twin) == []
    assert tracker._fd is not None, "multiprocessing has another name for it"
    if before is None:
        tracker._stop()


def test_a_tls_socket_is_watched_as_any(backend):
    """`ssl.SSLSocket` calls `socket.__init__` and `socket._real_close` of its base class."""

    async def twin():
        one, other = socket.socketpair()
        with (
            other,
            ssl.create_default_context().wrap_socket(
                one, server_hostname="x", do_handshake_on_connect=False
            ),
        ):
            pass

    assert leaks_of(backend, twin) == []


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("mode", ["r", "rb"])
def test_a_file_that_is_dropped(backend, mode):
    async def leak():
        open(__file__, mode)  # made here  # noqa: ASYNC230, SIM115

    what = f"{__file__}, dropped without close()"
    the_one(leaks_of(backend, leak), "file", what, line_of(leak, "# made here"))


def test_a_file_that_is_dropped_is_still_warned_of(backend):
    async def leak():
        with pytest.warns(ResourceWarning, match="unclosed file"):
            open(__file__)  # noqa: ASYNC230, SIM115

    leaks_of(backend, leak)


def test_files_that_are_closed_or_not_the_tests(backend):
    async def fixture():
        files.append(open(__file__))  # noqa: ASYNC230, SIM115

    async def twin():
        with open(__file__), open(__file__, "rb"):  # noqa: ASYNC230
            pass
        open(__file__, buffering=1).close()  # noqa: ASYNC230

    files = []
    assert leaks_of(backend, twin, before=fixture) == []
    files.pop().close()


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: select.epoll(), "eventpoll"),
        (lambda: selectors.DefaultSelector(), "eventpoll"),
        (lambda: os.fdopen(os.eventfd(0), "rb"), "eventfd"),
    ],
    ids=["epoll", "selector", "eventfd"],
)
def test_what_an_event_loop_is_made_of(backend, make, what):
    async def leak():
        kept.append(make())

    async def twin():
        make().close()
        await anyio.to_thread.run_sync(lambda: anyio.run(anyio.sleep, 0, backend=library))

    if what == "eventfd" and not hasattr(os, "eventfd"):
        pytest.skip("since Python 3.10, where the C library has it")
    library = "trio" if backend == "trio" else "asyncio"
    leaks = leaks_of(backend, leak)
    the_one(leaks, "file", f"anon_inode:[{what}]", "in <lambda>: ")
    assert leaks_of(backend, twin) == []


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="of Linux")
def test_epoll_is_what_it_was(backend):
    async def test():
        with select.epoll() as poll:
            assert isinstance(poll, select.epoll)
            again = select.epoll.fromfd(os.dup(poll.fileno()))
            assert isinstance(again, select.epoll)
            again.close()

    before = select.epoll
    assert leaks_of(backend, test) == []
    assert select.epoll is before
