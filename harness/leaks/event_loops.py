"""Event loops of asyncio that the test has made itself, and that nobody has closed."""

from __future__ import annotations

import asyncio
import sys
import weakref
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import Callable, Collection, Hashable
from typing import Any, ClassVar

from ..descriptors import open_descriptors
from ..diagnostics.stacks import Place
from ..hooks import Hook
from .contract import Kind, Leak, Suspects, owner
from .places import described, here


class _Made:
    """Where and for whom a loop was made, and what descriptors it runs on."""

    def __init__(self, place: Place | None) -> None:
        self.place = place
        self.whose = owner.get()
        self.descriptors: set[int] = set()


#: Every loop that was made while anybody looked.
_made: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Made] = weakref.WeakKeyDictionary()


def _init(original: Callable[..., Any], hook: Hook[Kind]) -> Callable[..., Any]:
    def __init__(loop: Any, *args: Any, **options: Any) -> None:  # noqa: N807 (it is one)
        if not hook.listeners:
            original(loop, *args, **options)
            return
        caller = sys._getframe(1).f_globals.get("__name__")
        made = _Made(here(2 if caller == "uvloop" else 1))  # uvloop.new_event_loop()
        before = {} if made.place is None else open_descriptors()
        original(loop, *args, **options)
        if made.place is not None:
            made.descriptors = set(open_descriptors()) - set(before)
        _made[loop] = made

    return __init__


_of_asyncio: Hook[Kind] = Hook(BaseSelectorEventLoop, "__init__", _init)
_of_uvloop: Hook[Kind] | None = None


def _hooks() -> list[Hook[Kind]]:
    global _of_uvloop
    uvloop: Any = sys.modules.get("uvloop")
    if _of_uvloop is None and hasattr(uvloop, "Loop"):
        _of_uvloop = Hook(uvloop.Loop, "__init__", _init)
    return [_of_asyncio] if _of_uvloop is None else [_of_asyncio, _of_uvloop]


def descriptors_of_loops() -> set[int]:
    """What the loops that are open run on, which is no leak beside theirs."""
    found = set()
    for loop, made in list(_made.items()):
        if not loop.is_closed():
            found |= made.descriptors
    return found


def loops_have_pipes() -> bool:
    """Whether an open loop is one of uvloop's.

    Those open a pipe before anybody can look (uvloop/loop.pyx, ``Loop.__cinit__``).
    """
    return any(
        made.place is not None and not isinstance(loop, BaseSelectorEventLoop)
        for loop, made in list(_made.items())
        if not loop.is_closed()
    )


class EventLoops(Kind):
    """Those that the user's code has made."""

    names: ClassVar[tuple[str, ...]] = ("event loop",)

    def start(self) -> None:
        for hook in _hooks():
            hook.listen(self)

    def entered_loop(self) -> None:
        if _of_uvloop is None and "uvloop" in sys.modules:
            self.start()  # this is the first time that there is uvloop

    def entered_new_loop(self) -> None:
        loop = asyncio._get_running_loop()
        if loop is not None and loop in _made:
            _made[loop].place = None  # it runs the test

    def look(self) -> Suspects:
        suspects: Suspects = {}
        for loop, made in list(_made.items()):
            # One without a place is the test runner's, or that of a thread of AnyIO's own.
            if made.place is not None and self.mine(made.whose) and not loop.is_closed():
                suspects["event loop", id(loop)] = _describe(loop, made.place)
        return suspects

    def look_outside(self) -> Suspects:
        return self.look()

    def put_away(self, keys: Collection[Hashable]) -> None:
        for loop in list(_made):
            if ("event loop", id(loop)) in keys and not loop.is_running():
                loop.close()

    def stop(self) -> None:
        for hook in _hooks():
            hook.leave(self)
        for loop, made in list(_made.items()):
            if made.whose is self.test or loop.is_closed():
                del _made[loop]


def _describe(loop: asyncio.AbstractEventLoop, place: Place) -> Callable[[], Leak]:
    module = type(loop).__module__.partition(".")[0]
    what = f"{module}.{type(loop).__name__} was not closed"
    return lambda: Leak("event loop", what, described(place))
