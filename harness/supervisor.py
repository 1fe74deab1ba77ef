"""The task group whose children's crashes never cancel the test's own task.

An ordinary task group held open by a fixture is entered in the task that also runs the tests. When
a child crashes, the group cancels that task: AnyIO's test runner is then dead, and the rest of the
run hangs. So the groups here are entered and left by a task of their own, the *host*; a child's
exception is caught inside the child, recorded, and carried to whoever watches
(:mod:`harness.watch`). With no watch open (between two tests) the crash waits in the supervisor,
and :meth:`Supervisor.take_unreported` hands it to whoever closes the harness. So it is raised
exactly once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from contextvars import Context, copy_context
from types import TracebackType
from typing import Any, Literal, Protocol, TypeVar

from anyio import (
    CancelScope,
    Event,
    TaskInfo,
    create_task_group,
    get_cancelled_exc_class,
    get_current_task,
    get_running_tasks,
    move_on_after,
)
from anyio.abc import TaskGroup

from .backends import current_library
from .diagnostics import format_stubborn, place_of_function
from .watch import (
    Crash,
    is_asked_for,
    is_consequence,
    listening_watch,
    not_cancelling,
    without_cancellation,
)

T = TypeVar("T")

#: Seconds, at the least, for what has lost its shields to stop. Long, since after that nothing can
#: be done, and no test waits for it but one that never ends.
LAST_WAIT = 5.0


class Listener(Protocol):
    """Whoever is told of a crash: a watch, or the fixture that holds the harness open."""

    @property
    def lasting(self) -> bool:
        """Whether what is started now is for every test that uses the fixture."""
        ...

    def notice(self, crash: Crash) -> None: ...


class Supervisor:
    """Owns the tasks of one harness.

    :param listener: who hears of crashes; ``None`` for the test body of the moment
    :ivar crashes: everything that crashed, in order
    """

    def __init__(self, name: str, listener: Listener | None = None) -> None:
        self.name = name
        self.crashes: list[Crash] = []
        self._listener = listener
        self._ending = False
        self._closing = Event()
        self._closed = Event()
        self._host_id: int | None = None

    async def open(self) -> None:
        """Start the host. Raises :exc:`RuntimeError` if its event loop is going down."""
        ready = Event()
        spawn_host(lambda: self._host(ready), f"host of {self.name}")
        await ready.wait()

    async def _host(self, ready: Event) -> None:
        self._host_id = get_current_task().id
        try:
            async with create_task_group() as services:
                self.services: SupervisedTaskGroup = SupervisedTaskGroup(self, services)
                async with create_task_group() as children:
                    self.children: SupervisedTaskGroup = SupervisedTaskGroup(self, children)
                    ready.set()
                    await self._closing.wait()
                    self.children.end()
                # The test may have cancelled its own group; the services live on.
                if not self._closing.is_set():
                    await self._closing.wait()
                self.services.end()
        except get_cancelled_exc_class():
            raise  # the event loop itself is ending
        except Exception as exc:
            self.notice(exc, self.name)
        finally:
            self._closed.set()

    @property
    def lasting(self) -> bool:
        """Whether what is started now is for every test that uses the fixture which holds this."""
        return self._listener is not None and self._listener.lasting

    @property
    def is_ending(self) -> bool:
        """Whether the end has begun: see :meth:`notice`."""
        return self._ending

    def notice(self, exception: BaseException, origin: str, *, lasting: bool = False) -> None:
        """Record a crash and tell whoever watches.

        Once the end has begun, the harness itself takes clients from servers and servers from
        clients; what that makes of a stream is no crash.
        """
        rest = without_cancellation(exception)
        if rest is None or (self._ending and is_consequence(rest)):
            return
        crash = Crash(rest, origin, lasting=lasting)
        self.crashes.append(crash)
        listener = self._listener or listening_watch()
        if listener is not None:
            listener.notice(crash)

    def cancel_children(self) -> None:
        """The end has begun: cancel the background tasks."""
        self._ending = True
        self.children.end()

    async def aclose(self, *, timeout: float) -> None:
        """Cancel what is left and wait for it.

        What does not stop within ``timeout`` seconds is cancelled through its shields and waited
        for once more, so that one test's stubborn task is not the end of the run. Raises
        :exc:`DidNotStop` in either case.
        """
        self._closing.set()
        with move_on_after(timeout):
            await self._closed.wait()
            return
        stubborn = {task.id for task in self.running_tasks()}
        report = format_stubborn(stubborn)
        break_shields(stubborn)
        with move_on_after(max(timeout, LAST_WAIT)):
            await self._closed.wait()
        message = (
            f"still running {timeout:g} s after being cancelled (harness_cancel_timeout):\n{report}"
        )
        for_good = not self._closed.is_set()
        if for_good:
            message += "\nnor without its shields: it swallows every cancellation"
        raise DidNotStop(message, for_good=for_good)

    def running_tasks(self) -> list[TaskInfo]:
        """The tasks of this harness, their own children included."""
        return tasks_below(self._host_id)

    def take_unreported(self) -> list[Crash]:
        """The crashes that no watch has taken; they are the caller's now."""
        unreported = [crash for crash in self.crashes if not crash.reported]
        for crash in unreported:
            crash.reported = True
        return unreported


