"""File descriptors that are open: sockets, files, pipes; and what was dropped without being closed.

What the test leaves open is the difference between two listings of ``/dev/fd``. So it also finds
what a library opens in C. To tell where and for whom, the usual ways to open something are watched
meanwhile, and what they open is remembered by descriptor and inode.

Without ``/dev/fd`` (on Windows) only sockets that were dropped are found.
"""

from __future__ import annotations

import _socket
import asyncio
import builtins
import contextlib
import gc
import io
import os
import select
import selectors
import socket
import stat
import sys
import warnings
import weakref
from collections.abc import Callable, Collection, Hashable
from typing import Any, ClassVar

from anyio._core._eventloop import get_async_backend

from ..backends import current_library
from ..descriptors import FOLDER, Identity, identity_of, open_descriptors
from ..diagnostics.stacks import Place
from ..hooks import Hook, Hooks
from .contract import OUTLIVES_THE_TEST, Kind, Leak, Owner, Suspects, owner
from .event_loops import descriptors_of_loops, loops_have_pipes
from .places import NOBODYS, described, here, is_installed, on_behalf_of

#: What links in ``/proc/self/fd`` begin with that are no leaks, unless the user's code has made it.
IGNORED_UNLESS_MADE = {
    "anon_inode:[eventpoll]": "the selector of an event loop, or of a library in C",
    "anon_inode:[eventfd]": "how threads wake it",
}

#: What links in ``/proc/self/fd`` begin with that are no leaks, and why.
IGNORED_LINKS = {
    "anon_inode:[io_uring]": "libuv's way to the disk",
    "anon_inode:[pidfd]": "how an event loop waits for a process; that is a leak of its own",
    "/dev/null": "libuv and subprocess keep it open; nothing hangs on it",
    "/dev/urandom": "OpenSSL and others keep it open once they needed it",
    "/dev/random": "the same",
    "/usr/share/zoneinfo": "time zone data that libraries keep open",
}

#: Test runners that capture output redirect these for each part of a test, and back.
STANDARD_STREAMS = frozenset({0, 1, 2})

#: What the address of a local socket's peer begins with that is no leak: connections that the C
#: library opens once in a process, in whatever test looks up the first host or user.
IGNORED_PEERS = (
    "/dev/log",  # syslog
    "/run/nscd",
    "/var/run/nscd",
    "/run/systemd",
    "/var/lib/sss",
)


class _Socket(weakref.ref[socket.socket]):
    """A socket that was made; tells when it goes."""

    __slots__ = ("descriptor", "kind", "number", "place")
    number: int
    descriptor: tuple[int, Identity | None]
    place: Place
    kind: str


