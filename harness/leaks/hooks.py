"""Replacing functions of other people's classes for as long as somebody listens.

Checks may overlap: one for the test that runs a check of its own, or one in each of two threads.
So a function is replaced once, when the first listener comes, and put back when the last one goes,
in whatever order they go.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

L = TypeVar("L")

_lock = threading.RLock()


class Hook(Generic[L]):
    """One function that is replaced while somebody listens.

    :param holder: the class, module or object that has the function
    :param name: the function's name there
    :param wrap: makes the replacement from the original and this hook, whose :attr:`listeners` it
        calls
    """

    def __init__(
        self,
        holder: Any,
        name: str,
        wrap: Callable[[Callable[..., Any], Hook[L]], Callable[..., Any]],
    ) -> None:
        self._holder = holder
        self._name = name
        self._wrap = wrap
        self._replacement: Callable[..., Any] | None = None
        self._original: Any = None
        self._inherited = False
        self.listeners: tuple[L, ...] = ()

    def listen(self, listener: L) -> None:
        """Call ``listener`` too. A second call with the same one does nothing."""
        with _lock:
            if any(each is listener for each in self.listeners):
                return
            self.listeners = (*self.listeners, listener)
            if self._replacement is None:
                # On an instance, the method is the class's; putting it back is taking ours away.
                self._inherited = self._name not in vars(self._holder)
                # As it stands there: what getattr() gives of a classmethod is bound.
                self._original = vars(self._holder).get(self._name)
                self._replacement = self._wrap(getattr(self._holder, self._name), self)
                setattr(self._holder, self._name, self._replacement)

    def leave(self, listener: L) -> None:
        """Stop calling ``listener``."""
        with _lock:
            self.listeners = tuple(each for each in self.listeners if each is not listener)
            if self.listeners or self._replacement is None:
                return
            # If someone has replaced our replacement it stays where they keep it, and does nothing.
            if vars(self._holder).get(self._name) is self._replacement:
                if self._inherited:
                    delattr(self._holder, self._name)
                else:
                    setattr(self._holder, self._name, self._original)
            self._replacement = self._original = None
