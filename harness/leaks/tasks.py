"""Tasks that still run, and tasks whose exception nobody has looked at."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from typing import Any, ClassVar

from ..backends import current_library
from ..diagnostics import innermost_user_line
from ..diagnostics.stacks import Place
from .contract import Kind, Leak, Owner, Suspects, owner
from .loops import next_number
from .places import NOBODYS, Birth, births, current_task, described, waiting_at

#: What asyncio's ``Task.__del__`` says to the loop's exception handler.
NEVER_RETRIEVED = "Task exception was never retrieved"


class Tasks(Kind):
    """Tasks that were made during the test and run at its end.

    :ivar own_tasks: tells by AnyIO's id which tasks are the harness's own
    """

    names: ClassVar[tuple[str, ...]] = ("task",)

    def __init__(self, test: Owner) -> None:
        super().__init__(test)
        self.own_tasks: Callable[[int], bool] = lambda _: False
        self._first = 0

    def start(self) -> None:
        self._first = next_number()

    def mine_by_birth(self, born: Birth) -> bool:
        """Whether a task belongs to the test.

        What nobody owns does if it was made in the user's code: an event loop's own tasks were not.
        """
        if born.number < self._first or born.place is NOBODYS:
            return False
        return born.whose is self.test or (born.whose is None and born.place is not None)

    def look(self) -> Suspects:
        trio = current_library() == "trio"
        running = _running_on_trio() if trio else _running_on_asyncio(asyncio.get_running_loop())
        return self._look_among(running, current_task())

    def nothing_left(self, loop: asyncio.AbstractEventLoop | None) -> bool:
        running = _running_on_trio() if loop is None else _running_on_asyncio(loop)
        return not self._look_among(running, None)

    def _look_among(self, running: list[tuple[Any, Birth | None]], this: object) -> Suspects:
        suspects: Suspects = {}
        for task, born in running:
            if born is None:
                # Made past the loop: AnyIO calls an eager task factory's constructor itself. Those
                # came with Python 3.12, and so did a way to a task's context.
                get_context = getattr(task, "get_context", None)
                if get_context is None or get_context().get(owner) is not self.test:
                    continue
            elif not self.mine_by_birth(born):
                continue
            if task is this or self.own_tasks(id(task)):
                continue
            coroutine = task.get_coro() if isinstance(task, asyncio.Task) else task.coro
            place, at = born and born.place, waiting_at(coroutine)
            if place is not None or at is not None:  # else it is the machinery's, for itself
                suspects["task", id(task)] = _describe(task, place, at)
        return suspects


class TaskExceptions(Kind):
    """asyncio's tasks that have failed, that somebody still refers to, and that nobody asks."""

    names: ClassVar[tuple[str, ...]] = ("task exception",)

    def __init__(self, test: Owner, tasks: Tasks) -> None:
        super().__init__(test)
        self._tasks = tasks
        self._after: list[tuple[asyncio.Task[Any], Birth]] = []

    def look(self) -> Suspects:
        return {
            ("task exception", id(task)): _describe_failure(task, born.place)
            for task, born in list(births.items())
            # CPython, asyncio/futures.py: this is what makes Task.__del__ complain.
            if getattr(task, "_log_traceback", False) and self._tasks.mine_by_birth(born)
        }

    def look_outside(self) -> Suspects:
        suspects = self.look()
        for task, born in self._after:
            suspects["task exception", id(task)] = _describe_failure(task, born.place)
        return suspects

    def called_exception_handler(self, context: dict[str, Any]) -> bool:
        """Take what is said of a collected task once its loop is closed; nobody would hear it."""
        task = context.get("future")
        if context.get("message") != NEVER_RETRIEVED or not isinstance(task, asyncio.Task):
            return False
        born = births.get(task)
        if born is None or not self._tasks.mine_by_birth(born) or not task.get_loop().is_closed():
            return False
        self._after.append((task, born))
        return True


def _running_on_asyncio(loop: asyncio.AbstractEventLoop) -> list[tuple[Any, Birth | None]]:
    return [(task, births.get(task)) for task in asyncio.all_tasks(loop)]


def _running_on_trio() -> list[tuple[Any, Birth | None]]:
    running: list[tuple[Any, Birth | None]] = []
    for task, born in list(births.items()):
        nursery = getattr(task, "parent_nursery", None)
        if nursery is not None and task in nursery.child_tasks:
            running.append((task, born))
    return running


def _name(task: Any) -> str:
    if not isinstance(task, asyncio.Task):
        return str(task.name)
    name = task.get_name()
    if name.startswith("Task-"):
        coroutine = task.get_coro()
        return f"{name} ({getattr(coroutine, '__qualname__', coroutine)})"
    return name


def _describe(task: Any, place: Place | None, at: Place | None) -> Callable[[], Leak]:
    def describe() -> Leak:
        waits = "" if at is None else f", which waits at {at}"
        return Leak("task", f"{_name(task)}{waits}", described(place))

    return describe


def _describe_failure(task: asyncio.Task[Any], place: Place | None) -> Callable[[], Leak]:
    def describe() -> Leak:
        # By asking for it, the exception is retrieved: the event loop will not report it again, in
        # whatever test is running then.
        error = task.exception()
        at = None if error is None else innermost_user_line(error.__traceback__)
        said = "".join(traceback.format_exception_only(type(error), error)).strip()
        what = f"{_name(task)} failed, and its exception was never retrieved: {said}"
        if at is not None:
            what += f"\n    raised at {at}"
        return Leak("task exception", what, described(place))

    return describe
