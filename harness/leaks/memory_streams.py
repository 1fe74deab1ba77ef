"""AnyIO's memory object streams that were not closed, be they still there or collected."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Collection, Hashable
from typing import Any, ClassVar

from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ..diagnostics.stacks import Place
from ..hooks import Hook, Hooks
from .caught_warnings import WarningsOfTheTest
from .contract import Kind, Leak, Owner, Suspects, owner
from .places import described, here


class MemoryStreams(Kind):
    """Send and receive streams, and their clones."""

    names: ClassVar[tuple[str, ...]] = ("memory stream",)

    def __init__(self, test: Owner, warnings: WarningsOfTheTest) -> None:
        super().__init__(test)
        self._warnings = warnings
        #: by the stream's id, since an unclosed stream tells when it goes
        self._open: dict[int, tuple[weakref.ref[Any], Place]] = {}
        self._dropped: list[tuple[int, str, Place]] = []
        self._numbers = itertools.count()

    def start(self) -> None:
        _hooks.listen(self)

    def made(self, stream: Any, place: Place | None) -> None:
        """A stream was made."""
        # Without a line of the user's it is one of AnyIO's own, such as its test runner's.
        if place is not None and self.mine(owner.get()):
            self._open[id(stream)] = weakref.ref(stream), place
        else:
            self._open.pop(id(stream), None)

    def dropped(self, stream: Any) -> bool:
        """An unclosed stream is being collected; tell whether it will be reported."""
        _, place = self._open.pop(id(stream), (None, None))
        if place is None or self._warnings.are_caught():
            return False
        self._dropped.append((next(self._numbers), type(stream).__name__, place))
        return True

    def look(self) -> Suspects:
        suspects: Suspects = {}
        for identity, (reference, place) in list(self._open.items()):
            stream = reference()
            if stream is None or stream._closed:
                self._open.pop(identity, None)
            else:
                name = type(stream).__name__
                suspects["memory stream", identity] = _describe(f"{name}, not closed", place)
        suspects.update(self.look_outside())
        return suspects

    def things(self, keys: Collection[Hashable]) -> dict[Hashable, object]:
        found: dict[Hashable, object] = {}
        for identity, (reference, _) in list(self._open.items()):
            stream = reference()
            if stream is not None and ("memory stream", identity) in keys:
                found["memory stream", identity] = stream
        return found

    def look_outside(self) -> Suspects:
        return {
            ("dropped memory stream", number): _describe(f"{name}, dropped without close()", place)
            for number, name, place in self._dropped
        }

    def stop(self) -> None:
        _hooks.leave(self)
        self._open.clear()


def _post_init(original: Callable[..., Any], hook: Hook[MemoryStreams]) -> Callable[..., Any]:
    def __post_init__(stream: Any) -> None:  # noqa: N807 (it is one)
        original(stream)
        if hook.listeners:
            place = here()
            for listener in hook.listeners:
                listener.made(stream, place)

    return __post_init__


def _del(original: Callable[..., Any], hook: Hook[MemoryStreams]) -> Callable[..., Any]:
    def __del__(stream: Any) -> None:  # noqa: N807 (it is one)
        # All that AnyIO's does is to warn of a stream that is not closed.
        if not stream._closed:
            taken = [listener.dropped(stream) for listener in hook.listeners]
            if not any(taken):
                original(stream)

    return __del__


_hooks: Hooks[MemoryStreams] = Hooks(
    *(
        Hook(cls, name, wrap)
        for cls in (MemoryObjectSendStream, MemoryObjectReceiveStream)
        for name, wrap in (("__post_init__", _post_init), ("__del__", _del))
    )
)


def _describe(what: str, place: Place) -> Callable[[], Leak]:
    return lambda: Leak("memory stream", what, described(place))
