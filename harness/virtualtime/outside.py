"""Connections whose other end is not in this event loop.

Two sockets of one loop that talk to one another do not hold the time: what one has sent is with the
other before anybody looks. A peer in a thread, in another process or on another machine is real
work in flight, as long as it may still send.

Nothing tells which descriptors an event loop has - uvloop's are made in C - so the process is
searched for them, but only after a socket may have been made. What was open before the loop began
is not the loop's, and neither is a socket that blocks or one that another thread has made.

An attempt to connect that is not answered yet leads out as well, unless it waits for a listening
socket of this loop. Nobody may ever answer it, so it may never end (`Hold.unsure_since`).
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..descriptors import Identity, open_sockets
from ..hooks import Hook
from .contract import Hold, Timeline

_ANY_HOST = ("0.0.0.0", "::")

CONNECTED = "connected"
CONNECTING = "connecting"
LISTENING = "listening"
#: A listening socket that answers nobody, since too many wait to be accepted.
FULL = "full"
#: It only keeps an address, or is about to connect.
UNCONNECTED = "unconnected"

#: Linux, ``struct tcp_info``: the state at its beginning, and of a listening socket further on how
#: many wait to be accepted and how many may (``net/ipv4/tcp.c``, ``tcp_get_info``).
_TCP_INFO = struct.Struct("=B 23x II")
_TCP_SYN_SENT = 2


class Outside:
    """Tells of connections that lead out of an event loop."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        #: sockets that other threads have made
        self._foreign: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._thread = 0
        #: descriptors that are known not to lead out
        self._settled: dict[int, Identity] = {}
        self._leading_out: dict[int, _End] = {}
        #: those of them whose peer had ended at the last look
        self._ended: set[tuple[int, _End]] = set()
        #: attempts to connect that nobody in this loop is to answer
        self._connecting: dict[Identity, _End] = {}
        self._attempts: dict[Identity, Hold] = {}
        #: whether there is a socket that may still connect
        self._pending = False

    def begin(self) -> None:
        if not hasattr(select, "poll"):
            return
        self._thread = threading.get_ident()
        self._settled = open_sockets()
        _socket_init.listen(self)
        self._timeline.outside = self.look

    def end(self) -> None:
        _socket_init.leave(self)

    def made(self, made: socket.socket) -> None:
        """Python has made a socket, or an object for one."""
        if threading.get_ident() != self._thread:
            self._foreign.add(made)
        self._timeline.may_lead_out = True

    def look(self) -> list[str]:
        """The connections that lead out of the loop and may still bring something, in words."""
        self._timeline.may_lead_out = False
        self._scan()
        self._hold_attempts()
        self._timeline.may_lead_out |= bool(self._leading_out) or self._pending
        ended = {each for each in self._leading_out.items() if not _may_bring(each[0])}
        # What the peer has sent last may have come after the loop has looked at its sockets.
        over, self._ended = ended & self._ended, ended
        if ended - over:
            self._timeline.look_again_in = 0
        return [end.in_words() for fd, end in self._leading_out.items() if (fd, end) not in over]

    def _hold_attempts(self) -> None:
        for attempt in self._attempts.keys() - self._connecting.keys():
            self._attempts.pop(attempt).release()
        for attempt in self._connecting.keys() - self._attempts.keys():
            host, port = self._connecting[attempt].local
            hold = Hold(self._timeline, f"the attempt to connect from {host}:{port}").__enter__()
            hold.unsure_since = time.perf_counter()
            self._attempts[attempt] = hold

    def _scan(self) -> None:
        self._leading_out = {}
        self._connecting = {}
        self._pending = False
        sockets = open_sockets()
        settled, self._settled = self._settled, {}
        fresh = []
        for fd, identity in sockets.items():
            if settled.get(fd) == identity:
                self._settled[fd] = identity
            else:
                fresh.append(fd)
        foreign = {each.fileno() for each in list(self._foreign)}
        foreign.update(fd for fd in sockets if _blocks(fd))
        ours = [fd for fd in fresh if fd not in foreign]
        if not ours:
            return
        ends = {fd: end for fd in sockets if (end := _end_of(fd)) is not None}
        inside = [end for fd, end in ends.items() if fd not in foreign]
        outside = [end for fd, end in ends.items() if fd in foreign]
        is_full = any(end.state == FULL for end in inside)
        for fd in ours:
            end = ends.get(fd)
            if end is None or end.state in (LISTENING, FULL):
                self._settled[fd] = sockets[fd]
            elif end.state in (UNCONNECTED, CONNECTING):
                self._pending = True
                if end.state == CONNECTING and not is_full:
                    self._connecting[sockets[fd]] = end
            elif end.leads_to(inside) and not end.leads_to(outside):
                self._settled[fd] = sockets[fd]
            else:
                self._leading_out[fd] = end


