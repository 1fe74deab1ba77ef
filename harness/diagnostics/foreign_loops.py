"""Which object in a traceback belongs to an event loop that is not the one that runs.

An error such as "Event loop is closed" names neither the object that it is about nor the one who
made it. The object is found from the frames of the traceback: their variables, and what these
hold. This runs only for a test that has failed with such an error.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Iterator
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
    """An object that belongs to a loop, and the way of the code to it.

    :ivar loop: an asyncio event loop, or a ``trio.lowlevel.TrioToken``
    :ivar name: the object, as code would write it: ``client._writer``
    :ivar value: the object
    :ivar place: where the code was
    """

    loop: object
    name: str
    value: object
    place: str

    @property
    def type_name(self) -> str:
        cls = type(self.value)
        return f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins.")


#: From an object that was looked for to its loop, and ``None`` for any other object.
Goal = Callable[[object], "object | None"]


def find_loop(traceback: TracebackType | None, wanted: Callable[[object], bool]) -> Found | None:
    """The object that belongs to a loop that is ``wanted``, in the words of the user's code.

    The object is looked for from the innermost frame on, since that is where the error was raised;
    its name from the outermost, since that is the code that a reader knows.
    """

    def belongs(value: object) -> object | None:
        loop = loop_of(value)
        return loop if loop is not None and wanted(loop) else None

    steps = list(_walk(traceback))
    inner: Found | None = None
    for step in reversed(steps):
        found = None
        if inner is not None:  # the loop alone does not say who has kept it
            found = _search(step, _exactly(inner.loop, inner.loop))
        if found is None or found.value is found.loop:
            found = _search(step, belongs)
        if found is not None:
            inner = found
            if found.value is not found.loop:
                break
    if inner is None:
        return None
    loop, value = inner.loop, inner.value
    for goal in (_exactly(value, loop), lambda each: loop if loop_of(each) is loop else None):
        for step in steps:
            if not is_machinery(step.tb_frame):
                outer = _search(step, goal)
                if outer is not None:
                    return outer
    return inner


def _exactly(value: object, loop: object) -> Goal:
    return lambda each: loop if each is value else None


def _walk(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _search(step: TracebackType, goal: Goal) -> Found | None:
    """What the variables of a frame lead to by the shortest way; a mere loop comes last."""
    best: tuple[int, Found] | None = None
    for name, value in _variables(step.tb_frame):
        way = _way(name, value, goal)
        if way is None:
            continue
        length, (name, value), loop = way
        if value is loop:
            length = DEEP + 1
        if best is None or length < best[0]:
            place = str(place_of(step.tb_frame, step.tb_lineno))
            best = (length, Found(loop, name, value, place))
    return None if best is None else best[1]


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


def _way(name: str, root: object, goal: Goal) -> tuple[int, tuple[str, object], object] | None:
    """The steps from ``root`` to the nearest goal; that goal, by name; and its loop.

    An object that has a loop for an attribute is named in the place of the loop.
    """
    queue = deque([(0, name, root, (name, root))])
    seen = {id(root)}
    kept = [root]  # an object that is made on the way must not leave its id to another
    while queue:
        steps, name, value, holder = queue.popleft()
        loop = goal(value)
        if loop is not None:
            return steps, (holder if value is loop else (name, value)), loop
        if steps == DEEP or len(seen) > MANY or loop_of(value) is not None:
            continue
        for label, child in _held_by(value):
            if id(child) not in seen:
                seen.add(id(child))
                kept.append(child)
                path = name + label
                holder = (name, value) if label.startswith(".") else (path, child)
                queue.append((steps + 1, path, child, holder))
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


def _held_by(value: Any) -> Iterator[tuple[str, object]]:
    """What ``value`` holds, with what code would add to its name to get there."""
    cls = type(value)
    if issubclass(cls, (*_LEAVES, *_NOT_FOLLOWED, BaseException)):
        return
    if cls in (list, tuple, deque):
        yield from ((f"[{position}]", each) for position, each in enumerate(list(value)[:MANY]))
        return
    if cls in (set, frozenset):
        yield from (("{...}", each) for each in list(value)[:MANY])
        return
    if cls is dict:
        for key, each in list(value.items())[:MANY]:
            yield (f"[{key!r}]" if isinstance(key, (str, int)) else "[...]"), each
        return
    if str(cls.__module__).partition(".")[0] in NOT_ENTERED:
        return
    try:
        attributes = dict(object.__getattribute__(value, "__dict__"))
    except Exception:
        attributes = {}  # no __dict__, or one that is computed and fails
    for base in cls.__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            with suppress(AttributeError):  # not set, or mangled
                attributes[name] = object.__getattribute__(value, name)
    yield from ((f".{name}", each) for name, each in attributes.items())
