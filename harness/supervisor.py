"""The task group whose children's crashes never cancel the test's own task, and who hears of them.

An ordinary task group held open by a fixture is entered in the task that also runs the tests. When
a child crashes, the group cancels that task: AnyIO's test runner is then dead, and the rest of the
run hangs. When Ctrl-C interrupts asyncio, AnyIO replaces that task, and the group can no longer be
left. So the groups here are entered and left by a task of their own, the *host*; a child's
exception is caught inside the child, recorded, and carried to whoever watches:

* the block of ``async with open_harness()`` is a :class:`Watch` over that harness, and the body of
  a test under pytest is one over everything that fixtures hold open in its event loop. A crash
  cancels its watch, and the watch raises the crash in the place of the cancellation.
* with no watch open (between two tests, in a fixture) the crash waits in the supervisor, and
  :meth:`Supervisor.take_unreported` hands it to whoever closes the harness.

Nobody else sees a crash, so it is raised exactly once.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from typing import Any, Literal, TypeVar, cast

from anyio import (
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    Event,
    IncompleteRead,
    TaskInfo,
    create_task_group,
    get_cancelled_exc_class,
    get_current_task,
    get_running_tasks,
    move_on_after,
)
from anyio.abc import TaskGroup
from anyio.lowlevel import RunVar

from .backends import current_library, current_task_id
from .diagnostics import format_stack, innermost_user_line
from .settling import settle

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

T = TypeVar("T")

#: Turns of the event loop that a finished body grants to a crash that is already on its way.
TURNS_FOR_A_CRASH = 64

#: Seconds, at the least, for what has lost its shields to stop. Long, since after that nothing can
#: be done, and no test waits for it but one that never ends.
LAST_WAIT = 5.0

#: What a client sees when the other side of its connection crashes.
CONSEQUENCES = (
    EndOfStream,
    BrokenResourceError,
    ClosedResourceError,
    IncompleteRead,
    ConnectionError,
)


class Crash:
    """An exception that ended something supervised, and where it came from."""

    __slots__ = ("exception", "origin", "reported")

    def __init__(self, exception: BaseException, origin: str) -> None:
        self.exception: BaseException = exception
        self.origin: str = origin
        #: a watch has taken it and will raise it
        self.reported: bool = False


class Watch:
    """Runs one piece of test code so that a crash elsewhere ends it and is what it raises."""

    def __init__(self) -> None:
        self._scope = CancelScope()
        self._task_id = 0
        self._entered = False
        self._crashes: list[Crash] = []
        self._late: list[BaseException] = []
        #: blocks that the watched code has entered in its own task and not left yet
        self._blocks: list[Watch] = []
        #: what was on its way out of the watched code when it was cancelled
        self._unwinding: BaseException | None = None
        self._failed_first = False
        #: a fixture that was run in steps has come to its end
        self.finished: bool = False

    async def run(self, body: Callable[[], Awaitable[T]]) -> T:
        """Await ``body()``; raise what it raised, or what crashed meanwhile, or both in a group."""
        __tracebackhide__ = True
        error: BaseException | None = None
        result: T | None = None
        with self.listening():
            self.enter()
            try:
                result = await self._interruptible(body)
                await settle(turns=TURNS_FOR_A_CRASH)
            except BaseException as exc:
                error = exc
            if self.leave(error):
                error = None
            if error is not None and not self._crashes and isinstance(error, Exception):
                # A client's EndOfStream may be the trace of a crash that is not recorded yet.
                self._failed_first = True
                with CancelScope(shield=True):
                    await settle(turns=TURNS_FOR_A_CRASH)
        failure = self.failure(error)
        if failure is not None:
            try:
                raise failure
            finally:
                del failure, error  # or this frame and the traceback keep one another alive
        return cast(T, result)

    async def step(self, generator: AsyncGenerator[T, None]) -> T | None:
        """Run a fixture to its next ``yield`` inside of the block that :meth:`enter` began.

        Returns what it yields, or ``None`` at its end. When the step fails, the block ends.
        """
        __tracebackhide__ = True
        error: BaseException | None = None
        result: T | None = None
        with self.listening():
            try:
                result = await self._interruptible(generator.__anext__)
            except StopAsyncIteration:
                self.finished = True
            except BaseException as exc:
                error = exc
        if error is None and not self._crashes:
            return result
        if self.leave(error):
            error = None
        failure = self.failure(error)
        assert failure is not None
        try:
            raise failure
        finally:
            del failure, error

    async def _interruptible(self, body: Callable[[], Awaitable[T]]) -> T:
        __tracebackhide__ = True
        try:
            return await body()
        except get_cancelled_exc_class() as exc:
            # Leaving an `async with` after a failed assertion can itself make a handler crash. The
            # cancellation then takes the place of the assertion, which stays in its context.
            if self._crashes:
                self._unwinding = exc.__context__
                place = innermost_user_line(exc.__traceback__)
                if place is not None:
                    add_note(self._crashes[0].exception, f"(the test was at {place})")
            raise

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Be the one that hears of crashes of everything that fixtures hold open."""
        outer = _test_watch.get()
        _test_watch.set(self)
        try:
            yield
        finally:
            _test_watch.set(outer)

    def enter(self) -> None:
        """Watch the block that begins here, in this task."""
        self._task_id = current_task_id()
        outer = _test_watch.get()
        if outer is not None and outer is not self and outer._task_id == self._task_id:
            outer._blocks.append(self)
        self._scope.__enter__()
        self._entered = True

    def leave(self, error: BaseException | None = None) -> bool:
        """End that block; tell whether ``error`` was only the cancellation by a crash.

        Blocks inside of it that were meant to outlive it, as when a body calls a fixture's
        factory, stop being cancellable: a cancel scope cannot be left after the one around it.
        """
        if not self._entered or current_task_id() != self._task_id:
            # unittest.IsolatedAsyncioTestCase leaves in another task than it entered in, and so do
            # fixtures after Ctrl-C on asyncio. The scope went with its task.
            return False
        self._entered = False
        for block in reversed(self._blocks):
            block.leave()
        outer = _test_watch.get()
        if outer is not None and self in outer._blocks:
            outer._blocks.remove(self)
        traceback = None if error is None else error.__traceback__
        return bool(self._scope.__exit__(type(error) if error else None, error, traceback))

    def also(self, error: BaseException) -> None:
        """Remember an error of the end of the block."""
        self._late.append(error)

    def notice(self, crash: Crash) -> None:
        """Take ``crash`` and cancel the body."""
        crash.reported = True
        self._crashes.append(crash)
        self._scope.cancel()

    def failure(self, error: BaseException | None) -> BaseException | None:
        """The one exception to raise for ``error``, raised by the body, and the crashes."""
        crashes = self._crashes
        handled = (*CONSEQUENCES, get_cancelled_exc_class())
        if error is None and self._unwinding and not isinstance(self._unwinding, handled):
            error = self._unwinding
            self._failed_first = True
        if not crashes:
            return failure_of([], error, *self._late)
        if error is None or is_final(error):
            return failure_of(crashes, error, *self._late)
        if self._failed_first and all(_is_consequence(crash.exception) for crash in crashes):
            # The body failed by itself, and its handlers met what it left behind.
            for crash in crashes:
                note = f"({crash.origin} then raised {crash.exception!r}, as could be expected)"
                add_note(error, note)
            crashes = []
        elif _is_consequence(error) or not isinstance(error, Exception):
            # The body only met what the crash left behind, or was about to end as a skip.
            note = f"(the test body then raised {error!r}, as could be expected)"
            add_note(crashes[0].exception, note)
            error = None
        return failure_of(crashes, error, *self._late)


