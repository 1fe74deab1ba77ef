"""What a blocked task waits for, in words, read off the machinery's frames at its end.

A task waits in a chain of awaits: the user's own frames, then those of AnyIO, asyncio, trio or the
harness. The outermost of the machinery's frames that this module knows says most: that a TLS stream
receives from a peer, and not that some event is awaited behind it. It also makes the words the same
on every backend, as the frames of AnyIO's public functions are. What is looked up in a frame is the
function's name, the class of its ``self`` and a few of its locals. A frame that has changed
upstream costs a vaguer sentence, never an error; ``tests/diagnostics/test_waits.py`` knows them.
"""

from __future__ import annotations

import functools
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from anyio.abc import SocketAttribute

from .connections import LiveConnection, format_address
from .loopview import TaskRecord
from .stacks import is_machinery


@dataclass(frozen=True)
class Wait:
    """What a task waits for.

    :ivar text: the sentence, such as ``waits for an event``
    :ivar thread: the innermost frame of the worker thread that it waits for, if it was found
    :ivar until: when it ends by itself, by the loop's clock
    :ivar uncancellable: the library holds a cancellation back until it is over, each in its own way
    """

    text: str
    thread: FrameType | None = None
    until: float = math.inf
    uncancellable: bool = False


@dataclass(frozen=True)
class Surroundings:
    """What the rules know beside the frames."""

    now: float
    connections: Mapping[int, LiveConnection] = field(default_factory=dict)
    threads: Mapping[int, FrameType] = field(default_factory=dict)
    #: whether the loop runs in this thread, and so stands still meanwhile
    stands_still: bool = False
    #: how many children the task has in its inmost task group with any
    children: int = 0


class Site:
    """One machinery frame: a function, its object, its locals."""

    def __init__(
        self,
        frame: FrameType,
        inner: Sequence[FrameType],
        task: TaskRecord,
        stands_still: bool,
    ) -> None:
        self.frame = frame
        self.inner = inner
        self.task = task
        self._stands_still = stands_still
        self.module: str = str(frame.f_globals.get("__name__", ""))
        self.function: str = frame.f_code.co_name

    def local(self, name: str, frame: FrameType | None = None) -> Any:
        """A local variable of this frame, or of one further in; ``None`` if there is none."""
        frame = self.frame if frame is None else frame
        found = frame.f_locals
        value = found.get(name)
        if sys.version_info < (3, 13) and self._stands_still:
            # A copy that the frame keeps until it ends, with all that the locals once referred to.
            # That must not outlive its owner because somebody has looked. Not while the loop may
            # go on: a debugger writes the copy back. Never a user's frame: `locals()` is the copy.
            if frame.f_code.co_flags & inspect.CO_OPTIMIZED:
                found.clear()
        return value

    @functools.cached_property
    def subject(self) -> Any:
        return self.local("self")

    def is_a(self, *names: str) -> bool:
        """Whether ``self`` is of a class, or of a subclass of one, that is called so."""
        return any(cls.__name__ in names for cls in type(self.subject).__mro__)

    def goes_through(self, function: str) -> bool:
        """Whether one of the frames further in is of a function that is called so."""
        return any(frame.f_code.co_name == function for frame in self.inner)


Rule = Callable[[Site, Surroundings], "Wait | None"]


def wait_of(
    task: TaskRecord, frames: Sequence[tuple[FrameType, int]], surroundings: Surroundings
) -> Wait:
    """What ``task``, suspended in ``frames`` (outermost first), waits for."""
    chain = [frame for frame, _ in frames]
    inmost_user = max((n for n, frame in enumerate(chain) if not _is_machine(frame)), default=-1)
    machinery = chain[inmost_user + 1 :]
    for number, frame in enumerate(machinery):
        rule = RULES.get(frame.f_code.co_name)
        if rule is None:
            continue
        site = Site(frame, machinery[number + 1 :], task, surroundings.stands_still)
        try:
            wait = rule(site, surroundings)
        except Exception:  # the loop may go on meanwhile, and upstream may have changed
            continue
        if wait is not None:
            return wait
    if task.state == "runnable":
        return Wait("can run")
    return _anything(task, machinery)


def _is_machine(frame: FrameType) -> bool:
    # contextlib, functools and the like stand between two frames of the machinery, too.
    return is_machinery(frame) or frame.f_globals.get("__name__") in ("contextlib", "types")