class DidNotStop(RuntimeError):
    """A handler or background task went on after it was cancelled. The message says which.

    :ivar for_good: it did not stop without its shields either, so its event loop cannot end
    """

    def __init__(self, message: str, *, for_good: bool = False) -> None:
        super().__init__(message)
        self.for_good = for_good


def sorted_by_parent(tasks: list[TaskInfo]) -> list[TaskInfo]:
    """``tasks`` with every parent before its children."""
    children: dict[int | None, list[TaskInfo]] = {}
    ids = {task.id for task in tasks}
    for task in tasks:
        parent = task.parent_id if task.parent_id in ids else None
        children.setdefault(parent, []).append(task)
    ordered: list[TaskInfo] = []
    waiting = list(children.get(None, ()))
    while waiting:
        task = waiting.pop()
        ordered.append(task)
        waiting.extend(children.get(task.id, ()))
    return ordered


def tasks_below(task_id: int | None) -> list[TaskInfo]:
    """The children of a task, and theirs, every parent before its children."""
    below = {task_id}
    found = []
    for task in sorted_by_parent(get_running_tasks()):
        if task.parent_id in below:
            below.add(task.id)
            found.append(task)
    return found


def break_shields_below(task_id: int) -> None:
    """Cancel a task and everything below it, shielded or not."""
    break_shields({task_id, *(task.id for task in tasks_below(task_id))})


def break_shields(task_ids: Collection[int]) -> None:
    """Cancel the tasks with these ids of AnyIO's, shielded or not.

    asyncio's own ``Task.cancel()`` goes through AnyIO's shields. trio has no such call, so the
    shields of the scopes around the task are lowered instead. ``trio/_core/_run.py``, class
    ``CancelStatus``, is the only place that knows these scopes; AnyIO's
    ``TaskInfo.has_pending_cancellation`` reads it too.
    """
    if current_library() != "trio":
        for asyncio_task in asyncio.all_tasks():
            if id(asyncio_task) in task_ids:
                asyncio_task.cancel("the harness has waited long enough for it to stop")
        return
    import trio

    pending = [trio.lowlevel.current_root_task()]
    while pending:
        task = pending.pop()
        if task is None:
            continue
        for nursery in task.child_nurseries:
            pending.extend(nursery.child_tasks)
        if id(task) in task_ids:
            status: Any = task._cancel_status
            while status is not None:
                status._scope.shield = False
                status = status._parent