class Descriptors(Kind):
    """Descriptors opened during the test and open at its end."""

    names: ClassVar[tuple[str, ...]] = ("socket", "file")

    def __init__(self, test: Owner) -> None:
        super().__init__(test)
        self._before: dict[int, Identity] = {}
        self._during: dict[int, Identity] = {}
        self._made: dict[int, tuple[Identity, Place | None, Owner | None]] = {}
        self._sockets: dict[int, _Socket] = {}
        #: the transports that uvloop has made, by descriptor
        self._transports: dict[int, weakref.ref[Any]] = {}
        #: by descriptor: what it was, since more than one object may tell of it
        self._dropped: dict[tuple[int, Identity | None], tuple[str, Place]] = {}
        self._dropped_files: list[tuple[str, Place]] = []
        self._looked = False

    def start(self) -> None:
        self._before = open_descriptors()
        _hooks.listen(self)

    def entered_new_loop(self) -> None:
        # What the loop runs on is its own.
        _hooks_of_backend().listen(self)
        for fd, identity in open_descriptors().items():
            is_file = stat.S_ISREG(identity[2]) or stat.S_ISDIR(identity[2])
            if self._place_of(fd, identity)[0] is None and not is_file:
                self._before[fd] = identity

    def exempt_begin(self) -> None:
        self._during = open_descriptors()

    def exempt_end(self) -> None:
        for fd, identity in open_descriptors().items():
            if self._during.get(fd) != identity and fd not in self._made:
                self._before[fd] = identity

    def made_descriptor(self, fd: int, place: Place | None, whose: Owner | None) -> None:
        """Descriptor ``fd`` was opened."""
        try:
            identity = identity_of(fd)
        except OSError:
            return
        is_file = stat.S_ISREG(identity[2]) or stat.S_ISDIR(identity[2])
        known = self._before.get(fd) == identity or self._place_of(fd, identity)[0] is not None
        if known and not is_file:
            return  # another object for the same descriptor: socket(fileno=...)
        if place is NOBODYS:
            place, whose = None, OUTLIVES_THE_TEST
        self._made[fd] = identity, place, whose

    def made_socket(self, sock: socket.socket, place: Place | None) -> None:
        """A Python socket was made."""
        fd = sock.fileno()
        whose = owner.get()
        self.made_descriptor(fd, place, whose)
        if fd < 0 or place is None or not self.mine(whose):
            self._sockets.pop(id(sock), None)
            return
        record = _Socket(sock, self._went)
        record.number, record.place, record.kind = id(sock), place, _sort(sock)
        record.descriptor = fd, self._made[fd][0] if fd in self._made else None
        self._sockets[id(sock)] = record

    def closed_socket(self, sock: socket.socket) -> None:
        """A Python socket was closed or detached."""
        self._sockets.pop(id(sock), None)

    def _went(self, reference: weakref.ref[socket.socket]) -> None:
        assert isinstance(reference, _Socket)
        if self._sockets.get(reference.number) is reference:
            del self._sockets[reference.number]
            self._dropped[reference.descriptor] = reference.kind, reference.place

    def made_transport(self, transport: Any) -> None:
        """A transport was made, whose socket is one in C: that goes with it."""
        sock = transport.get_extra_info("socket")
        fd = -1 if sock is None else sock.fileno()
        made, place, whose = self._made.get(fd, (None, None, None))
        if made is None or place is None or not self.mine(whose):
            return
        identity = made
        with contextlib.suppress(TypeError):  # uvloop's of TLS has no weak references
            self._transports[fd] = weakref.ref(transport, lambda _: self._went_open(fd, identity))

    def dropped_writer(self, transport: Any) -> None:
        """An unclosed writer is being collected, and closes ``transport``."""
        for sock in _sockets_of(transport):
            with contextlib.suppress(OSError):  # it is closed
                self._went_open(sock.fileno(), identity_of(sock.fileno()))

    def _went_open(self, fd: int, identity: Identity) -> None:
        """What stands for a descriptor has gone; if that is open, it was not closed."""
        place, whose, _ = self._place_of(fd, identity)
        with contextlib.suppress(OSError):
            if place is not None and self.mine(whose) and identity_of(fd) == identity:
                self._dropped[fd, identity] = _Address(fd).sort, place

    def dropped_file(self, name: str, place: Place | None, whose: Owner | None) -> None:
        """A file object has gone that was not closed; its descriptor is closed with it."""
        # What a library is careless with, is not for the test to mend.
        if place is not None and not is_installed(place.file) and self.mine(whose):
            self._dropped_files.append((name, place))

    def _place_of(self, fd: int, identity: Identity) -> tuple[Place | None, Owner | None, bool]:
        made, place, whose = self._made.get(fd, (None, None, None))
        if made != identity:
            return None, None, False
        return place, whose, True

    def look(self) -> Suspects:
        self._looked = True
        now = open_descriptors()
        suspects = self._dropped_open()
        for fd, identity in now.items():
            if fd in STANDARD_STREAMS or self._before.get(fd) == identity:
                continue
            place, whose, known = self._place_of(fd, identity)
            if not self.mine(whose) or (known and place is None and whose is None):
                continue  # an event loop's own
            describe = self._suspect(fd, identity, place, now)
            if describe is not None:
                suspects["descriptor", fd, identity] = describe
        return suspects

    def _dropped_open(self) -> Suspects:
        suspects: Suspects = {}
        for descriptor, (sort, place) in list(self._dropped.items()):
            suspects["dropped socket", descriptor] = _describe(
                "socket", f"{sort}, dropped without close()", place
            )
        for number, (name, place) in enumerate(self._dropped_files):
            suspects["dropped file", number] = _describe(
                "file", f"{name}, dropped without close()", place
            )
        return suspects

    def look_outside(self) -> Suspects:
        # Since the last look the event loop was closed, and nothing else was run.
        return self._dropped_open() if self._looked else self.look()

    def _suspect(
        self, fd: int, identity: Identity, place: Place | None, now: dict[int, Identity]
    ) -> Callable[[], Leak] | None:
        if stat.S_ISSOCK(identity[2]):
            address = _Address(fd)
            if address.peer.startswith(IGNORED_PEERS):
                return None
            if place is None and address.local in self._listening(now):
                return None  # accepted in C for a server that outlives the test
            if fd in descriptors_of_loops():
                return None
            return _describe("socket", f"{address}, descriptor {fd}", place)
        link = _link(fd)
        if link.startswith(tuple(IGNORED_LINKS)) or fd in _process_wide():
            return None
        if place is None and link.startswith(tuple(IGNORED_UNLESS_MADE)):
            return None
        if place is None and stat.S_ISFIFO(identity[2]) and loops_have_pipes():
            return None
        if fd in descriptors_of_loops():
            return None
        return _describe("file", f"{link}, descriptor {fd}", place)

    def things(self, keys: Collection[Hashable]) -> dict[Hashable, object]:
        """The Python object of each; one that a library has opened in C has none."""
        of = {key[1]: key for key in keys if isinstance(key, tuple) and key[0] == "descriptor"}
        found: dict[Hashable, object] = {}
        if not of:
            return found
        for each in gc.get_objects():
            # By its type: a proxy would be asked for what it stands for.
            if issubclass(type(each), (socket.socket, io.RawIOBase)):
                with contextlib.suppress(Exception):  # it may be closed, or half made
                    fd = each.fileno()
                    if fd in of:
                        found[of[fd]] = each
        if len(found) < len(of):
            for each in transports_and_servers():
                for sock in _sockets_of(each):
                    fd = sock.fileno()
                    if fd in of:
                        found.setdefault(of[fd], each)
        return found

    def put_away(self, keys: Collection[Hashable]) -> None:
        """Abort the transports and close the servers that the sockets belong to.

        uvloop meets those of C at the end of its loop, and says so then
        (uvloop/loop.pyx, ``__uv_walk_close_all_handles_cb``).
        """
        found = {key[1] for key in keys if isinstance(key, tuple) and key[0] == "descriptor"}
        if not found or current_library() != "asyncio":
            return
        for each in transports_and_servers():
            if not any(sock.fileno() in found for sock in _sockets_of(each)):
                continue
            if hasattr(each, "sockets"):
                each.close()
            elif hasattr(each, "abort"):
                try:
                    each.abort()
                except NotImplementedError:  # one that only reads
                    each.close()

    def _listening(self, now: dict[int, Identity]) -> set[str]:
        """The addresses of listening sockets that are not the test's."""
        found = set()
        for fd, identity in now.items():
            whose = self._place_of(fd, identity)[1]
            if stat.S_ISSOCK(identity[2]) and (
                self._before.get(fd) == identity or not self.mine(whose)
            ):
                address = _Address(fd)
                if address.listens:
                    found.add(address.local)
        return found

    def stop(self) -> None:
        for hooks in (_hooks, *_of_backends.values()):
            hooks.leave(self)
        self._sockets.clear()
        self._transports.clear()


