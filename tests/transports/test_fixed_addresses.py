"""TCP and unix sockets at an address that somebody insists on."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio import connect_tcp, connect_unix
from anyio.abc import ByteStream

from harness import Harness, open_harness
from harness.transports.base import Transport
from harness.transports.tcp import TCP6Transport, TCPTransport
from harness.transports.unix import UnixTransport

pytestmark = pytest.mark.harness(transports=["memory"])


async def echo(stream: ByteStream) -> None:
    async for data in stream:
        await stream.send(data)


async def assert_echoes(stream: ByteStream) -> None:
    async with stream:
        await stream.send(b"ping")
        assert await stream.receive() == b"ping"


@pytest.fixture
def port() -> Iterator[int]:
    """A port that no other process is given meanwhile."""
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        yield keeper.getsockname()[1]


@pytest.fixture
def path() -> Iterator[Path]:
    """A path that is short enough for a socket."""
    from harness.transports.temporary import make_directory, remove_directory

    directory = make_directory("a test", "/tmp")
    yield Path(directory, "here")
    remove_directory(directory)


def put_a_file_at(path: Path) -> None:
    """In the place of what is there."""
    path.unlink()
    path.write_text("a file")


def is_that_file(path: Path) -> bool:
    return path.read_text() == "a file"


async def test_tcp_at_a_port(harness: Harness, port: int) -> None:
    transport = TCPTransport(port=port)
    server = await harness.serve(echo, transport=transport)
    assert server.address == ("127.0.0.1", port)
    with pytest.raises(OSError, match="in use"):
        await harness.serve(echo, transport=transport)
    await assert_echoes(await connect_tcp("127.0.0.1", port))
    await server.restart()
    await assert_echoes(await connect_tcp("127.0.0.1", port))


async def test_tcp_at_another_host(harness: Harness) -> None:
    server = await harness.serve(echo, transport=TCPTransport("127.0.0.9"))
    assert server.host == "127.0.0.9"
    assert server.port > 0
    await assert_echoes(await server.connect())


def test_the_host_says_which_version_of_ip() -> None:
    assert TCPTransport().family == TCPTransport("0.0.0.0", 80).family == socket.AF_INET
    assert TCP6Transport().family == TCPTransport("::", 80).family == socket.AF_INET6


@pytest.mark.parametrize("host", ["localhost", "", "127.0.0.1:80", "[::1]"])
def test_a_host_is_an_ip_address(host: str) -> None:
    with pytest.raises(ValueError, match="host has to be an IP address, not"):
        TCPTransport(host)


@pytest.mark.parametrize("number", [-1, 65536, "80", True, 80.0])
def test_a_port_is_a_number(number: object) -> None:
    with pytest.raises(ValueError, match="port has to be a number from 0 to 65535, not"):
        TCPTransport(port=number)  # type: ignore[arg-type]


async def test_unix_at_a_path(anyio_backend: object, path: Path) -> None:
    async with open_harness() as harness:
        server = await harness.serve(echo, transport=UnixTransport(path))
        assert server.path == str(path)
        await assert_echoes(await connect_unix(path))
        await server.restart()
        await assert_echoes(await connect_unix(path))
    assert os.listdir(path.parent) == []


async def test_a_socket_that_nobody_listens_at_gives_way(harness: Harness, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    await assert_echoes(await (await harness.serve(echo, transport=UnixTransport(path))).connect())


async def test_what_is_somebody_elses_is_left_alone(harness: Harness, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        with pytest.raises(OSError, match="somebody else listens there"):
            await harness.serve(echo, transport=UnixTransport(path))
        await (await connect_unix(path)).aclose()
    put_a_file_at(path)
    with pytest.raises(FileExistsError, match="there is a file, and it is no socket"):
        await harness.serve(echo, transport=UnixTransport(path))
    assert is_that_file(path)


async def test_what_has_taken_the_place_is_not_removed(anyio_backend: object, path: Path) -> None:
    async with open_harness() as harness:
        await harness.serve(echo, transport=UnixTransport(path))
        put_a_file_at(path)
    assert is_that_file(path)


@pytest.mark.parametrize("transport", ["tcp", "unix", "memory", "tls"])
async def test_a_proxy_on_another_transport_than_its_server(
    harness: Harness, transport: str
) -> None:
    server = await harness.serve(echo, transport="tcp")
    proxy = await harness.proxy(server, transport=transport)
    assert isinstance(proxy.address, str) is (transport == "unix")
    await assert_echoes(await proxy.connect())


async def test_a_proxy_at_an_address(harness: Harness, port: int, path: Path) -> None:
    server = await harness.serve(echo)
    transports: list[Transport] = [TCPTransport(port=port), UnixTransport(path)]
    for transport in transports:
        proxy = await harness.proxy(server, transport=transport)
        assert proxy.address in (("127.0.0.1", port), str(path))
        await assert_echoes(await proxy.connect())
        await proxy.disable()
        await proxy.enable()
        await assert_echoes(await proxy.connect())


async def test_tls_is_passed_through_to_a_unix_socket(harness: Harness) -> None:
    server = await harness.serve(echo, transport="tls")
    await assert_echoes(await (await harness.proxy(server, transport="unix")).connect())