def _anything(task: TaskRecord, machinery: Sequence[FrameType]) -> Wait:
    waiter = task.waits_for
    if hasattr(waiter, "get_coro"):
        return Wait(f"waits for task {waiter.get_name()!r}")
    children = getattr(waiter, "_children", None)  # asyncio/tasks.py, class _GatheringFuture
    if isinstance(children, list):
        return Wait(f"waits for {_count(sum(not each.done() for each in children), 'task')}")
    for frame in reversed(machinery):
        module = str(frame.f_globals.get("__name__", ""))
        if not module.startswith("trio._core"):
            return Wait(f"waits in {module}.{frame.f_code.co_name}()")
    return Wait("waits for a future" if waiter is not None else "waits to be rescheduled")


# The rules, by what they are about. Each returns `None` for a function that only has the same name.


def _blocked(site: Site, wait: Wait) -> Wait | None:
    return None if site.task.state == "runnable" else wait


def _stream(site: Site, around: Surroundings, doing: str) -> Wait | None:
    """``receive`` and ``send`` of everything that is called a stream."""
    stream = site.subject
    sends = doing.startswith("send")
    to = "to" if sends else "from"
    if site.is_a("RecordedStream"):
        record = stream.connection
        peer = around.connections.get(id(record), LiveConnection(record)).peer()
    elif site.is_a("MemoryObjectReceiveStream"):
        return Wait("waits to receive from a memory object stream: its buffer is empty")
    elif site.is_a("MemoryObjectSendStream"):
        size = stream.statistics().max_buffer_size
        full = f"its buffer is full ({size:g})" if size else "it has no buffer and nobody receives"
        return Wait(f"waits to send to a memory object stream: {full}")
    elif site.is_a("MemoryReceiveChannel", "MemorySendChannel"):
        why = "is full" if sends else "is empty"
        return Wait(f"waits to {doing} {to} a memory channel: its buffer {why}")
    elif site.is_a(
        "StreamReaderWrapper", "StreamWriterWrapper", "ReceiveStreamWrapper", "SendStreamWrapper"
    ):
        return Wait(f"waits to {doing} {to} a pipe of a process")
    elif site.is_a("UDPSocket", "UNIXDatagramSocket"):
        here = format_address(_extra(stream, SocketAttribute.local_address))
        if not sends:
            return Wait(f"waits to receive a datagram at {here or 'a socket'}")
        peer = "its peer"
    elif site.is_a("SocketStream", "TLSStream", "MemoryStream", "ConnectedUDPSocket", "Shortcut"):
        peer = format_address(_extra(stream, SocketAttribute.remote_address)) or "its peer"
    else:
        return None
    what = ""
    item = site.local("item") if sends else None
    if isinstance(item, (bytes, bytearray, memoryview)):
        what = f" {_count(len(item), 'byte')}"
    return Wait(f"waits to {doing}{what} {to} {peer}")


def _receive(site: Site, around: Surroundings) -> Wait | None:
    wait = _stream(site, around, "receive")
    return wait and _blocked(site, wait)


def _send(site: Site, around: Surroundings) -> Wait | None:
    wait = _stream(site, around, "send")
    return wait and _blocked(site, wait)


def _pass_on(site: Site, around: Surroundings) -> Wait | None:
    if not site.is_a("Shortcut"):
        return None
    sends = site.goes_through("_drain")
    stream = site.local("sink") if sends else site.subject
    peer = format_address(_extra(stream, SocketAttribute.remote_address)) or "its peer"
    return _blocked(site, Wait(f"waits to {'send to' if sends else 'receive from'} {peer}"))


def _extra(stream: Any, attribute: Any) -> Any:
    return stream.extra(attribute, None)


def _trio_stream(site: Site, around: Surroundings) -> Wait | None:
    if not site.is_a("SocketStream"):
        return None
    peer = format_address(site.subject.socket.getpeername()) or "its peer"
    sends = site.function == "send_all"
    return _blocked(site, Wait(f"waits to {'send to' if sends else 'receive from'} {peer}"))


