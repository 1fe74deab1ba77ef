"""Whether a thing is kept by something that lives on, or only by a test that has failed.

What a failed test refers to in its local variables is kept alive by its traceback, and was perhaps
not closed only because the test did not come to the line that does it. What a module refers to, in
a global, a class or a cache, would be there after a test that passes, too.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Hashable, Mapping
from contextvars import Context
from types import (
    AsyncGeneratorType,
    CoroutineType,
    FrameType,
    GeneratorType,
    ModuleType,
    TracebackType,
)
from typing import Any

from .places import is_users_module

#: How many references may lie between a module and the thing. Each costs a look at every object.
FAR = 10

#: Of how many objects the referrers are looked for at once.
MANY = 2000

#: What a test that has failed runs in, or ran in: not followed any further.
_OF_RUNNING_CODE = (
    FrameType,
    TracebackType,
    CoroutineType,
    GeneratorType,
    AsyncGeneratorType,
    BaseException,
    asyncio.AbstractEventLoop,
    asyncio.Future,
    asyncio.Handle,
    Context,
    ModuleType,
)

#: Packages whose objects refer to all that runs: trio's runner and tasks, pytest's fixtures.
_OF_RUNNERS = ("trio._core", "_pytest", "pluggy")


def kept_by_modules(things: Mapping[Hashable, object]) -> set[Hashable]:
    """The keys of those ``things`` that a module of the user's refers to, directly or not."""
    #: by the id of its globals: whether a module is the user's
    modules = {
        id(vars(module)): is_users_module(name)
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType)
    }
    kept: set[Hashable] = set()
    #: by the id of each object of the last round: the keys of what it leads to
    leads: dict[int, set[Hashable]] = {}
    frontier: list[Any] = []
    alive: list[Any] = []  # or another object might get the same id
    for key, thing in things.items():
        leads.setdefault(id(thing), set()).add(key)
        frontier.append(thing)
    seen: set[int] = {id(things), id(alive), *leads}
    for _ in range(FAR):
        if not frontier:
            break
        referrers = gc.get_referrers(*frontier[:MANY])
        seen.update((id(frontier), id(referrers)))
        alive += (frontier, referrers)
        following: list[Any] = []
        for referrer in referrers:
            if id(referrer) in seen or _is_of_running_code(referrer):
                continue
            led = leads.setdefault(id(referrer), set())
            for referent in gc.get_referents(referrer):
                led |= leads.get(id(referent), set())
            if id(referrer) not in modules:
                seen.add(id(referrer))
                following.append(referrer)
            elif modules[id(referrer)]:
                kept |= led
        if len(kept) == len(things):
            break
        frontier = following
    return kept


def _is_of_running_code(thing: object) -> bool:
    if issubclass(type(thing), _OF_RUNNING_CODE):  # not of what a proxy stands for
        return True
    return str(getattr(type(thing), "__module__", "")).startswith(_OF_RUNNERS)
