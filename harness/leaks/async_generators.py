"""Async generators that were begun and not finished, be they suspended still or dropped.

One that is dropped is closed by the event loop, at some later time and in another task than the one
that used it: its ``finally`` and ``async with`` blocks run where nobody waits for them (PEP 533).
"""

from __future__ import annotations

import itertools
import sys
import warnings
import weakref
from collections.abc import Callable, Collection, Hashable
from typing import Any, ClassVar

from ..diagnostics.stacks import Place
from .caught_warnings import WarningsOfTheTest
from .contract import Kind, Leak, Owner, Suspects, owner
from .places import described, here, in_library, waiting_at


class AsyncGenerators(Kind):
    """Watches ``sys.set_asyncgen_hooks``, which event loops use too, and passes on to them."""

    names: ClassVar[tuple[str, ...]] = ("async generator",)

    def __init__(self, test: Owner, warnings_of_the_test: WarningsOfTheTest) -> None:
        super().__init__(test)
        self._warnings = warnings_of_the_test
        self._hooks: Any = None
        self._below: Any = None
        self._watching = False
        self._begun: dict[int, tuple[weakref.ref[Any], Place]] = {}
        self._dropped: list[tuple[int, str, Place]] = []
        self._numbers = itertools.count()

    def start(self) -> None:
        self._watching = True

    def entered_loop(self) -> None:
        # asyncio sets its hooks whenever it begins to run; trio sets them once.
        hooks = sys.get_asyncgen_hooks()
        if self._hooks is not None and hooks.firstiter is self._hooks[0]:
            return
        self._below = hooks
        self._hooks = self._hooks_above(hooks)
        sys.set_asyncgen_hooks(*self._hooks)

    def _hooks_above(self, below: Any) -> tuple[Callable[[Any], None], Callable[[Any], None]]:
        def firstiter(generator: Any) -> None:
            if self._watching:
                self._begin(generator)
            if below.firstiter is not None:
                below.firstiter(generator)

        # A generator keeps the finalizer that was in force when it was begun.
        def finalizer(generator: Any) -> None:
            reported = self._watching and self._drop(generator)
            if below.finalizer is not None:
                with warnings.catch_warnings():
                    if reported:
                        warnings.simplefilter("ignore", ResourceWarning)  # trio's
                    below.finalizer(generator)

        return firstiter, finalizer

    def _begin(self, generator: Any) -> None:
        place = here(2)
        # Without a line of the user's it is a fixture, which AnyIO runs.
        if place is not None and self.mine(owner.get()):
            self._begun[id(generator)] = weakref.ref(generator), place
        else:
            self._begun.pop(id(generator), None)

    def _drop(self, generator: Any) -> bool:
        _, place = self._begun.pop(id(generator), (None, None))
        # How an installed library treats its generators is not the test's to mend.
        if place is None or in_library(generator.ag_frame) or self._warnings.are_caught():
            return False
        self._dropped.append((next(self._numbers), generator.__qualname__, place))
        return True

    def look(self) -> Suspects:
        suspects: Suspects = {}
        for identity, (reference, place) in list(self._begun.items()):
            generator = reference()
            if generator is None or generator.ag_frame is None:
                self._begun.pop(identity, None)
            elif not generator.ag_running:  # else a task waits in it, and that is the leak
                name, at = generator.__qualname__, waiting_at(generator)
                what = f"{name}, suspended at {at}" if at else f"{name}, suspended"
                suspects["async generator", identity] = _describe(what, place)
        for number, name, place in self._dropped:
            what = f"{name}, dropped before it had ended; use contextlib.aclosing()"
            suspects["dropped async generator", number] = _describe(what, place)
        return suspects

    def things(self, keys: Collection[Hashable]) -> dict[Hashable, object]:
        found: dict[Hashable, object] = {}
        for identity, (reference, _) in list(self._begun.items()):
            generator = reference()
            if generator is not None and ("async generator", identity) in keys:
                found["async generator", identity] = generator
        return found

    def stop(self) -> None:
        self._watching = False
        if self._hooks is not None and sys.get_asyncgen_hooks().firstiter is self._hooks[0]:
            sys.set_asyncgen_hooks(*self._below)
        self._hooks = self._below = None  # which refer to this, and to the loop
        self._begun.clear()


def _describe(what: str, place: Place) -> Callable[[], Leak]:
    return lambda: Leak("async generator", what, described(place))