def _asyncio_stream(site: Site, around: Surroundings) -> Wait | None:
    if not site.is_a("StreamReader", "StreamWriter"):
        return None
    transport = site.subject._transport
    peer = format_address(transport.get_extra_info("peername")) or "its peer"
    sends = site.function == "drain"
    return _blocked(site, Wait(f"waits to {'send to' if sends else 'receive from'} {peer}"))


def _tls_handshake(site: Site, around: Surroundings) -> Wait | None:
    if site.module != "anyio.streams.tls":
        return None
    peer = _extra(site.local("transport_stream"), SocketAttribute.remote_address)
    peer_name = format_address(peer) or "its peer"
    return _blocked(site, Wait(f"waits in the TLS handshake with {peer_name}"))


def _accept(site: Site, around: Surroundings) -> Wait | None:
    subject = site.subject
    if subject is None or not hasattr(subject, "extra"):
        return None
    here = format_address(_extra(subject, SocketAttribute.local_address)) or "a socket"
    return _blocked(site, Wait(f"waits for connections at {here}"))


def _mended_accept(site: Site, around: Surroundings) -> Wait | None:
    # harness/transports/cancelled_futures.py: a function in the place of a method.
    raw_socket = site.local("raw_socket")
    here = format_address(raw_socket.getsockname()) or "a socket"
    return _blocked(site, Wait(f"waits for connections at {here}"))


def _connect_tcp(site: Site, around: Surroundings) -> Wait | None:
    if site.module != "anyio._core._sockets":
        return None
    address = (site.local("remote_host"), site.local("remote_port"))
    if site.goes_through("getaddrinfo"):
        return _blocked(site, Wait(f"waits for the address of {address[0]!s}"))
    return _blocked(site, Wait(f"waits for a connection to {format_address(address)}"))


def _connect_unix(site: Site, around: Surroundings) -> Wait | None:
    if site.module != "anyio._core._sockets":
        return None
    return _blocked(site, Wait(f"waits for a connection to {site.local('path')!s}"))


def _getaddrinfo(site: Site, around: Surroundings) -> Wait | None:
    host = site.local("host")
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    return _blocked(site, Wait(f"waits for the address of {host}"))


def _server_connect(site: Site, around: Surroundings) -> Wait | None:
    if not site.is_a("Server"):
        return None
    return _blocked(site, Wait(f"waits for a connection to server {site.subject.name!r}"))


def _server_serve(site: Site, around: Surroundings) -> Wait | None:
    # Said here and not where it accepts, which is a task of its own in AnyIO's MultiListener.
    if not site.is_a("Server") or not site.subject._running:
        return None
    address = format_address(site.subject.address)
    return Wait(f"{site.subject.shape.doing} at {address}")


def _server_connections(site: Site, around: Surroundings) -> Wait | None:
    wanted, live = site.local("n"), len(site.subject.connections)
    if wanted:
        text = f"{_count(wanted, 'connection')} of server {site.subject.name!r}, which has {live}"
    else:
        text = f"the last of the {live} connections of server {site.subject.name!r} to end"
    return _blocked(site, Wait(f"waits for {text}"))


def _server_stop(site: Site, around: Surroundings) -> Wait | None:
    if not site.is_a("Server"):
        return None
    # One that accepts by itself has no handlers that the harness knows.
    live = len(site.subject._live)
    handlers = f"{_count(live, 'handler')} of " if live else ""
    return _blocked(site, Wait(f"waits for {handlers}server {site.subject.name!r} to stop"))


def _supervisor_close(site: Site, around: Surroundings) -> Wait | None:
    if not site.is_a("Supervisor"):
        return None
    return _blocked(site, Wait(f"waits for the tasks of {site.subject.name} to stop"))


def _settle(site: Site, around: Surroundings) -> Wait | None:
    # Said of a runnable task, too: on asyncio it turns the loop, on trio it is blocked.
    return Wait("waits until every other task is blocked")


def _wait(site: Site, around: Surroundings) -> Wait | None:
    if site.is_a("Event"):
        text = "waits for an event"
    elif site.is_a("Condition"):
        text = "waits for a condition"
    elif site.is_a("Barrier"):
        text = "waits at a barrier"
    elif site.is_a("Process"):
        text = f"waits for process {site.subject.pid} to end"
    elif site.is_a("TaskHandle"):
        text = f"waits for task {site.subject.name!r} to end"
    else:
        return None
    return _blocked(site, Wait(text))