@dataclass(frozen=True)
class _End:
    """A stream socket, and what is known of its other end."""

    family: int
    local: Any
    peer: Any
    #: the process of the peer, where the kernel tells it
    pid: int | None
    state: str

    def leads_to(self, others: list[_End]) -> bool:
        """Whether the other end is, or was accepted by, one of ``others``."""
        others = [other for other in others if other.state not in (UNCONNECTED, CONNECTING)]
        if self.family != _UNIX:
            return any(
                other.local == self.peer
                or (other.local[1] == self.peer[1] and other.local[0] in _ANY_HOST)
                for other in others
                if other.family != _UNIX
            )
        if self.pid is not None and self.pid != os.getpid():
            return False
        if self.peer:
            return any(other.local == self.peer for other in others)
        if not self.local:
            return any(other is self for other in others)  # one of a pair
        # A client without a name: any that is connected to the same server may be it.
        return any(other.peer == self.local for other in others)

    def in_words(self) -> str:
        local, peer = (
            f"{each[0]}:{each[1]}" if isinstance(each, tuple) else str(each or "(no name)")
            for each in (self.local, self.peer)
        )
        return f"the connection {local} - {peer}, whose other end is not in this event loop"


_UNIX = getattr(socket, "AF_UNIX", -1)


def _blocks(fd: int) -> bool:
    with suppress(OSError):
        return os.get_blocking(fd)
    return True


def _end_of(fd: int) -> _End | None:
    _own_object.now = True
    try:
        view = socket.socket(fileno=fd)
    except OSError:
        return None
    finally:
        _own_object.now = False
    try:
        if view.type != socket.SOCK_STREAM:
            return None
        if view.family not in (socket.AF_INET, socket.AF_INET6, _UNIX):
            return None
        local = _address(view.getsockname())
        try:
            peer = _address(view.getpeername())
        except OSError:
            return _End(view.family, local, None, None, _state_without_peer(view))
        return _End(view.family, local, peer, _pid_of_peer(view), CONNECTED)
    except OSError:
        return None
    finally:
        view.detach()


def _state_without_peer(view: socket.socket) -> str:
    listens = bool(view.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    if sys.platform == "linux" and view.family != _UNIX:
        option = view.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        state, waiting, at_most = _TCP_INFO.unpack(option)
        if listens and waiting > at_most:
            return FULL
        if state == _TCP_SYN_SENT:
            return CONNECTING
    return LISTENING if listens else UNCONNECTED


def _address(address: Any) -> Any:
    if not isinstance(address, tuple):
        return address
    return address[0].removeprefix("::ffff:"), address[1]


def _pid_of_peer(view: socket.socket) -> int | None:
    option = getattr(socket, "SO_PEERCRED", None)
    if view.family != _UNIX or option is None:
        return None
    pid: int = struct.unpack("3i", view.getsockopt(socket.SOL_SOCKET, option, 12))[0]
    return pid


def _may_bring(fd: int) -> bool:
    """Whether the peer may still send."""
    poll = select.poll()
    ended = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)
    poll.register(fd, ended)
    return not poll.poll(0)


_own_object = threading.local()


def _init(original: Callable[..., Any], hook: Hook[Outside]) -> Callable[..., Any]:
    def __init__(made: socket.socket, *args: Any, **options: Any) -> None:  # noqa: N807
        original(made, *args, **options)
        if not getattr(_own_object, "now", False):
            for listener in hook.listeners:
                listener.made(made)

    return __init__


_socket_init: Hook[Outside] = Hook(socket.socket, "__init__", _init)
