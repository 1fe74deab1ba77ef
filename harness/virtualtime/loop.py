"""An event loop of asyncio or uvloop whose time is virtual.

:func:`virtual_loop` takes any loop and puts a class between the loop and its own that keeps the
ready queue and the timers: ``call_soon``, ``call_later``, ``call_at`` and ``time`` never reach the
loop below. Of that one, this one asks a single thing: to be called at its next turn. So the loop
below polls its sockets, this one runs what they wake, and when there is nothing left to run, time
goes on.

The order in which handles are run is decided in one place, :meth:`LoopTime._run_turn`.
"""

from __future__ import annotations

import _thread
import asyncio
import functools
import heapq
import itertools
import logging
import math
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import Any

from .contract import START, Hold, Timeline
from .order import Numbering
from .processes import in_words, is_worker
from .workers import hold_in_executor, hold_of_thread, waits_for_loop

#: Turns of the loop below, each with a look at its sockets, that have to find nothing to do before
#: all is quiet. One finds bytes that were sent before it, one the callbacks that those cause, one
#: the tasks that the callbacks wake.
QUIET_TURNS = 3

#: Turns in a row without a look at the loop below, as long as nothing has asked for its sockets.
TURNS_AT_ONCE = 64

#: Cancelled timers to keep before they are thrown out; asyncio has the same rule.
MANY_CANCELLED = 100

#: Methods of an event loop through which it gets to do with the world outside.
OUTWARD = (
    "add_reader",
    "add_signal_handler",
    "add_writer",
    "connect_accepted_socket",
    "connect_read_pipe",
    "connect_write_pipe",
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "getaddrinfo",
    "getnameinfo",
    "sendfile",
    "sock_accept",
    "sock_connect",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendfile",
    "sock_sendto",
    "start_tls",
    "subprocess_exec",
    "subprocess_shell",
)


_logger = logging.getLogger("asyncio")