def _acquire(site: Site, around: Surroundings) -> Wait | None:
    subject = site.subject
    if site.is_a("Lock", "LockAdapter", "Condition", "StrictFIFOLock"):
        owner = _owner(subject)
        text = "waits for a lock" + (f", held by {owner!r}" if owner else "")
    elif site.is_a("Semaphore"):
        text = "waits for a semaphore"
    elif site.is_a("CapacityLimiter"):
        taken, total = subject.borrowed_tokens, subject.total_tokens
        text = f"waits for a capacity limiter: {taken} of {total:g} tokens are taken"
    else:
        return None
    return _blocked(site, Wait(text))


def _owner(lock: Any) -> str | None:
    statistics = getattr(lock, "statistics", None)
    if statistics is None:  # asyncio's own lock does not know
        return None
    found = statistics()
    owner = getattr(found, "lock_statistics", found).owner
    return None if owner is None else title_of(owner)


def title_of(owner: Any) -> str:
    """What the tree calls the task of AnyIO's ``TaskInfo`` or trio's ``Task`` ``owner``."""
    from .loopview import _title

    return _title(str(owner.name), owner.coro)


def _queue(site: Site, around: Surroundings) -> Wait | None:
    if not site.is_a("Queue"):
        return None
    words = "put into a queue: it is full" if site.function == "put" else "get from an empty queue"
    return _blocked(site, Wait(f"waits to {words}"))


def _future_wait(site: Site, around: Surroundings) -> Wait | None:
    awaited = site.local("fs")
    if awaited is None:
        return None
    return _blocked(site, Wait(f"waits for {_count(len(awaited), 'task')}"))


def _sleep(site: Site, around: Surroundings) -> Wait | None:
    """``sleep``, ``sleep_until`` and ``sleep_forever`` of all three libraries."""
    if site.task.state == "runnable":
        return None
    seconds = site.local("delay")
    if seconds is None:
        seconds = site.local("seconds")
    if site.function == "sleep_forever" or seconds == math.inf:
        return Wait("sleeps forever")
    until = site.local("deadline")
    for frame in (site.frame, *site.inner):
        if until is not None:
            break
        if frame.f_code.co_name == "sleep_until":  # trio/_timeouts.py
            until = site.local("deadline", frame)
        else:  # asyncio/tasks.py, sleep: the timer of it
            timer = site.local("h", frame)
            until = timer.when() if hasattr(timer, "when") else None
    if until is None:
        return None
    if until == math.inf:
        return Wait("sleeps forever")
    return Wait(f"sleeps for another {max(until - around.now, 0):.1f} s", until=until)


def _limit(site: Site) -> str:
    """How many threads there may be, in words."""
    for frame in (site.frame, *site.inner):
        if frame.f_code.co_name == "acquire_on_behalf_of":
            total = getattr(site.local("self", frame), "total_tokens", None)
            if total is not None:
                return f" of {total:g}"
    return ""


def _thread(site: Site, around: Surroundings) -> Wait | None:
    """A function that runs in a worker thread; AnyIO's, asyncio's and trio's way."""
    function = site.local("sync_fn" if site.function == "to_thread_run_sync" else "func")
    if function is None:
        return None
    name = _function_name(function)
    if site.goes_through("acquire_on_behalf_of"):
        return _blocked(site, Wait(f"waits for a free worker thread{_limit(site)} for {name}"))
    thread = None
    for frame in (site.frame, *site.inner):
        if frame.f_code.co_name == "run_sync_in_worker_thread":  # AnyIO on asyncio
            worker = site.local("worker", frame)
            thread = around.threads.get(getattr(worker, "ident", None) or 0)
        elif frame.f_code.co_name == "to_thread_run_sync":  # trio/_threads.py
            thread = _thread_with(site.local("task_register", frame), around)
    return _blocked(site, Wait(f"waits for a thread: {name}", thread, uncancellable=True))


def _thread_with(register: Any, around: Surroundings) -> FrameType | None:
    """The thread in which trio's ``worker_fn`` has this very ``task_register``."""
    for inmost in around.threads.values():
        frame: FrameType | None = inmost
        while frame is not None:
            if frame.f_code.co_name == "worker_fn" and is_machinery(frame):
                # Not through Site.local(): this frame runs, in its own thread.
                if frame.f_locals.get("task_register") is register:
                    return inmost
                break
            frame = frame.f_back
    return None


