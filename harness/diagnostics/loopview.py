"""An event loop seen from anywhere: its tasks, their parents, their states, at one moment.

A :class:`LoopView` is made in the loop and can be used in another thread while the loop is blocked
or spins, when nothing can be run in it any more. So it calls nothing that needs a running loop, and
reads what AnyIO, asyncio and trio keep of a task. Read from another thread while the loop goes on,
a tree may show one task a moment later than the next.
"""

from __future__ import annotations

import asyncio
import math
import re
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal, TypeVar

from ..backends import current_library
from ..settling import is_blocked
from .stacks import await_stack, line_of

T = TypeVar("T")

State = Literal["running", "runnable", "blocked"]

#: How often a collection is read again that another thread was changing.
TRIES = 1000

#: What AnyIO's test runner calls the coroutine function of its only task, on both libraries.
RUNNER = "_run_tests_and_fixtures"

#: The name of the task that runs a test's body.
TEST = "the test"

#: What runs outside of every task. trio has a task for callbacks, asyncio has none.
CALLBACK = "a callback of the event loop"


@dataclass(frozen=True, eq=False)
class TaskRecord:
    """One task at the moment it was looked at.

    :ivar id: AnyIO's id of it
    :ivar parent: the id of the task that its task group is entered in; ``None`` outside a group
    :ivar group: which of its parent's task groups it is in: sorts from the outermost to the inmost
    :ivar scopes: the cancel scopes around it, from the inmost on
    :ivar waits_for: the future that an asyncio task waits for
    """

    id: int
    name: str
    coroutine: Any
    parent: int | None
    group: tuple[int, int]
    state: State
    scopes: tuple[Any, ...]
    waits_for: Any = None

    def stack(self, thread: FrameType | None) -> list[tuple[FrameType, int]]:
        """Its frames, outermost first. ``thread`` is the innermost frame of the loop's thread."""
        if self.state == "running":
            outermost = _frame_of(self.coroutine)
            frames: list[tuple[FrameType, int]] = []
            while thread is not None:
                frames.append((thread, line_of(thread)))
                if thread is outermost:
                    return frames[::-1]
                thread = thread.f_back
        return list(await_stack(self.coroutine))

    def deadline(self) -> float:
        """When a cancel scope will cancel it, by the loop's clock; infinite if none will."""
        deadline = math.inf
        for scope in self.scopes:
            deadline = min(deadline, scope.deadline)
            if scope.shield:
                break
        return deadline

    def cancelled(self) -> Literal["cancelled", "shielded"] | None:
        """Whether a cancel scope around it is cancelled, and whether a shield is in between."""
        shielded = False
        for scope in self.scopes:
            # trio's public property looks at the clock, which needs a running loop, and may cancel.
            # (trio/_core/_run.py and anyio/_backends/_asyncio.py, class CancelScope)
            if scope._cancel_called:
                return "shielded" if shielded else "cancelled"
            shielded = shielded or scope.shield
        return None


class LoopView:
    """What is running in one event loop. Made by :meth:`here`, in the loop.

    :ivar library: ``"asyncio"`` or ``"trio"``
    :ivar thread_id: the thread that the loop runs in, as in ``threading.get_ident()``
    """

    def __init__(
        self,
        library: str,
        thread_id: int,
        time: Callable[[], float],
        snapshot: Callable[[], list[TaskRecord]],
    ) -> None:
        self.library = library
        self.thread_id = thread_id
        self._time = time
        self._snapshot = snapshot

    @classmethod
    def here(cls) -> LoopView:
        """The event loop that runs this code. Raises :exc:`RuntimeError` outside of one."""
        library = current_library()
        thread_id = threading.get_ident()
        if library == "trio":
            import trio

            root = trio.lowlevel.current_root_task()
            clock = trio.lowlevel.current_clock()
            return cls(library, thread_id, clock.current_time, lambda: _trio_tasks(root))
        loop = asyncio.get_running_loop()
        return cls(library, thread_id, loop.time, lambda: _asyncio_tasks(loop))

    def time(self) -> float:
        """The loop's clock, in seconds."""
        return self._time()

    def tasks(self) -> list[TaskRecord]:
        """The tasks that have not ended, in the order in which they were started."""
        return self._snapshot()

    def frame(self) -> FrameType | None:
        """The innermost frame of the loop's thread; ``None`` once that has ended."""
        return sys._current_frames().get(self.thread_id)


def retry(read: Callable[[], T]) -> T:
    """``read()``, once more whenever the loop's thread changes what is read meanwhile."""
    for _ in range(TRIES):
        try:
            return read()
        except RuntimeError:  # "set changed size during iteration", and the same of a dict
            continue
    return read()


def _frame_of(coroutine: Any) -> FrameType | None:
    for kind in ("cr", "ag", "gi"):
        frame: FrameType | None = getattr(coroutine, f"{kind}_frame", None)
        if frame is not None:
            return frame
    return None