class LoopTime(Timeline):
    """The time of one loop, what is ready in it, and what is due when."""

    def __init__(self) -> None:
        super().__init__()
        self._now = START
        self._real_base = 0.0
        self._rate = 0.0
        #: what runs next, in this order; the handles of one turn are those that are in it when
        #: the turn begins
        self.ready: deque[asyncio.Handle] = deque()
        #: a heap: when, in which order it was set, what
        self.timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self.cancelled: int = 0
        self.tasks: Numbering = Numbering()
        self._numbers = itertools.count()
        #: what other threads and signal handlers have asked to be run
        self.incoming: deque[asyncio.Handle] = deque()
        self._settling: list[tuple[asyncio.Future[bool], float]] = []
        self._turns = 0
        self._quiet = 0
        #: the loop below has been asked to call, or is calling
        self.called: bool = True
        self.outward: bool = False
        self.stopping: bool = False
        self.closed: bool = False
        self.thread_id: int | None = None
        self.debug: bool = False
        #: the loop below calls our `getaddrinfo` for all names
        self.looks_up_by_us: bool = False
        #: real seconds
        self.slow_callback_duration: float = math.inf
        #: handles of ours are being run, and not those of the loop below
        self.turning: bool = False
        self._loop: Any = None
        self._call_below: Callable[..., Any] = _nothing
        self._call_below_from_thread: Callable[..., Any] = _nothing
        #: the real time of the next look
        self._alarm = math.inf
        self._poll: select.poll | None = None

    def attach(self, loop: Any) -> None:
        """Be the time of ``loop``."""
        self._loop = loop
        below = loop._below
        self.looks_up_by_us = isinstance(loop, asyncio.BaseEventLoop)
        context = Context()  # one for all turns: making one for each would cost more than the turn
        self._call_below = functools.partial(below.call_soon, self._turn, context=context)
        self._call_below_from_thread = functools.partial(
            below.call_soon_threadsafe, context=Context()
        )
        # uvloop calls protocols from C, and so may do much without a handle of ours. Its method is
        # for uvloop's own tests (uvloop/loop.pyx, Loop._get_backend_id); epoll and kqueue can
        # themselves be polled.
        backend_id = getattr(loop, "_get_backend_id", None)
        if backend_id is not None and hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(backend_id(), select.POLLIN)
        self.called = False

    # The clock

    def now(self) -> float:
        if self._rate:
            return self._now + (time.perf_counter() - self._real_base) * self._rate
        return self._now

    def jump_to(self, when: float) -> None:
        self._now = when
        if self._rate:
            self._real_base = time.perf_counter()
        if self.followers:
            self.follow()
        self.ask()

    def deadline(self) -> float:
        timers = self.timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)[2]._scheduled = False  # type: ignore[attr-defined]
            self.cancelled -= 1
        return timers[0][0] if timers else math.inf

    @property
    def rate(self) -> float:
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self._now, self._real_base = self.now(), time.perf_counter()
        self._rate = rate

    def resume(self) -> None:
        self.ask()

    def settle(self, turns: int | None = None) -> asyncio.Future[bool]:
        """A future for when nothing is left to run; ``False`` if that takes more than ``turns``."""
        future: asyncio.Future[bool] = self._loop.create_future()
        self._settling.append((future, math.inf if turns is None else self._turns + turns))
        self.ask()
        return future

    def is_here(self) -> bool:
        return getattr(asyncio._get_running_loop(), "_virtual", None) is self

    def soon(self, callback: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(callback)

    # What the loop calls

    def ask(self) -> None:
        """Have the loop below call, if it does not yet."""
        if not self.called and not self.closed:
            self.called = True
            self._call_below()

    def add_timer(self, handle: asyncio.TimerHandle) -> None:
        heapq.heappush(self.timers, (handle._when, next(self._numbers), handle))  # type: ignore[attr-defined]
        handle._scheduled = True  # type: ignore[attr-defined]
        self.ask()

    def timer_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if not handle._scheduled:  # type: ignore[attr-defined]
            return
        self.cancelled += 1
        if self.cancelled > MANY_CANCELLED and self.cancelled * 2 > len(self.timers):
            kept = []
            for timer in self.timers:
                # The one that is being cancelled is not marked yet.
                if timer[2]._cancelled or timer[2] is handle:
                    timer[2]._scheduled = False  # type: ignore[attr-defined]
                else:
                    kept.append(timer)
            heapq.heapify(kept)
            self.timers = kept
            self.cancelled = 0

    def receive(self) -> None:
        """Take over what other threads have asked for."""
        while self.incoming:
            self.ready.append(self.incoming.popleft())
        self.ask()

    def close(self) -> None:
        self.closed = True
        self.ready.clear()
        self.timers.clear()
        self.incoming.clear()

    # Turns

    def _turn(self) -> None:
        """Called by the loop below."""
        asleep = False
        self.turning = True
        try:
            if self.outward:
                if self._run_turn():
                    self._quiet = 0
                elif self._quiet < QUIET_TURNS:
                    self._quiet += 1
                elif self._is_busy_below():
                    self._quiet = 0
                else:
                    asleep = not self._pass_time()
                    self._quiet = 0
                return
            for _ in range(TURNS_AT_ONCE):
                if self.stopping or self.outward:
                    return
                if self.ready or self.incoming:
                    self._run_turn()
                elif not self._pass_time():
                    asleep = True
                    return
        finally:
            # Ctrl-C may be on its way through here.
            self.called = self.turning = False
            if not asleep or self.ready or self.incoming:
                self.ask()

    def _run_turn(self) -> bool:
        """Run what is ready now; tell whether anything was."""
        while self.incoming:
            self.ready.append(self.incoming.popleft())
        ready, timers = self.ready, self.timers
        if timers and timers[0][0] <= (self.now() if self._rate else self._now):
            self._fall_due()
        count = len(ready)
        if not count:
            return False
        self._turns += 1
        if self.debug:
            self._run_measured(count)
        else:
            for _ in range(count):
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
        if self._settling:
            self._settled(lambda until: until <= self._turns, False)
        return True

    def _run_measured(self, count: int) -> None:
        """Run so many handles, and tell of those that block the loop, as asyncio and uvloop do."""
        for _ in range(count):
            handle = self.ready.popleft()
            if handle._cancelled:
                continue
            begin = time.perf_counter()
            handle._run()
            seconds = time.perf_counter() - begin
            if seconds >= self.slow_callback_duration:
                what = asyncio.base_events._format_handle(handle)  # type: ignore[attr-defined]
                _logger.warning("Executing %s took %.3f seconds", what, seconds)

    def _fall_due(self) -> None:
        """Put the timers whose time has come behind what is ready."""
        timers, now = self.timers, self.now()
        while timers and timers[0][0] <= now:
            handle = heapq.heappop(timers)[2]
            handle._scheduled = False  # type: ignore[attr-defined]
            if handle._cancelled:
                self.cancelled -= 1
            else:
                self.ready.append(handle)

    def _pass_time(self) -> bool:
        """Everything is blocked: let time go on; tell whether there is something to run then."""
        if self.stopping:
            return False
        deadline = self.deadline()
        if deadline <= self.now():
            self._fall_due()
            return True
        if self._settling:
            self._settled(lambda until: True, True)
            return True
        if self._rate and not self.autojump and deadline < math.inf:
            self._wake_in(max(0.0, deadline - self.now()) / self._rate)
            return False
        if (self.holds or self.may_lead_out) and self.is_held():
            self._look_again()
            return False
        if self.incoming:  # from a thread that held the time until it called, which was just now
            return True
        if self.autojump and deadline < math.inf:
            self.jump_to(deadline)
            return True
        if self.is_deadlocked():
            self.deadlock()
        else:
            self._look_again()
        return bool(self.ready or self.incoming)

    def _is_busy_below(self) -> bool:
        return self._poll is not None and bool(self._poll.poll(0))

    def sockets_may_change(self) -> None:
        """The loop gets to do with the world outside."""
        self.outward = self.may_lead_out = True

    def touched(self) -> None:
        """The loop below has something to run that is not from here."""
        self._quiet = 0

    def _settled(self, which: Callable[[float], bool], result: bool) -> None:
        waiting, self._settling = self._settling, []
        for future, until in waiting:
            if not which(until):
                self._settling.append((future, until))
            elif not future.done():
                future.set_result(result)

    def _look_again(self) -> None:
        if self.look_again_in < math.inf:
            self._wake_in(self.look_again_in)

    def _wake_in(self, seconds: float) -> None:
        """Look again after so many seconds of real time."""
        at = time.perf_counter() + seconds
        if at < self._alarm:
            self._alarm = at
            # The timers of asyncio's own loop go by its `time()`, which is this one. Not a
            # `threading.Thread`: it is not the test's.
            _thread.start_new_thread(self._ring, (at,))

    def _ring(self, at: float) -> None:
        time.sleep(max(0.0, at - time.perf_counter()))
        if self._alarm == at:
            self._alarm = math.inf
        with suppress(RuntimeError):  # the loop is closed
            self._call_below_from_thread(self.ask)


class VirtualTimeLoop(asyncio.AbstractEventLoop):
    """Stands in front of a loop's own class."""

    _virtual: LoopTime
    #: the methods of the loop below
    _below: Any

    def time(self) -> float:
        return self._virtual.now()

    @property
    def slow_callback_duration(self) -> float:
        """Real seconds. The loop below sees only whole turns, which count for nothing."""
        virtual = self._virtual
        is_below = virtual.thread_id is not None and not virtual.turning
        return math.inf if is_below else virtual.slow_callback_duration

    @slow_callback_duration.setter
    def slow_callback_duration(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, seconds: float
    ) -> None:
        self._virtual.slow_callback_duration = seconds

    def set_debug(self, enabled: bool) -> None:
        self._below.set_debug(enabled)
        self._virtual.debug = enabled

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        virtual = self._virtual
        if virtual.closed:
            raise RuntimeError("Event loop is closed")
        if virtual.debug and threading.get_ident() != virtual.thread_id is not None:
            raise RuntimeError(
                "Non-thread-safe operation invoked on an event loop other than the current one"
            )
        handle = asyncio.Handle(callback, args, self, context)
        virtual.ready.append(handle)
        if not virtual.called:
            virtual.ask()
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        if delay is None:
            raise TypeError("delay must not be None")
        return self.call_at(self._virtual.now() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        if when is None:
            raise TypeError("when cannot be None")
        if self._virtual.closed:
            raise RuntimeError("Event loop is closed")
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._virtual.add_timer(handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self._virtual.timer_cancelled(handle)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        if self.get_task_factory() is not None:
            made: asyncio.Task[Any] = self._below.create_task(coro, **options)
            return made
        if self._virtual.closed:
            raise RuntimeError("Event loop is closed")
        return self._virtual.tasks.make(self, coro, **options)

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        virtual = self._virtual
        handle = asyncio.Handle(callback, args, self, context)
        virtual.incoming.append(handle)
        hold = hold_of_thread()
        if hold is not None:  # not before the loop has something to do
            hold.suspended = waits_for_loop(callback) or hold.suspended
        try:
            self._below.call_soon_threadsafe(virtual.receive, context=Context())
        except RuntimeError:  # the loop is closed
            virtual.incoming.clear()
            raise
        return handle

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        submit = self._below.run_in_executor
        return hold_in_executor(self._virtual, submit, executor, func, *args)

    async def shutdown_default_executor(self, *args: Any) -> None:
        with Hold(self._virtual, "the end of the default executor"):
            await self._below.shutdown_default_executor(*args)

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        with self._in_flight(f"getaddrinfo({host!r}, {port!r})"):
            return await self._below.getaddrinfo(host, port, **options)

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> Any:
        with self._in_flight(f"getnameinfo({sockaddr!r})"):
            return await self._below.getnameinfo(sockaddr, flags)

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        connect = self._below.create_connection
        self._virtual.sockets_may_change()
        if self._virtual.looks_up_by_us or host is None:
            return await connect(protocol_factory, host, port, **options)
        # uvloop looks names up in C; the time has to be held for that, and not for the handshake.
        family = _family_of(host)
        if family is not None:
            options = await self._with_local_address(options, family)
            return await connect(protocol_factory, host, port, **options)
        found = await self.getaddrinfo(
            host, port, family=options.get("family", 0), type=socket.SOCK_STREAM
        )
        if options.get("ssl") and options.get("server_hostname") is None:
            options["server_hostname"] = host
        for number, (family, *_, address) in enumerate(found, 1):
            given = await self._with_local_address(options, family)
            try:
                return await connect(protocol_factory, address[0], port, **given)
            except OSError:
                if number == len(found):
                    raise
        return await connect(protocol_factory, host, port, **options)

    async def _with_local_address(self, options: dict[str, Any], family: int) -> dict[str, Any]:
        """``options`` with an address where ``local_addr`` has a name."""
        local = options.get("local_addr")
        if local is None or _family_of(local[0]) is not None:
            return options
        found = await self.getaddrinfo(*local, family=family, type=socket.SOCK_STREAM)
        return {**options, "local_addr": found[0][-1][:2]}

    async def create_server(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        # uvloop looks addresses up in C, too. There is nothing in it that goes by a timer.
        with self._in_flight(f"create_server(..., {host!r}, {port!r})"):
            return await self._below.create_server(protocol_factory, host, port, **options)

    async def create_datagram_endpoint(
        self, protocol_factory: Any, *args: Any, **options: Any
    ) -> Any:
        with self._in_flight("create_datagram_endpoint()"):
            return await self._below.create_datagram_endpoint(protocol_factory, *args, **options)

    async def subprocess_exec(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        return await self._hold_process(
            self._below.subprocess_exec, args, protocol_factory, options
        )

    async def subprocess_shell(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        return await self._hold_process(
            self._below.subprocess_shell, args, protocol_factory, options
        )

    async def _hold_process(
        self, start: Any, args: tuple[Any, ...], protocol_factory: Any, options: Any
    ) -> Any:
        virtual = self._virtual
        virtual.sockets_may_change()
        if is_worker(args):
            return await start(protocol_factory, *args, **options)
        hold = Hold(virtual, "a process that is being started").__enter__()
        try:
            made = await start(protocol_factory, *args, **options)
        except BaseException:
            hold.release()
            raise
        transport: Any = made[0]
        hold.pid = transport.get_pid()
        hold.what = f"process {hold.pid}: {in_words(args)}"
        # Not before the loop knows of its end: what waits for that must be first to run then.
        hold.suspended = lambda: transport.get_returncode() is not None
        return made

    def _in_flight(self, what: str) -> Hold:
        self._virtual.sockets_may_change()
        return Hold(self._virtual, what)

    def _add_callback(self, handle: asyncio.Handle) -> None:
        # asyncio/base_events.py: what the selector found goes this way.
        self._virtual.touched()
        self._below._add_callback(handle)

    def run_forever(self) -> None:
        virtual = self._virtual
        virtual.stopping = False
        virtual.thread_id = threading.get_ident()
        virtual.debug = self.get_debug()
        virtual.ask()
        try:
            self._below.run_forever()
        finally:
            virtual.thread_id = None

    def stop(self) -> None:
        self._virtual.stopping = True
        self._below.stop()

    def close(self) -> None:
        self._below.close()
        self._virtual.close()


def _family_of(host: Any) -> int | None:
    """That of an address; nothing if it is a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError, TypeError):
            socket.inet_pton(family, host)
            return family
    return None


def _nothing(*args: Any, **options: Any) -> None:
    pass


def _outward(name: str) -> Callable[..., Any]:
    def method(self: VirtualTimeLoop, *args: Any, **options: Any) -> Any:
        self._virtual.sockets_may_change()
        return getattr(self._below, name)(*args, **options)

    method.__name__ = name
    return method


for _name in OUTWARD:
    if _name not in vars(VirtualTimeLoop):
        setattr(VirtualTimeLoop, _name, _outward(_name))


_classes: dict[type, type] = {}


def virtual_loop(loop: asyncio.AbstractEventLoop, virtual: LoopTime) -> asyncio.AbstractEventLoop:
    """Give ``loop``, which has not run yet, the time ``virtual``."""
    below = type(loop)
    if below not in _classes:
        # AnyIO and others tell uvloop by the module of the loop's class.
        namespace = {"__module__": below.__module__, "__doc__": VirtualTimeLoop.__doc__}
        _classes[below] = type(f"Virtual{below.__name__}", (VirtualTimeLoop, below), namespace)
    virtual.slow_callback_duration = getattr(loop, "slow_callback_duration", math.inf)
    loop.slow_callback_duration = math.inf  # uvloop looks at it in C
    loop.__class__ = _classes[below]
    loop._virtual = virtual  # type: ignore[attr-defined]
    loop._below = super(VirtualTimeLoop, loop)  # type: ignore[attr-defined]
    virtual.attach(loop)
    return loop