class SupervisedTaskGroup(TaskGroup):
    """AnyIO's task group, but for a child's exception: it goes to the supervisor, nowhere else.

    The other children go on. ``start()`` still raises in its caller what the child raises before
    it has called ``task_status.started()``.
    """

    def __init__(self, supervisor: Supervisor, group: TaskGroup) -> None:
        self._supervisor = supervisor
        self._group = group
        self._is_used = self._is_over = False
        self.cancel_scope: CancelScope = group.cancel_scope

    def end(self) -> None:
        """Cancel what was started, and start nothing any more.

        If nothing was, there is nothing to cancel: that costs two turns of the event loop.
        """
        self._is_over = True
        if self._is_used:
            self.cancel_scope.cancel()

    def _check_active(self) -> None:
        if self._is_over and not self._is_used:  # else its own group says so
            raise RuntimeError("This task group is not active; no new tasks can be started.")
        self._is_used = True

    def create_task(
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> Any:
        label = str(name) if name is not None else getattr(coro, "__qualname__", repr(coro))
        holder: list[Any] = []
        supervised = self._supervise(coro, label, holder, self._supervisor.lasting)
        try:
            self._check_active()
            handle = self._group.create_task(supervised, name=label, context=context)
        except RuntimeError:
            supervised.close()  # AnyIO does so on asyncio only
            coro.close()
            raise
        holder.append(handle)
        return handle

    async def start(
        self,
        func: Callable[..., Coroutine[Any, Any, Any]],
        *args: object,
        name: object = None,
        return_handle: Literal[False, True] = False,
    ) -> Any:
        __tracebackhide__ = True
        self._check_active()
        label = str(name) if name is not None else getattr(func, "__qualname__", repr(func))
        early: list[tuple[BaseException, TracebackType | None]] = []
        silent: list[bool] = []  # it has ended without a word
        lasting = self._supervisor.lasting

        async def supervised(*args: object, task_status: Any) -> Any:
            __tracebackhide__ = True
            status = _StartedStatus(task_status)
            try:
                result = await func(*args, task_status=status)
                if not status.has_started:
                    silent.append(True)
                return result
            except GeneratorExit:
                raise
            except BaseException as exc:
                if is_asked_for(exc):
                    raise
                crash = not_cancelling(exc)
                if not status.has_started:
                    early.append((crash, crash.__traceback__ and crash.__traceback__.tb_next))
                    raise crash  # noqa: B904 (it is the same one, or has none)
                self._supervisor.notice(crash, _in_words(label), lasting=lasting)

        try:
            if return_handle:
                return await self._group.start(supervised, *args, name=label, return_handle=True)
            return await self._group.start(supervised, *args, name=label)
        except BaseException as exc:
            for each, traceback in early:
                if each is exc:
                    # Between the caller and `func`, only AnyIO's way from one to the other.
                    raise exc.with_traceback(traceback)  # noqa: B904 (it is the same one)
            if silent and isinstance(exc, RuntimeError):  # AnyIO's, which does not say which
                raise _never_started(label, func) from None
            raise
        finally:
            early.clear()  # or this frame and the traceback keep one another alive

    async def _supervise(
        self, coro: Coroutine[Any, Any, T], label: str, holder: list[Any], lasting: bool
    ) -> Any:
        __tracebackhide__ = True
        try:
            return await coro
        except GeneratorExit:
            raise
        except BaseException as exc:
            if is_asked_for(exc):
                raise
            # TaskHandle has no public way to fail without failing its group; its own code
            # (anyio/_core/_tasks.py, TaskHandle._run_coro) sets this same attribute.
            holder[0]._exception = crash = not_cancelling(exc)
            self._supervisor.notice(crash, _in_words(label), lasting=lasting)

    async def __aenter__(self) -> TaskGroup:
        raise RuntimeError("the harness opens and closes this task group itself")

    async def __aexit__(self, *exc_info: object) -> bool:
        raise RuntimeError("the harness opens and closes this task group itself")


def _in_words(label: str) -> str:
    return f"the background task {label!r}"


def _never_started(label: str, func: object) -> RuntimeError:
    return RuntimeError(
        f"{label!r}{place_of_function(func)} was given to start(), and has ended without a call of "
        "task_status.started(). Let it call that when it is ready, or, if nobody has to wait for "
        "it, use harness.task_group.start_soon()"
    )


class _StartedStatus:
    """Passes ``started()`` on and remembers that it was called."""

    def __init__(self, status: Any) -> None:
        self._status = status
        self.has_started = False

    def started(self, value: Any = None) -> None:
        self._status.started(value)
        self.has_started = True


#: asyncio keeps only weak references to tasks.
_hosts: set[asyncio.Task[None]] = set()


def spawn_host(func: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
    """Start a task that belongs to no task group and no cancel scope of its creator."""
    if current_library() == "trio":
        import trio

        trio.lowlevel.spawn_system_task(func, name=name, context=copy_context())
    else:
        task = asyncio.get_running_loop().create_task(func(), name=name)
        _hosts.add(task)
        task.add_done_callback(_hosts.discard)