def _is_running(coroutine: Any) -> bool:
    return bool(getattr(coroutine, "cr_running", False) or getattr(coroutine, "gi_running", False))


def _title(name: str, coroutine: Any) -> str:
    """``name``, or the function's where asyncio has made up a name; one form on all backends."""
    function = getattr(coroutine, "__qualname__", "")
    if function.endswith(RUNNER):
        return "the test and its fixtures"
    if name == "<TrioToken.run_sync_soon task>":  # trio/_core/_run.py, where it is started
        return CALLBACK
    # The names that AnyIO makes of its own functions: `Lock.acquire` is another one on each
    # backend, and the handler behind a TLSListener gets the name of AnyIO's module before its own.
    name = re.sub(r"^anyio\._backends\._(asyncio|trio)\.", "anyio.", name)
    name = re.sub(r"^anyio\.streams\.tls\.(?=a handler of )", "", name)
    if not re.fullmatch(r"Task-\d+", name):
        return name
    frame = _frame_of(coroutine)
    module = "" if frame is None else str(frame.f_globals.get("__name__", ""))
    return f"{module}.{function}" if module and function else function or name


def _asyncio_tasks(loop: asyncio.AbstractEventLoop) -> list[TaskRecord]:
    """The tasks of ``loop``, with AnyIO's word for the parent of each (its ``TaskState``)."""
    from anyio._backends._asyncio import _task_states

    # The states are kept in a dictionary, and so in the order in which AnyIO started the tasks.
    states = retry(lambda: dict(_task_states.items()))
    order = {task: number for number, task in enumerate(states)}
    tasks = [task for task in retry(lambda: asyncio.all_tasks(loop)) if not task.done()]
    tasks.sort(key=lambda task: (order.get(task, len(order)), _number_in(task.get_name())))
    records = []
    for task in tasks:
        coroutine: Any = task.get_coro()
        if coroutine is None:
            continue  # it has ended meanwhile
        state = states.get(task)
        scopes = () if state is None else tuple(_scopes_of_asyncio(state.cancel_scope))
        parent = _parent_in_asyncio(task) if state is None else state.parent_id
        group = (0, 0)
        for depth, scope in enumerate(reversed(scopes)):
            if id(scope._host_task) == parent:
                group = (depth, 0)
        # What a task waits for. `Task` has no public word for it; AnyIO reads it too.
        waiter = getattr(task, "_fut_waiter", None)
        if _is_running(coroutine):
            now: State = "running"
        else:
            now = "blocked" if is_blocked(task) else "runnable"
        name = _title(task.get_name(), coroutine)
        records.append(TaskRecord(id(task), name, coroutine, parent, group, now, scopes, waiter))
    return records


def _number_in(name: str) -> int:
    digits = re.search(r"\d+$", name)
    return int(digits[0]) if digits else 0


def _scopes_of_asyncio(scope: Any) -> Iterator[Any]:
    while scope is not None:
        yield scope
        scope = scope._parent_scope


def _parent_in_asyncio(task: asyncio.Task[Any]) -> int | None:
    """The task that entered the ``asyncio.TaskGroup`` of ``task``.

    Only the group knows (CPython, ``asyncio/taskgroups.py``, ``TaskGroup._parent_task``), and only
    the callback for its end leads to the group.
    """
    callbacks: Any = getattr(task, "_callbacks", None)
    for callback, _context in callbacks or ():
        parent = getattr(getattr(callback, "__self__", None), "_parent_task", None)
        if parent is not None:
            return id(parent)
    return None


def _trio_tasks(root: Any) -> list[TaskRecord]:
    """All tasks below ``root``, the initial task of a trio run, and ``root`` itself."""
    found: list[tuple[Any, int | None, tuple[int, int]]] = []
    waiting: list[tuple[Any, int | None, tuple[int, int]]] = (
        [] if root is None else [(root, None, (0, 0))]
    )
    while waiting:
        task, parent, group = waiting.pop()
        found.append((task, parent, group))
        for depth, nursery in enumerate(task.child_nurseries):
            waiting.extend((child, id(task), (depth, 0)) for child in nursery.child_tasks)
    # The counter is how trio itself keeps runs reproducible (trio/_core/_run.py, class Task).
    found.sort(key=lambda each: int(each[0]._counter))
    records = []
    for task, parent, group in found:
        if _is_running(task.coro):
            now: State = "running"
        else:
            # Set from the moment a task is rescheduled until it runs, and only then.
            now = "blocked" if task._next_send_fn is None else "runnable"
        scopes = tuple(_scopes_of_trio(task._cancel_status))
        records.append(
            TaskRecord(
                id(task), _title(task.name, task.coro), task.coro, parent, group, now, scopes
            )
        )
    return records


def _scopes_of_trio(status: Any) -> Iterator[Any]:
    """trio keeps the nesting of scopes in a ``CancelStatus`` each (``trio/_core/_run.py``)."""
    while status is not None:
        yield status._scope
        status = status._parent