def transports_and_servers() -> list[Any]:
    """Those of asyncio and uvloop, in this whole process; uvloop's have no base class of asyncio's.

    A look at every object there is: only for what is known to be left behind. By their types: a
    proxy would be asked for what it stands for, which may be gone.
    """
    return [
        each
        for each in gc.get_objects()
        if issubclass(type(each), (asyncio.BaseTransport, asyncio.AbstractServer))
        or (
            getattr(type(each), "__module__", None) == "uvloop.loop"  # some, as h11's, have none
            and any(hasattr(each, name) for name in ("abort", "sockets", "get_pid"))
        )
    ]


def _sockets_of(each: Any) -> list[Any]:
    """The sockets of a transport or a server."""
    try:
        if hasattr(each, "sockets"):
            return list(each.sockets or ())
        sock = each.get_extra_info("socket") if hasattr(each, "get_extra_info") else None
    except Exception:
        # Of one that was closed twice, asyncio's own cannot be asked (asyncio/sslproto.py,
        # `_SSLProtocolTransport.close`), and what others have made is their own affair.
        return []
    return [] if sock is None else [sock]


class _Address:
    """What the system knows of a socket."""

    def __init__(self, fd: int) -> None:
        self.sort = "of unknown family"
        self.local = self.peer = ""
        self.listens = False
        # Not socket.socket, which is watched. It is detached again: the descriptor is not ours.
        try:
            sock = _socket.socket(fileno=fd)
        except OSError:
            return
        try:
            self.sort = _sort(sock)
            with contextlib.suppress(OSError):
                self.local = _written(sock.getsockname())
            with contextlib.suppress(OSError):
                self.peer = _written(sock.getpeername())
            with contextlib.suppress(OSError, AttributeError):
                self.listens = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        finally:
            sock.detach()

    def __str__(self) -> str:
        said = self.sort
        if self.local:
            said += f" {self.local}"
        if self.listens:
            return f"{said}, listening"
        return f"{said} connected to {self.peer}" if self.peer else said


