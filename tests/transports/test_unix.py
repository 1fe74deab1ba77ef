"""Unix-domain sockets live in a private directory with a short path, and leave nothing."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile

import pytest
from anyio import connect_unix

from harness import open_harness
from harness.transports.unix import LONGEST_PATH, SOCKET_NAME, UnixTransport, short_directory

pytestmark = pytest.mark.harness(transports=["unix"])


async def echo(stream):
    async for data in stream:
        await stream.send(data)


async def assert_serves(server):
    async with await server.connect() as client:
        await client.send(b"ping")
        assert await client.receive() == b"ping"


@pytest.fixture
def tmp(monkeypatch):
    """A temporary directory with a path as short as a real one."""
    directory = tempfile.mkdtemp(prefix="t-", dir="/tmp")
    monkeypatch.setattr(tempfile, "tempdir", directory)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def deep(tmp, monkeypatch):
    """A TMPDIR in which no path of a socket is short enough."""
    directory = os.path.join(tmp, "d" * 60, "e" * 60)
    os.makedirs(directory)
    monkeypatch.setattr(tempfile, "tempdir", directory)
    return directory


async def test_the_socket_is_in_a_directory_that_only_its_user_may_enter(harness):
    server = await harness.serve(echo)
    directory = os.path.dirname(server.path)
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
    assert os.listdir(directory) == [os.path.basename(server.path)]
    assert stat.S_ISSOCK(os.stat(server.path).st_mode)


async def test_two_servers_have_two_directories(harness):
    first, second = await harness.serve(echo), await harness.serve(echo)
    assert os.path.dirname(first.path) != os.path.dirname(second.path)


async def test_nothing_is_left_at_the_end(anyio_backend, tmp):
    async with open_harness(transport="unix") as harness:
        server = await harness.serve(echo)
        await harness.pair()
        assert os.path.dirname(os.path.dirname(server.path)) == tmp
        await assert_serves(server)
        await server.restart()
        await assert_serves(server)
    assert os.listdir(tmp) == []


async def test_nothing_is_left_of_a_server_that_was_stopped(anyio_backend, tmp):
    async with open_harness(transport="unix") as harness:
        server = await harness.serve(echo)
        await server.stop()
    assert os.listdir(tmp) == []


async def test_a_stopped_server_keeps_its_directory_until_it_is_restarted(harness):
    server = await harness.serve(echo)
    await server.stop()
    assert stat.S_ISDIR(os.stat(os.path.dirname(server.path)).st_mode)
    await server.restart()
    await assert_serves(server)


async def test_it_listens_again_where_the_socket_file_was_removed(harness):
    server = await harness.serve(echo)
    await server.stop()
    os.unlink(server.path)
    await server.restart()
    await assert_serves(server)


async def test_the_path_is_short_in_a_deep_temporary_directory(anyio_backend, deep):
    async with open_harness(transport="unix") as harness:
        server = await harness.serve(echo)
        assert len(os.fsencode(server.path)) <= LONGEST_PATH
        assert os.listdir(deep) == []
        await assert_serves(server)
    with pytest.raises(FileNotFoundError):
        os.stat(os.path.dirname(server.path))


def test_the_temporary_directory_is_used_up_to_the_last_byte_that_fits(tmp, monkeypatch):
    example = short_directory()
    os.rmdir(example)
    fixed = len(os.path.join(example, SOCKET_NAME)) - len(tmp)
    for length, fits in ((LONGEST_PATH - fixed, True), (LONGEST_PATH - fixed + 1, False)):
        base = os.path.join(tmp, "x" * (length - len(tmp) - 1))
        os.mkdir(base)
        monkeypatch.setattr(tempfile, "tempdir", base)
        made = short_directory()
        try:
            assert (os.path.dirname(made) == base) is fits
            assert len(os.path.join(made, SOCKET_NAME)) <= LONGEST_PATH
            assert stat.S_IMODE(os.stat(made).st_mode) == 0o700
        finally:
            os.rmdir(made)


def test_a_path_is_measured_in_bytes(tmp, monkeypatch):
    base = os.path.join(tmp, "é" * 35)  # short in characters, long in bytes
    os.mkdir(base)
    monkeypatch.setattr(tempfile, "tempdir", base)
    made = short_directory()
    try:
        assert len(os.path.join(base, os.path.basename(made), SOCKET_NAME)) <= LONGEST_PATH
        assert os.path.dirname(made) == "/tmp"
    finally:
        os.rmdir(made)


async def test_the_longest_path_can_be_bound(anyio_backend, tmp, monkeypatch):
    fixed = len("/anyio-harness-12345678/") + len(SOCKET_NAME)
    base = os.path.join(tmp, "x" * (LONGEST_PATH - fixed - len(tmp) - 1))
    os.mkdir(base)
    monkeypatch.setattr(tempfile, "tempdir", base)
    endpoint = await UnixTransport().listen()
    try:
        assert len(endpoint.address) == LONGEST_PATH
        assert os.path.dirname(os.path.dirname(endpoint.address)) == base
        await (await connect_unix(endpoint.address)).aclose()
    finally:
        await endpoint.aclose()
