"""Unix-domain sockets, at a path short enough for every platform."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any, ClassVar

from anyio import connect_unix
from anyio.abc import ByteStream, Listener, SocketListener

from .base import Endpoint, Transport
from .cancelled_futures import tolerate_cancelled_futures
from .tcp import BACKLOG
from .temporary import make_directory, remove_directory

#: sizeof(sun_path) is 104 on macOS and the BSDs and 108 on Linux, with a closing NUL byte.
LONGEST_PATH = 103
SOCKET_NAME = "s"
PURPOSE = "the socket of a server"


class UnixEndpoint(Endpoint):
    """A listening socket in a directory of its own (mode 0700), both removed at the end."""

    def __init__(self) -> None:
        self._directory = short_directory()
        self._path = os.path.join(self._directory, SOCKET_NAME)

    @property
    def address(self) -> str:
        return self._path

    async def open(self) -> UnixEndpoint:
        try:
            await self.listen_again()
        except BaseException:
            self.release()
            raise
        return self

    async def listen_again(self) -> None:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)  # what an earlier listener left: a name nobody listens at
            listening.bind(self._path)
            listening.listen(BACKLOG)
            self.listener: Listener[Any] = tolerate_cancelled_futures(
                await SocketListener.from_socket(listening)
            )
        except BaseException:
            listening.close()
            raise

    async def connect(self) -> ByteStream:
        return tolerate_cancelled_futures(await connect_unix(self._path))

    def release(self) -> None:
        remove_directory(self._directory)


class UnixTransport(Transport):
    """A stream socket in the file system."""

    name: ClassVar[str] = "unix"

    def missing(self) -> str | None:
        if not hasattr(socket, "AF_UNIX"):
            return "this platform has no unix-domain sockets"
        return None

    async def listen(self) -> UnixEndpoint:
        return await UnixEndpoint().open()


def short_directory() -> str:
    """Make a private directory whose socket path fits ``sun_path``.

    The temporary directory of the process is used where it is short enough, ``/tmp`` where it is
    not (a deep ``TMPDIR``; pytest's ``tmp_path`` is never used).
    """
    directory = make_directory(PURPOSE)
    if len(os.fsencode(os.path.join(directory, SOCKET_NAME))) > LONGEST_PATH:
        remove_directory(directory)
        directory = make_directory(PURPOSE, "/tmp")
    return directory
