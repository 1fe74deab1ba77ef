"""What an event loop tells while a check looks: tasks, timers, and what uvloop makes in C.

On asyncio and uvloop the methods of the *running loop object* are replaced, by attributes of the
instance. So it works for every loop class, a project's own and one that a wider-scoped fixture
holds included, and nothing is left when the check has ended. On trio an instrument tells of tasks.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Callable
from typing import Any, Protocol

from ..backends import current_library
from ..diagnostics.stacks import Place
from ..hooks import Hook, Hooks
from .contract import Owner, owner
from .places import Birth, births, here, is_users, skip_library_of

_numbers = itertools.count(1)


def next_number() -> int:
    """A number larger than those of all tasks so far."""
    return next(_numbers)


class Listener(Protocol):
    """Who hears of what an asyncio event loop makes."""

    def made_timer(
        self, handle: asyncio.TimerHandle, place: Place | None, whose: Owner | None
    ) -> None: ...

    def made_descriptor(self, fd: int, place: Place | None, whose: Owner | None) -> None: ...

    def made_transport(self, transport: Any) -> None: ...

    def made_process(
        self, pid: int, name: str, place: Place | None, whose: Owner | None
    ) -> None: ...

    def called_exception_handler(self, context: dict[str, Any]) -> bool: ...


class LoopWatch:
    """Listens to the event loops that a test is run in.

    :ivar is_new: whether the last :meth:`entered_loop` was the first in its loop
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._loops: list[asyncio.AbstractEventLoop] = []
        self._instrument: Any = None
        self.is_new: bool = False

    def entered_loop(self) -> None:
        """Listen to the loop that is running. Idempotent."""
        if current_library() == "trio":
            self._entered_trio()
            return
        loop = asyncio.get_running_loop()
        self.is_new = all(each is not loop for each in self._loops)
        if not self.is_new:
            return
        self._loops.append(loop)
        skip_library_of(loop)
        _hooks_of(loop).listen(self._listener)

    def _entered_trio(self) -> None:
        import trio

        token = trio.lowlevel.current_trio_token()
        self.is_new = self._instrument is None or self._instrument.token is not token
        if not self.is_new:
            return
        if self._instrument is not None:
            self._instrument.stop()
        self._instrument = _trio_instrument()(token)
        trio.lowlevel.add_instrument(self._instrument)

    def stop(self) -> None:
        for loop in self._loops:
            hooks = _hooks_of(loop)
            hooks.leave(self._listener)
            if not hooks.listeners:
                _hooks.pop(id(loop), None)
        self._loops.clear()
        if self._instrument is not None:
            self._instrument.stop()
            self._instrument = None


# --- asyncio and uvloop

#: The hooks of the loops that are listened to, by the loop's id; they hold the loop.
_hooks: dict[int, Hooks[Listener]] = {}

#: Methods that make sockets, pipes and processes.
_MAKERS = (
    "connect_accepted_socket",
    "connect_read_pipe",
    "connect_write_pipe",
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "subprocess_exec",
    "subprocess_shell",
)


def _hooks_of(loop: asyncio.AbstractEventLoop) -> Hooks[Listener]:
    try:
        return _hooks[id(loop)]
    except KeyError:
        pass
    hooks: list[Hook[Listener]] = [
        Hook(loop, "create_task", _create_task),
        Hook(loop, "call_later", _call_later_or_at),
        Hook(loop, "call_at", _call_later_or_at),
        Hook(loop, "call_exception_handler", _call_exception_handler),
    ]
    if isinstance(loop, asyncio.BaseEventLoop):
        # The others are made of Python's own sockets and processes, which are heard of themselves.
        hooks.append(Hook(loop, "connect_accepted_socket", _maker))
    else:
        hooks.extend(Hook(loop, name, _maker) for name in _MAKERS)
    return _hooks.setdefault(id(loop), Hooks(*hooks))


def _create_task(original: Callable[..., Any], hook: Hook[Listener]) -> Callable[..., Any]:
    def create_task(coro: Any, **options: Any) -> Any:
        task = original(coro, **options)
        # run_until_complete makes its task before it runs the loop: nobody's task.
        if asyncio._get_running_loop() is not None:
            context = options.get("context")
            whose = owner.get() if context is None else context.get(owner)
            births[task] = Birth(next(_numbers), here(), whose)
        return task

    return create_task


def _call_later_or_at(original: Callable[..., Any], hook: Hook[Listener]) -> Callable[..., Any]:
    def call(when: float, callback: Callable[..., Any], *args: Any, **options: Any) -> Any:
        handle = original(when, callback, *args, **options)
        # Only what the user's code itself calls: asyncio's own timers have owners of other kinds.
        if is_users(sys._getframe(1)):
            place, whose = here(), owner.get()
            for listener in hook.listeners:
                listener.made_timer(handle, place, whose)
        return handle

    return call


def _call_exception_handler(
    original: Callable[..., Any], hook: Hook[Listener]
) -> Callable[..., Any]:
    def call_exception_handler(context: dict[str, Any]) -> None:
        taken = [listener.called_exception_handler(context) for listener in hook.listeners]
        if not any(taken):
            original(context)

    return call_exception_handler


def _maker(original: Callable[..., Any], hook: Hook[Listener]) -> Callable[..., Any]:
    async def make(*args: Any, **options: Any) -> Any:
        place, whose = here(), owner.get()
        made = await original(*args, **options)
        for fd in _descriptors(made):
            for listener in hook.listeners:
                listener.made_descriptor(fd, place, whose)
        if isinstance(made, tuple):
            transport: Any = made[0]
            for listener in hook.listeners:
                listener.made_transport(transport)
            if hasattr(transport, "get_pid"):
                program = args[1:] if args and callable(args[0]) else args
                name = " ".join(str(part) for part in program)
                for listener in hook.listeners:
                    listener.made_process(transport.get_pid(), name, place, whose)
        return made

    return make


def _descriptors(made: Any) -> list[int]:
    """The descriptors behind what a method of a loop returned."""
    if not isinstance(made, tuple):
        return [each.fileno() for each in getattr(made, "sockets", ())]
    transport = made[0]
    transports = [transport]
    if hasattr(transport, "get_pid"):
        transports = [transport.get_pipe_transport(number) for number in (0, 1, 2)]
    found = []
    for each in transports:
        if each is not None:
            file = each.get_extra_info("socket") or each.get_extra_info("pipe")
            if file is not None:
                found.append(file.fileno())
    return found


# --- trio

_instrument_class: Any = None


def _trio_instrument() -> Any:
    """The class of the instrument; made when trio runs, so that asyncio does not import trio."""
    global _instrument_class
    if _instrument_class is not None:
        return _instrument_class
    import trio

    class TellTasks(trio.abc.Instrument):
        def __init__(self, token: Any) -> None:
            self.token: Any = token
            self._stopped = False

        def task_spawned(self, task: trio.lowlevel.Task) -> None:
            if self._stopped:
                # Only an event loop that is running lets go of an instrument.
                trio.lowlevel.remove_instrument(self)
            elif task not in births:
                births[task] = Birth(next(_numbers), here(), task.context.get(owner))

        def stop(self) -> None:
            self._stopped = True
            if trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self.token:
                trio.lowlevel.remove_instrument(self)

    _instrument_class = TellTasks
    return TellTasks