def _function_name(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", None) or type(function).__name__
    return str(name).rpartition("<locals>.")[2]


def _children(site: Site, around: Surroundings) -> Wait | None:
    if not site.is_a("TaskGroup", "NurseryManager", "Nursery"):
        return None
    count = around.children
    text = "waits for its child" if count == 1 else f"waits for its {count} children"
    return _blocked(site, Wait(text if count else "leaves a task group", uncancellable=True))


def _start(site: Site, around: Surroundings) -> Wait | None:
    if not site.is_a("TaskGroup", "Nursery"):
        return None
    name = site.local("final_name") or site.local("name") or "a task"
    # A server of the harness, which may know better.
    shape = getattr(getattr(site.local("func"), "__self__", None), "shape", None)
    text = f"waits for {name!s} to call task_status.started(){getattr(shape, 'instead', '')}"
    return _blocked(site, Wait(text))


def _descriptor(site: Site, around: Surroundings) -> Wait | None:
    for name in ("obj", "sock", "fd"):
        subject = site.local(name)
        if subject is not None:
            break
    else:
        return None
    number = subject if isinstance(subject, int) else subject.fileno()
    able = site.function.removeprefix("wait_")
    return _blocked(site, Wait(f"waits until descriptor {number} is {able}"))


def _process_child(site: Site, around: Surroundings) -> Wait | None:
    if not site.is_a("Child"):
        return None
    what = {"until_ended": "to end", "until_stopped": "to stand still", "copy_output": "to write"}
    return _blocked(site, Wait(f"waits for process {site.subject.pid} {what[site.function]}"))


def _process_line(site: Site, around: Surroundings) -> Wait | None:
    if not site.is_a("Process"):
        return None
    pattern = site.local("pattern").pattern
    return _blocked(
        site, Wait(f"waits for a line of process {site.subject.pid} that matches {pattern!r}")
    )


def _process_over(site: Site, around: Surroundings) -> Wait | None:
    if not site.is_a("Process"):
        return None
    return _blocked(site, Wait(f"waits for process {site.subject.pid} to end"))


def _signal(site: Site, around: Surroundings) -> Wait | None:
    if not site.is_a("_SignalReceiver"):
        return None
    return _blocked(site, Wait("waits for a signal"))


def _fixture(site: Site, surroundings: Surroundings) -> Wait | None:
    if site.module != "harness.steps" or site.local("self")._in_step:
        return None
    return Wait("stands at its yield")


#: By the name of the function that a frame runs.
RULES: Mapping[str, Rule] = {
    "_hold": _fixture,
    "pass_on": _pass_on,
    "receive": _receive,
    "send": _send,
    "receive_some": _trio_stream,
    "send_all": _trio_stream,
    "read": _asyncio_stream,
    "readline": _asyncio_stream,
    "readexactly": _asyncio_stream,
    "readuntil": _asyncio_stream,
    "drain": _asyncio_stream,
    "wrap": _tls_handshake,
    "accept": _accept,
    "mended_accept": _mended_accept,
    "connect_tcp": _connect_tcp,
    "connect_unix": _connect_unix,
    "getaddrinfo": _getaddrinfo,
    "_connect": _server_connect,
    "_serve": _server_serve,
    "wait_connections": _server_connections,
    "_stop": _server_stop,
    "_drain": _server_stop,
    "aclose": _supervisor_close,
    "settle": _settle,
    "wait_all_tasks_blocked": _settle,
    "wait": lambda site, around: _wait(site, around) or _future_wait(site, around),
    "acquire": _acquire,
    "acquire_on_behalf_of": _acquire,
    "get": _queue,
    "put": _queue,
    "sleep": _sleep,
    "sleep_until": _sleep,
    "sleep_forever": _sleep,
    "run_sync": _thread,
    "to_thread_run_sync": _thread,
    "to_thread": _thread,
    "__aexit__": _children,
    "start": _start,
    "until_ended": _process_child,
    "until_stopped": _process_child,
    "copy_output": _process_child,
    "_until_ready": _process_line,
    "_until_written": _process_line,
    "_until_over": _process_over,
    "wait_readable": _descriptor,
    "wait_writable": _descriptor,
    "__anext__": _signal,
}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
