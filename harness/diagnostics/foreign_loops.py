"""Which object in a traceback belongs to an event loop that is not the one that runs.

An error such as "Event loop is closed" names neither the object that it is about nor the one who
made it. The object is found from the frames of the traceback: their variables, and what these
hold. This runs only for a test that has failed with such an error.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import CodeType, FrameType, FunctionType, MethodType, ModuleType, TracebackType
from typing import Any

from .stacks import is_machinery, place_of

#: Steps from a variable to a loop: writer._transport._loop is two, a pool's connection's four.
DEEP = 5
#: Objects that are looked at for one variable, at most.
MANY = 500

#: Packages whose objects lead to everything else in the process.
NOT_ENTERED = ("_pytest", "pytest", "pluggy", "logging", "threading", "unittest")


@dataclass(frozen=True)
class Found:
    """A variable that leads to a loop.

    :ivar loop: an asyncio event loop, or a ``trio.lowlevel.TrioToken``
    :ivar name: the variable, as code would write it
    :ivar value: what it holds
    :ivar place: where the code that has the variable was
    """

    loop: object
    name: str
    value: object
    place: str

    @property
    def type_name(self) -> str:
        cls = type(self.value)
        return f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins.")


def find_loop(traceback: TracebackType | None, wanted: Callable[[object], bool]) -> Found | None:
    """The variable that leads to a loop that is ``wanted``, in the words of the user's code.

    The loop is looked for from the innermost frame on, since that is where the error was raised;
    the variable from the outermost, since that is the code that a reader knows.
    """
    frames = [each.tb_frame for each in _walk(traceback)]
    lines = {id(each.tb_frame): each.tb_lineno for each in _walk(traceback)}
    inner: Found | None = None
    for frame in reversed(frames):
        inner = _search(frame, lines, wanted)
        if inner is not None:
            break
    if inner is None:
        return None
    loop = inner.loop
    for frame in frames:
        if not is_machinery(frame):
            outer = _search(frame, lines, lambda each: each is loop)
            if outer is not None and outer.value is not loop:
                return outer
    return inner


def _walk(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _search(
    frame: FrameType, lines: Mapping[int, int], wanted: Callable[[object], bool]
) -> Found | None:
    """The variable of ``frame`` from which the way to a loop is the shortest."""
    best: tuple[int, str, object, object] | None = None
    for name, value in _variables(frame):
        found = _way_to_loop(value, wanted)
        if found is None:
            continue
        steps, loop = found
        # The loop itself is the last resort: it says nothing about who has kept it.
        steps = steps or DEEP + 1
        if best is None or steps < best[0]:
            best = (steps, name, value, loop)
    if best is None:
        return None
    _, name, value, loop = best
    return Found(loop, name, value, place_of(frame, lines[id(frame)]))


def _variables(frame: FrameType) -> Iterator[tuple[str, object]]:
    """The locals of ``frame``, and the globals that its code names, ``module.name`` too."""
    yield from list(frame.f_locals.items())
    if is_machinery(frame):
        return
    code: CodeType = frame.f_code
    for name in code.co_names:
        value = frame.f_globals.get(name)
        if isinstance(value, (ModuleType, type)):
            for attribute in code.co_names:
                if attribute in vars(value):
                    yield f"{name}.{attribute}", vars(value)[attribute]
        elif value is not None:
            yield name, value


def _way_to_loop(root: object, wanted: Callable[[object], bool]) -> tuple[int, object] | None:
    """The steps from ``root`` to the nearest loop that is ``wanted``, and that loop."""
    queue = deque([(0, root)])
    seen = {id(root)}
    kept = [root]  # an object that is made on the way must not leave its id to another
    while queue:
        steps, value = queue.popleft()
        loop = loop_of(value)
        if loop is not None:
            if wanted(loop):
                return steps + (loop is not value), loop
            continue
        if steps == DEEP or len(seen) > MANY:
            continue
        for child in _held_by(value):
            if id(child) not in seen:
                seen.add(id(child))
                kept.append(child)
                queue.append((steps + 1, child))
    return None


def loop_of(value: object) -> object | None:
    """The loop that ``value`` is, or, for a future or a task, belongs to."""
    # type(), as a proxy may claim to be of any class, and fail.
    cls = type(value)
    if issubclass(cls, asyncio.AbstractEventLoop):
        return value
    if hasattr(cls, "_asyncio_future_blocking"):  # as asyncio.isfuture
        future: Any = value
        try:
            loop: object = future.get_loop()
        except Exception:
            return None
        return loop
    trio = sys.modules.get("trio")
    if trio is not None and cls is trio.lowlevel.TrioToken:
        return value
    return None


_LEAVES = (str, bytes, bytearray, int, float, complex, bool, type(None))
_NOT_FOLLOWED = (type, ModuleType, FunctionType, MethodType, FrameType, TracebackType, CodeType)


def _held_by(value: object) -> Iterable[object]:
    cls = type(value)
    if issubclass(cls, (*_LEAVES, *_NOT_FOLLOWED, BaseException)):
        return ()
    if cls in (list, tuple, set, frozenset, deque):
        return list(value)[:MANY]  # type: ignore[call-overload, no-any-return]
    if cls is dict:
        return list(value.values())[:MANY]  # type: ignore[attr-defined]
    if str(cls.__module__).partition(".")[0] in NOT_ENTERED:
        return ()
    children: list[object] = []
    try:
        children.extend(object.__getattribute__(value, "__dict__").values())
    except Exception:
        children = []  # no __dict__, or one that is computed and fails
    for base in cls.__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            with suppress(AttributeError):  # not set, or mangled
                children.append(object.__getattribute__(value, name))
    return children
