"""Files and directories that the harness itself has made for a test, and has not removed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import ClassVar

from ..diagnostics.stacks import Place
from ..transports import temporary
from .contract import Kind, Leak, Owner, Suspects, owner
from .places import described, here


class TemporaryFiles(Kind):
    """What transports make and have to take away; what a test makes for itself is its own."""

    names: ClassVar[tuple[str, ...]] = ("temporary file",)

    def __init__(self, test: Owner) -> None:
        super().__init__(test)
        self._made: dict[str, Place | None] = {}
        self._listener = self._on_made

    def start(self) -> None:
        temporary.listeners.append(self._listener)

    def _on_made(self, path: str) -> None:
        if self.mine(owner.get()):
            self._made[path] = here()

    def look(self) -> Suspects:
        suspects: Suspects = {}
        for path, place in self._made.items():
            purpose = temporary.purpose_of(path)
            if purpose is not None:
                suspects["temporary file", path] = _describe(f"{path}, for {purpose}", place)
        return suspects

    def put_away(self, keys: Collection[Hashable]) -> None:
        for path in self._made:
            if ("temporary file", path) in keys:
                temporary.remove_directory(path)

    def look_outside(self) -> Suspects:
        return self.look()

    def stop(self) -> None:
        if self._listener in temporary.listeners:
            temporary.listeners.remove(self._listener)
        del self._listener  # which refers to this


def _describe(what: str, place: Place | None) -> Callable[[], Leak]:
    return lambda: Leak("temporary file", what, described(place))
