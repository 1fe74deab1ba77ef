"""The line of the user's code that makes a thing.

That is the innermost frame on the stack that belongs neither to an event loop, nor to the harness,
nor to the standard library. A task that runs only code of those (AnyIO's happy eyeballs, say) has
none; then it is the line that made the task.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from types import FrameType
from typing import Any, NamedTuple

from ..diagnostics.stacks import INSTALLED, MACHINERY, Place, await_stack, place_of


def described(place: Place | None) -> str | None:
    """``place`` as :attr:`harness.leaks.Leak.where` has it."""
    return None if place is None else str(place)


#: The place of what the machinery keeps for itself, whoever needed the first one: AnyIO's worker
#: processes, which live as long as the event loop.
NOBODYS = Place("", 0, "")

_USER, _SKIP, _END = 0, 1, 2

#: Where the stack of one task or test ends, and what called the event loop begins: modules, and
#: functions of modules.
_ENDS: dict[str, frozenset[str] | None] = {
    "pluggy": None,
    "_pytest": None,
    "asyncio.runners": None,
    "asyncio.events": frozenset({"_run"}),
    "asyncio.base_events": frozenset({"_run_once", "run_forever", "run_until_complete"}),
    "trio._core._run": frozenset({"unrolled_run", "setup_runner", "run", "guest_tick"}),
    "anyio._core._eventloop": frozenset({"run"}),
    "anyio._backends._asyncio": frozenset(
        {"run_test", "run_fixture", "run_asyncgen_fixture", "_run_tests_and_fixtures"}
    ),
    "anyio._backends._trio": frozenset({"_call_in_runner_task", "_run_tests_and_fixtures"}),
    # An event loop that makes what it runs on, in whoever asked for the loop.
    "asyncio.selector_events": frozenset({"_make_self_pipe"}),
    "trio._core._wakeup_socketpair": None,
    "uvloop": frozenset({"new_event_loop"}),
    "anyio.to_process": None,
}

_SKIPPED = {*MACHINERY, *sys.stdlib_module_names, "exceptiongroup", "attr", "sniffio"}


def skip_library_of(loop: object) -> None:
    """Take the library that an event loop comes from for machinery, like asyncio.

    A loop of the project's own is the user's code, and stays that.
    """
    module = type(loop).__module__
    top = module.partition(".")[0]
    file = getattr(sys.modules.get(module), "__file__", None)
    if top not in _SKIPPED and file is not None and is_installed(file):
        _SKIPPED.add(top)
        for known in [name for name in _kinds if name.partition(".")[0] == top]:
            del _kinds[known]


def is_installed(file: str) -> bool:
    """Whether the code in ``file`` is a library's, and not the project's."""
    return any(part in file for part in INSTALLED)


#: What a module is, by name. Filled as modules are met.
_kinds: dict[str, tuple[int, frozenset[str] | None]] = {}


def _kind(module: str) -> tuple[int, frozenset[str] | None]:
    top = module.partition(".")[0]
    kind: tuple[int, frozenset[str] | None]
    if module in _ENDS or (top in _ENDS and _ENDS[top] is None):
        kind = (_END, _ENDS.get(module))
    else:
        kind = (_SKIP if top in _SKIPPED and module != "__main__" else _USER, None)
    _kinds[module] = kind
    return kind


def is_users(frame: FrameType | None) -> bool:
    """Whether ``frame`` runs the user's code, or a library's that is not part of the machinery."""
    if frame is None:
        return False
    module = frame.f_globals.get("__name__", "")
    return (_kinds.get(module) or _kind(module))[0] == _USER


def is_users_module(name: str) -> bool:
    """Whether the module called ``name`` is the user's, or a library's outside of the machinery."""
    return (_kinds.get(name) or _kind(name))[0] == _USER


def in_library(frame: FrameType | None) -> bool:
    """Whether ``frame`` runs code that the user did not write: the machinery's, or an installed
    library's."""
    if frame is None or not is_users(frame):
        return True
    return is_installed(frame.f_code.co_filename)


def here(depth: int = 1) -> Place | None:
    """The user's line that is being run, seen from ``depth`` frames above the caller."""
    frame: FrameType | None = sys._getframe(depth + 1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        kind, ends = _kinds.get(module) or _kind(module)
        if kind == _USER:
            return place_of(frame)
        if kind == _END and (ends is None or frame.f_code.co_name in ends):
            if module == "anyio.to_process":
                return NOBODYS
            break
        frame = frame.f_back
    task = current_task()
    if task is not None:
        born = births.get(task)
        if born is not None and born.place is not None:
            return born.place
    return on_behalf_of.get()


def entered_by_harness() -> bool:
    """Whether it is the harness that has called AnyIO, or trio, that calls the caller's caller."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        module = frame.f_globals.get("__name__")
        top = _tops.get(module)
        if top is None:
            top = _tops[module] = str(module).partition(".")[0]
        if top not in ("anyio", "trio"):
            return top == "harness"
        frame = frame.f_back
    return False


#: The packages of modules, by name.
_tops: dict[object, str] = {}


#: The line for which a worker thread of the machinery does something.
on_behalf_of: ContextVar[Place | None] = ContextVar("harness_leaks_on_behalf_of", default=None)


class Birth(NamedTuple):
    """When, where and for whom a task was made."""

    number: int
    place: Place | None
    whose: Any


#: Of the tasks that were made while anybody looked for leaks.
births: weakref.WeakKeyDictionary[Any, Birth] = weakref.WeakKeyDictionary()


def current_task() -> Any:
    """The task that runs this code, of asyncio or trio, if there is one."""
    trio: Any = sys.modules.get("trio")
    # Half-imported, when the import itself opens files.
    in_trio_task: Callable[[], bool] | None = getattr(
        getattr(trio, "lowlevel", None), "in_trio_task", None
    )
    if in_trio_task is not None and in_trio_task():
        return trio.lowlevel.current_task()
    loop = asyncio._get_running_loop()
    return None if loop is None else asyncio.current_task(loop)


def waiting_at(coroutine: Any) -> Place | None:
    """The innermost line of the user's code at which a suspended coroutine waits."""
    place = None
    for frame, line in await_stack(coroutine):
        if is_users(frame):
            place = place_of(frame, line)
    return place


def from_origin(origin: tuple[tuple[str, int, str], ...] | None) -> Place | None:
    """The innermost line in a coroutine's ``cr_origin``."""
    return Place(*origin[0]) if origin else None