def _sort(sock: _socket.socket) -> str:
    """``AF_INET SOCK_STREAM`` and the like."""
    numbers = ((socket.AddressFamily, sock.family), (socket.SocketKind, sock.type))
    words = []
    for names, number in numbers:
        try:
            words.append(names(number).name)
        except ValueError:
            words.append(str(number))
    return " ".join(words)


def _written(address: Any) -> str:
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return os.fsdecode(address)


def _link(fd: int) -> str:
    try:
        return os.readlink(f"{FOLDER}/{fd}")
    except OSError:
        pass
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return "closed"
    return "pipe" if stat.S_ISFIFO(mode) else "file"


def _process_wide() -> set[int]:
    """Descriptors that are opened once in a process, for helper processes.

    They are those of the harness's watchdog, and of multiprocessing.
    """
    found = set()
    watchdog: Any = sys.modules.get("harness.adapters.watchdog")
    if watchdog is not None:
        found.add(watchdog.descriptor)
    tracker: Any = sys.modules.get("multiprocessing.resource_tracker")
    if tracker is not None:
        found.add(tracker._resource_tracker._fd)
    server: Any = sys.modules.get("multiprocessing.forkserver")
    if server is not None:
        found.add(server._forkserver._forkserver_alive_fd)
    return found


def _describe(kind: str, what: str, place: Place | None) -> Callable[[], Leak]:
    return lambda: Leak(kind, what, described(place))


def _socket_init(original: Callable[..., Any], hook: Hook[Descriptors]) -> Callable[..., Any]:
    def __init__(sock: Any, *args: Any, **options: Any) -> None:  # noqa: N807 (it is one)
        original(sock, *args, **options)
        if hook.listeners:
            place = here()
            for listener in hook.listeners:
                listener.made_socket(sock, place)

    return __init__


def _socket_close(original: Callable[..., Any], hook: Hook[Descriptors]) -> Callable[..., Any]:
    def close(sock: Any, *args: Any) -> Any:
        for listener in hook.listeners:
            listener.closed_socket(sock)
        return original(sock, *args)

    return close


def _open(original: Callable[..., Any], hook: Hook[Descriptors]) -> Callable[..., Any]:
    def open(*args: Any, **options: Any) -> Any:  # noqa: A001 (it stands for it)
        file = original(*args, **options)
        if not hook.listeners or (args and isinstance(args[0], int)):  # opened before
            return file
        place, whose = here(), owner.get()
        with contextlib.suppress(OSError, ValueError):
            fd = file.fileno()
            for listener in hook.listeners:
                listener.made_descriptor(fd, place, whose)
        _tell_when_dropped(file, place, whose, hook)
        return file

    return open


def _tell_when_dropped(
    file: Any, place: Place | None, whose: Owner | None, hook: Hook[Descriptors]
) -> None:
    """Hear of it when ``file`` goes and was not closed.

    CPython then calls this method of the raw file, to warn (Modules/_io/bufferedio.c and
    textio.c, ``_dealloc_warn``). A file without a buffer warns by itself, and is not heard of.
    """
    if place is None:
        return
    raw: Any = getattr(getattr(file, "buffer", file), "raw", None)
    if not isinstance(raw, io.FileIO):
        return

    def dealloc_warn(source: Any) -> None:
        for listener in hook.listeners:
            listener.dropped_file(str(source.name), place, whose)
        warnings.warn(f"unclosed file {source!r}", ResourceWarning, stacklevel=2, source=source)

    vars(raw)["_dealloc_warn"] = dealloc_warn


