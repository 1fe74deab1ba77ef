"""Unix-domain sockets, at a path short enough for every platform unless somebody insists on one."""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import socket
import stat
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
    """A listening socket in a directory of its own (mode 0700), both removed at the end.

    :param path: another place for the socket, which alone is removed
    """

    def __init__(self, path: str | None = None) -> None:
        self._directory: str | None = None
        if path is None:
            self._directory = short_directory()
            path = os.path.join(self._directory, SOCKET_NAME)
        self._path = path
        #: the file there that is its own
        self._file: tuple[int, int, int] | None = None

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
        listening = self.bind()
        try:
            self.listener: Listener[Any] = tolerate_cancelled_futures(
                await SocketListener.from_socket(listening)
            )
        except BaseException:
            listening.close()
            raise

    def bind(self) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.make_way()
            listening.bind(self._path)
            self._file = file_at(self._path)
            listening.listen(BACKLOG)
        except BaseException:
            listening.close()
            raise
        return listening

    async def connect(self) -> ByteStream:
        return tolerate_cancelled_futures(await connect_unix(self._path))

    def release(self) -> None:
        if self._directory is not None:
            remove_directory(self._directory)
        elif self._file is not None:
            self._remove_own()

    def make_way(self) -> None:
        # a name that nobody listens at; something else may be at a path that somebody insists on
        self._remove_own()
        if file_at(self._path) is None:
            return
        if not stat.S_ISSOCK(os.lstat(self._path).st_mode):
            raise FileExistsError(errno.EEXIST, "there is a file, and it is no socket", self._path)
        if somebody_listens_at(self._path):
            raise OSError(errno.EADDRINUSE, "somebody else listens there", self._path)
        os.unlink(self._path)

    def _remove_own(self) -> None:
        own, self._file = self._file, None
        if own is not None and file_at(self._path) == own:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)


class UnixTransport(Transport):
    """A stream socket in the file system.

    :param path: where; by default, at a fresh path for each listener. With one, the second
        listener is an :exc:`OSError`.
    """

    name: ClassVar[str] = "unix"

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path: str | None = None if path is None else os.fspath(path)

    def missing(self) -> str | None:
        if not hasattr(socket, "AF_UNIX"):
            return "this platform has no unix-domain sockets"
        return None

    @property
    def anywhere(self) -> UnixTransport:
        transport = copy.copy(self)
        transport.path = None
        return transport

    has_sockets: ClassVar[bool] = True

    def reserve(self) -> UnixEndpoint:
        return UnixEndpoint(self.path)

    def at(self, address: Any) -> UnixEndpoint:
        if not isinstance(address, (str, bytes, os.PathLike)):
            raise ValueError(f"it is at {address!r}, which is no path")
        return UnixEndpoint(os.fsdecode(address))

    async def listen(self) -> UnixEndpoint:
        return await UnixEndpoint(self.path).open()


def file_at(path: str) -> tuple[int, int, int] | None:
    """Which file it is that is at ``path``, and of what kind; ``None`` if there is none.

    Of what kind, as file systems give the number of a file that is gone to the next one.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino, stat.S_IFMT(found.st_mode))


def somebody_listens_at(path: str) -> bool:
    """Whether a connection to the socket at ``path`` is accepted, or has to wait for that."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except BlockingIOError:
            pass  # its queue is full
        return True


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
