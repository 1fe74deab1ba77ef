"""What holds virtual time: everything real that is in flight for one event loop."""

from __future__ import annotations

from .contract import Hold, Timeline
from .order import Order
from .outside import Outside
from .processes import Processes
from .threads import Threads
from .workers import Workers


class Holding:
    """Takes notice of what is in flight, from :meth:`begin` to :meth:`end`."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._kinds = (
            Workers(timeline),
            Processes(timeline),
            Outside(timeline),
            Threads(timeline),
            Order(timeline),
        )
        self._begun = False

    def begin(self) -> None:
        """Called in the event loop. Idempotent."""
        if not self._begun:
            self._begun = True
            self._timeline.begin()
            for kind in self._kinds:
                kind.begin()

    def end(self) -> None:
        if self._begun:
            for kind in self._kinds:
                kind.end()

    def hold(self, what: str) -> Hold:
        return Hold(self._timeline, what)
