"""The contract of a kind of leak, what it reports, and whose a thing is.

A kind is one class in one module. It watches things come into being between :meth:`Kind.start` and
:meth:`Kind.stop`, and says on request which of them are still there.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Collection, Hashable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Leak:
    """One thing that a test left behind.

    :ivar kind: what it is, one of :data:`harness.leaks.ALL`
    :ivar what: its name or description
    :ivar where: the line of the user's code that made it, ``"tests/test_x.py:12 in test_y: ..."``;
        ``None`` when that is not known
    """

    kind: str
    what: str
    where: str | None

    def __str__(self) -> str:
        made = "" if self.where is None else f"\n    created at {self.where}"
        return f"leaked {self.kind}: {self.what}{made}"


class Owner:
    """Whose a thing is: one test's, or of something that outlives the test."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<Owner {self.name}>"


#: The owner of what wider-scoped fixtures make.
OUTLIVES_THE_TEST = Owner("a wider-scoped fixture")

#: Whose is what the running code makes. Tasks, callbacks and worker threads inherit it on every
#: backend, so what a wider-scoped server does during a test is still the server's.
owner: ContextVar[Owner | None] = ContextVar("harness_leaks_owner", default=None)

#: What a kind finds: a key that names the thing for as long as it exists, and how to describe it.
Suspects = dict[Hashable, Callable[[], Leak]]


class Kind:
    """One kind of thing that can leak.

    :ivar names: the kinds of leak that it reports
    :ivar test: whose leaks it looks for
    """

    names: ClassVar[tuple[str, ...]]

    def __init__(self, test: Owner) -> None:
        self.test = test

    def mine(self, whose: Owner | None) -> bool:
        """Whether a thing belongs to the test. What nobody owns does: a thread has no context."""
        return whose is None or whose is self.test

    def start(self) -> None:
        """Begin to watch; outside of the event loop or inside."""

    def entered_new_loop(self) -> None:
        """An event loop runs a part of the test for the first time."""

    def entered_loop(self) -> None:
        """The event loop runs the next part of the test. Idempotent, and cheap."""

    def exempt_begin(self) -> None:
        """What comes into being from here on is not the test's, even if its owner is not known."""

    def exempt_end(self) -> None:
        """The end of that."""

    def look(self) -> Suspects:
        """What is there now that should not be there; called in the event loop."""
        return {}

    def nothing_left(self, loop: AbstractEventLoop | None) -> bool:
        """Whether :meth:`look` would find nothing; called while the event loop stands still.

        In doubt it is ``False``. ``loop`` is asyncio's; there is none on trio.
        """
        return not self.look()

    def look_outside(self) -> Suspects:
        """The same after the event loop has run for the last time, for what still can be told."""
        return {}

    def things(self, keys: Collection[Hashable]) -> dict[Hashable, object]:
        """The objects behind what was found under ``keys``, as far as they can be told."""
        return {}

    def put_away(self, keys: Collection[Hashable]) -> None:
        """End what :meth:`look` has found under ``keys``; called in the event loop.

        So that it does not disturb the end of the loop, or the next test.
        """

    def stop(self) -> None:
        """Take everything away that :meth:`start` and the others have put anywhere."""