_EPOLL: Any = getattr(select, "epoll", None)


class _EpollType(type):
    """Stands for ``select.epoll``, which has no method to replace, and no subclasses."""

    def __call__(cls, *args: Any, **options: Any) -> Any:
        made = _EPOLL(*args, **options)
        for listener in _made_epoll.listeners:
            listener.made_descriptor(made.fileno(), here(), owner.get())
        return made

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _EPOLL)

    def __getattr__(cls, name: str) -> Any:
        return getattr(_EPOLL, name)


class _Epoll(metaclass=_EpollType):
    pass


_made_epoll: Hook[Descriptors] = Hook(select, "epoll", lambda original, hook: _Epoll)


def _selector_init(original: Callable[..., Any], hook: Hook[Descriptors]) -> Callable[..., Any]:
    def __init__(selector: Any, *args: Any, **options: Any) -> None:  # noqa: N807 (it is one)
        original(selector, *args, **options)
        if not hook.listeners:
            return
        made_by = str(sys._getframe(1).f_globals.get("__name__"))
        if made_by.partition(".")[0] != "asyncio":  # an event loop says itself that it is open
            place, whose = here(), owner.get()
            for listener in hook.listeners:
                listener.made_descriptor(selector.fileno(), place, whose)

    return __init__


def _os_open(original: Callable[..., Any], hook: Hook[Descriptors]) -> Callable[..., Any]:
    def os_open(*args: Any, **options: Any) -> Any:
        made = original(*args, **options)
        if not hook.listeners:
            return made
        place, whose = here(), owner.get()
        for fd in made if isinstance(made, tuple) else (made,):
            for listener in hook.listeners:
                listener.made_descriptor(fd, place, whose)
        return made

    return os_open


def _in_thread(original: Callable[..., Any], hook: Hook[Descriptors]) -> Callable[..., Any]:
    async def run_sync_in_worker_thread(*args: Any, **options: Any) -> Any:
        token = on_behalf_of.set(here())
        try:
            return await original(*args, **options)
        finally:
            on_behalf_of.reset(token)

    return run_sync_in_worker_thread


def _writer_del(original: Callable[..., Any], hook: Hook[Descriptors]) -> Callable[..., Any]:
    def __del__(writer: Any) -> None:  # noqa: N807 (it is one)
        transport = getattr(writer, "_transport", None)
        if transport is not None and not transport.is_closing():
            for listener in hook.listeners:
                listener.dropped_writer(transport)
        original(writer)

    return __del__


def _hooks_of_backend() -> Hooks[Descriptors]:
    """For AnyIO's files, which a worker thread opens; it inherits the context of the task.

    And for asyncio's writers, which close their transport when they are dropped, where they do.
    """
    backend = get_async_backend()
    if backend not in _of_backends:
        hooks: list[Hook[Descriptors]] = [Hook(backend, "run_sync_in_worker_thread", _in_thread)]
        if current_library() == "asyncio" and hasattr(asyncio.StreamWriter, "__del__"):
            hooks.append(Hook(asyncio.StreamWriter, "__del__", _writer_del))
        _of_backends[backend] = Hooks(*hooks)
    return _of_backends[backend]


_of_backends: dict[Any, Hooks[Descriptors]] = {}

_hooks: Hooks[Descriptors] = Hooks(
    Hook(socket.socket, "__init__", _socket_init),
    # What socket.close() calls in the end, here and in ssl.SSLSocket (CPython, Lib/socket.py).
    Hook(socket.socket, "_real_close", _socket_close),
    Hook(socket.socket, "detach", _socket_close),
    Hook(builtins, "open", _open),
    Hook(io, "open", _open),
    Hook(os, "open", _os_open),
    Hook(os, "pipe", _os_open),
    *((Hook(os, "eventfd", _os_open),) if hasattr(os, "eventfd") else ()),
    *((_made_epoll,) if _EPOLL is not None else ()),
    *(
        (Hook(selectors.EpollSelector, "__init__", _selector_init),)
        if hasattr(selectors, "EpollSelector")
        else ()
    ),
)