#: The test body, or the fixture, that is running in this event loop.
_test_watch: RunVar[Watch | None] = RunVar("_test_watch", default=None)


def is_final(error: BaseException) -> bool:
    """Whether ``error`` ends the whole run, whatever else went wrong."""
    return isinstance(error, (KeyboardInterrupt, SystemExit))


def _is_consequence(error: BaseException | None) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.split(CONSEQUENCES)[1] is None
    return isinstance(error, CONSEQUENCES)


def without_cancellation(error: BaseException) -> BaseException | None:
    """``error`` without the cancellations in it; ``None`` if there was nothing else.

    A trio nursery raises its children's cancellations and errors in one group.
    """
    cancelled = get_cancelled_exc_class()
    if isinstance(error, BaseExceptionGroup):
        return error.split(cancelled)[1]
    return None if isinstance(error, cancelled) else error


def failure_of(crashes: list[Crash], *errors: BaseException | None) -> BaseException | None:
    """The crashes and ``errors`` as one exception: itself if there is one, else a group."""
    exceptions: list[BaseException] = []
    for crash in crashes:
        add_note(crash.exception, f"(raised in {crash.origin})")
        exceptions.append(crash.exception)
    for error in errors:
        if error is not None and all(error is not exception for exception in exceptions):
            exceptions.append(error)
    for exception in exceptions:
        if is_final(exception):
            return exception
    if len(exceptions) < 2:
        return exceptions[0] if exceptions else None
    return BaseExceptionGroup("several things went wrong in this test", exceptions)


def add_note(exception: BaseException, note: str) -> None:
    """``exception.add_note(note)``, on Python 3.10 too, and once only."""
    notes = getattr(exception, "__notes__", [])
    if note not in notes:
        exception.__dict__["__notes__"] = [*notes, note]


