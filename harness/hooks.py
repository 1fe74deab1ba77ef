"""Replacing functions of other people's classes for as long as somebody listens.

Checks may overlap: one for the test that runs a check of its own, or one in each of two threads;
and several hooks may be on one function. So a function is replaced when the first listener of any
hook comes, the replacement is made again whenever a hook is added or taken away, and the function
is put back when the last listener goes, in whatever order they go.

Who looks again and again, once for each test, says so with :func:`kept`: what CPython knows of a
class it forgets whenever an attribute is set, and the code of others is slower for a while.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Generic, TypeVar

L = TypeVar("L")

_lock = threading.RLock()


class _Slot:
    """One function that is replaced, and the hooks that replace it."""

    def __init__(self, holder: Any, name: str) -> None:
        self._holder = holder
        self._name = name
        # On an instance, the method is the class's; putting it back is taking ours away.
        self._inherited = name not in vars(holder)
        # As it stands there: what getattr() gives of a classmethod is bound.
        self._original = vars(holder).get(name)
        self._function: Callable[..., Any] = getattr(holder, name)
        self._replacement: Any = self._original
        self.hooks: tuple[Hook[Any], ...] = ()

    def stands(self) -> bool:
        """Whether nobody else has replaced the function since."""
        return vars(self._holder).get(self._name) is self._replacement

    def set(self, hooks: tuple[Hook[Any], ...]) -> None:
        # If someone has replaced our replacement it stays where they keep it, and does nothing.
        ours = self.stands()
        self.hooks = hooks
        function = self._function
        for hook in hooks:
            function = hook.wrap(function, hook)
        self._replacement = function if hooks else self._original
        if not ours:
            return
        if hooks or not self._inherited:
            setattr(self._holder, self._name, self._replacement)
        else:
            delattr(self._holder, self._name)


_slots: dict[tuple[int, str], _Slot] = {}


class Hook(Generic[L]):
    """A replacement of one function while somebody listens.

    :param holder: the class, module or object that has the function
    :param name: the function's name there
    :param wrap: makes the replacement from what it stands in front of and this hook, whose
        :attr:`listeners` it calls
    """

    def __init__(
        self,
        holder: Any,
        name: str,
        wrap: Callable[[Callable[..., Any], Hook[L]], Callable[..., Any]],
    ) -> None:
        self._holder = holder
        self._name = name
        self.wrap: Callable[[Callable[..., Any], Hook[L]], Callable[..., Any]] = wrap
        self.listeners: tuple[L, ...] = ()
        self._slot: _Slot | None = None
        # Other holders, such as an event loop, are to go when they are done with.
        self._may_be_kept = isinstance(holder, (type, ModuleType))

    def listen(self, listener: L) -> None:
        """Call ``listener`` too. A second call with the same one does nothing."""
        _listen((self,), listener)

    def leave(self, listener: L) -> None:
        """Stop calling ``listener``."""
        _leave((self,), listener)

    def _put_in_place(self) -> None:
        slot = self._slot
        if slot is not None:
            if slot.stands():
                return
            self._take_away()  # somebody has replaced the replacement meanwhile
        key = (id(self._holder), self._name)
        slot = _slots.get(key)
        if slot is None:
            slot = _slots[key] = _Slot(self._holder, self._name)  # it keeps the holder alive
        slot.set((*slot.hooks, self))
        self._slot = slot

    def _take_away(self) -> None:
        slot, self._slot = self._slot, None
        assert slot is not None
        slot.set(tuple(hook for hook in slot.hooks if hook is not self))
        if not slot.hooks:
            del _slots[id(self._holder), self._name]


class Hooks(Generic[L]):
    """Hooks that always have the same listeners."""

    def __init__(self, *hooks: Hook[L]) -> None:
        self._hooks = hooks

    @property
    def listeners(self) -> tuple[L, ...]:
        return self._hooks[0].listeners

    def listen(self, listener: L) -> None:
        """Call ``listener`` too. A second call with the same one does nothing."""
        _listen(self._hooks, listener)

    def leave(self, listener: L) -> None:
        """Stop calling ``listener``."""
        _leave(self._hooks, listener)


def _listen(hooks: tuple[Hook[L], ...], listener: L) -> None:
    with _lock:
        before = hooks[0].listeners
        if before and any(each is listener for each in before):
            return
        listeners = (*before, listener)
        for hook in hooks:
            hook.listeners = listeners
            if not before:
                hook._put_in_place()


def _leave(hooks: tuple[Hook[L], ...], listener: L) -> None:
    with _lock:
        before = hooks[0].listeners
        if not before:
            return
        listeners = tuple(each for each in before if each is not listener)
        for hook in hooks:
            hook.listeners = listeners
            if not (listeners or (_keepers and hook._may_be_kept)):
                hook._take_away()


#: How many want functions of classes and modules to stay replaced.
_keepers = 0


@contextmanager
def kept() -> Iterator[None]:
    """Let functions of classes and modules stay replaced in this block when nobody listens."""
    global _keepers
    with _lock:
        _keepers += 1
    try:
        yield
    finally:
        with _lock:
            _keepers -= 1
            if not _keepers:
                put_back()


def put_back() -> None:
    """Let nothing be replaced that nobody listens to."""
    with _lock:
        for slot in list(_slots.values()):
            for hook in slot.hooks:
                if not hook.listeners:
                    hook._take_away()