class Supervisor:
    """Owns the tasks of one harness.

    :param watch: who hears of crashes; ``None`` for the test body of the moment
    :ivar crashes: everything that crashed, in order
    """

    def __init__(self, name: str, watch: Watch | None = None) -> None:
        self.name = name
        self.crashes: list[Crash] = []
        self._watch = watch
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
                self.services: TaskGroup = SupervisedTaskGroup(self, services)
                async with create_task_group() as children:
                    self.children: TaskGroup = SupervisedTaskGroup(self, children)
                    ready.set()
                    await self._closing.wait()
                    children.cancel_scope.cancel()
                # The test may have cancelled its own group; the services live on.
                await self._closing.wait()
                services.cancel_scope.cancel()
        except get_cancelled_exc_class():
            raise  # the event loop itself is ending
        except Exception as exc:
            self.notice(exc, self.name)
        finally:
            self._closed.set()

    def notice(self, exception: BaseException, origin: str) -> None:
        """Record a crash and tell whoever watches.

        Once the end has begun, the harness itself takes clients from servers and servers from
        clients; what that makes of a stream is no crash.
        """
        rest = without_cancellation(exception)
        if rest is None or (self._ending and _is_consequence(rest)):
            return
        crash = Crash(rest, origin)
        self.crashes.append(crash)
        watch = self._watch or _test_watch.get()
        if watch is not None:
            watch.notice(crash)

    def cancel_children(self) -> None:
        """The end has begun: cancel the background tasks."""
        self._ending = True
        self.children.cancel_scope.cancel()

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
        stubborn = self.running_tasks()
        stacks = ((task.name, format_stack(task.coro)) for task in stubborn)
        report = "\n".join(f"  {name}\n{stack}" for name, stack in stacks if stack)
        for task in stubborn:
            break_shields(task.id)
        with move_on_after(max(timeout, LAST_WAIT)):
            await self._closed.wait()
        message = f"still running {timeout:g} s after being cancelled:\n{report}"
        for_good = not self._closed.is_set()
        if for_good:
            message += "\nnor without its shields: it swallows every cancellation"
        raise DidNotStop(message, for_good=for_good)

    def running_tasks(self) -> list[TaskInfo]:
        """The tasks of this harness, their own children included."""
        below = {self._host_id}
        found = []
        for task in sorted_by_parent(get_running_tasks()):
            if task.parent_id in below:
                below.add(task.id)
                found.append(task)
        return found

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


def break_shields(task_id: int) -> None:
    """Cancel the task with AnyIO's id ``task_id``, shielded or not.

    asyncio's own ``Task.cancel()`` goes through AnyIO's shields. trio has no such call, so the
    shields of the scopes around the task are lowered instead. ``trio/_core/_run.py``, class
    ``CancelStatus``, is the only place that knows these scopes; AnyIO's
    ``TaskInfo.has_pending_cancellation`` reads it too.
    """
    if current_library() == "trio":
        import trio

        pending = [trio.lowlevel.current_root_task()]
        while pending:
            task = pending.pop()
            if task is None:
                continue
            for nursery in task.child_nurseries:
                pending.extend(nursery.child_tasks)
            if id(task) == task_id:
                status: Any = task._cancel_status
                while status is not None:
                    status._scope.shield = False
                    status = status._parent
    else:
        for asyncio_task in asyncio.all_tasks():
            if id(asyncio_task) == task_id:
                asyncio_task.cancel("the harness has waited long enough for it to stop")


class SupervisedTaskGroup(TaskGroup):
    """AnyIO's task group, but for a child's exception: it goes to the supervisor, nowhere else.

    The other children go on. ``start()`` still raises in its caller what the child raises before
    it has called ``task_status.started()``.
    """

    def __init__(self, supervisor: Supervisor, group: TaskGroup) -> None:
        self._supervisor = supervisor
        self._group = group
        self.cancel_scope: CancelScope = group.cancel_scope

    def create_task(
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> Any:
        label = str(name) if name is not None else getattr(coro, "__qualname__", repr(coro))
        holder: list[Any] = []
        handle = self._group.create_task(
            self._supervise(coro, label, holder), name=label, context=context
        )
        holder.append(handle)
        return handle

    async def start(
        self,
        func: Callable[..., Coroutine[Any, Any, Any]],
        *args: object,
        name: object = None,
        return_handle: Literal[False, True] = False,
    ) -> Any:
        label = str(name) if name is not None else getattr(func, "__qualname__", repr(func))

        async def supervised(*args: object, task_status: Any) -> Any:
            __tracebackhide__ = True
            status = _StartedStatus(task_status)
            try:
                return await func(*args, task_status=status)
            except GeneratorExit:
                raise
            except get_cancelled_exc_class():
                raise
            except BaseException as exc:
                if not status.has_started:
                    raise
                self._supervisor.notice(exc, f"the background task {label!r}")

        if return_handle:
            return await self._group.start(supervised, *args, name=label, return_handle=True)
        return await self._group.start(supervised, *args, name=label)

    async def _supervise(self, coro: Coroutine[Any, Any, T], label: str, holder: list[Any]) -> Any:
        __tracebackhide__ = True
        try:
            return await coro
        except GeneratorExit:
            raise
        except get_cancelled_exc_class():
            raise
        except BaseException as exc:
            # TaskHandle has no public way to fail without failing its group; its own code
            # (anyio/_core/_tasks.py, TaskHandle._run_coro) sets this same attribute.
            holder[0]._exception = exc
            self._supervisor.notice(exc, f"the background task {label!r}")

    async def __aenter__(self) -> TaskGroup:
        raise RuntimeError("the harness opens and closes this task group itself")

    async def __aexit__(self, *exc_info: object) -> bool:
        raise RuntimeError("the harness opens and closes this task group itself")


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
