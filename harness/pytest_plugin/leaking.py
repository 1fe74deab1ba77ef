"""What a test has left behind, and what becomes of the test for it."""

from __future__ import annotations

import fnmatch
import functools
import inspect
import os
import re
import warnings
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from types import CodeType

import pytest

from ..diagnostics.stacks import Place
from ..leaks import ALL, Leak, LeakCheck
from .lease import Lease


class LeakWarning(UserWarning):
    """A test has left something behind, and ``harness_leaks`` is ``warn``."""


class Leaking:
    """Looks for the leaks of one test.

    :param item: the test
    :param mode: ``"warn"`` or ``"error"``
    :param allowed: kinds of leak, or ``kind:pattern`` for some of a kind by their description.
        They are looked for all the same, and put away, so that no later test meets them
    """

    def __init__(self, item: pytest.Item, mode: str, allowed: Sequence[str]) -> None:
        self._item = item
        self._mode = mode
        self._allowed = [entry.partition(":") for entry in allowed]
        self._check = LeakCheck(elsewhere=functools.partial(_is_in_another_test, item))
        self._found: list[Leak] = []
        self._failed = False
        self._check.start()

    def entered_loop(self) -> None:
        """The event loop begins to run a step of the test, in the task that calls this."""
        self._check.entered_loop()

    def exempt(self) -> AbstractContextManager[None]:
        """What is made in this block belongs to a fixture of a wider scope."""
        return self._check.exempt()

    def failed(self, error: BaseException) -> list[Leak]:
        """The test has failed with ``error``: what nothing but that still refers to."""
        return [leak for leak in self._check.failed(error) if not self._is_allowed(leak)]

    def look(self, lease: Lease | None, *, failed: bool) -> None:
        """Look for leaks in the event loop, after the last fixture of the test.

        :param failed: the test has failed, and its traceback may keep things alive
        """
        self._failed = failed
        if lease is None:
            return
        if not failed and lease.is_quiet() and self._check.nothing_left(lease.loop):
            return

        async def find() -> None:
            self._found += await self._check.find(failed=failed)

        lease.run(find)

    def end(self) -> None:
        """After the event loop: fail the test, or warn, if there was something."""
        left = self._found + self._check.stop(failed=self._failed)
        found = [leak for leak in left if not self._is_allowed(leak)]
        self._warn_of_late()
        if not found:
            return
        leaks = "\n".join(map(str, found))
        report = f"{self._item.nodeid} left behind:\n{leaks}"  # it stands without a header
        if self._failed:
            # It is told, but a test has one cause of failure, and this may well be its consequence.
            self._item.add_report_section("teardown", "leaks", report)
        elif self._mode == "error":
            pytest.fail(f"{_headline(found)}\n{leaks}\n{_how_to_allow(found)}", pytrace=False)
        else:
            self._warn(report)

    def _warn(self, text: str) -> None:
        file, line, _ = self._item.location
        warnings.warn_explicit(
            text, LeakWarning, filename=str(self._item.path or file), lineno=(line or 0) + 1
        )

    def _warn_of_late(self) -> None:
        late = [leak for leak in self._check.late() if not self._is_allowed(leak)]
        if late:
            with warnings.catch_warnings():
                warnings.simplefilter("always", LeakWarning)  # an error would be this test's
                leaks = "\n".join(map(str, late))
                self._warn(f"during {self._item.nodeid} has shown what another test left:\n{leaks}")

    def _is_allowed(self, leak: Leak) -> bool:
        return any(
            leak.kind == kind and (not colon or fnmatch.fnmatchcase(leak.what, pattern))
            for kind, colon, pattern in self._allowed
        )


def _is_in_another_test(item: pytest.Item, place: Place) -> bool:
    mine = _code_of(item)
    others = {_code_of(each) for each in item.session.items} - {mine, None}
    return any(
        place.file == code.co_filename
        and place.name == code.co_name
        and any(place.line == line for _, _, line in code.co_lines())
        for code in others
        if code is not None
    )


def _code_of(item: pytest.Item) -> CodeType | None:
    function = getattr(item, "function", None)  # of tests of other kinds there is none
    return None if function is None else getattr(inspect.unwrap(function), "__code__", None)


def _headline(found: Sequence[Leak]) -> str:
    """The first line, which is all that pytest's short summary shows, cut at the terminal's width.

    So it begins with what was left, and has no path but the file's name.
    """
    first, others = found[0], len(found) - 1
    text = f"leaked {first.kind}"
    if first.where is not None:
        place = re.match(r"(.*?:\d+) in ", first.where)
        text += f", made at {os.path.basename(place[1] if place else first.where)}"
    return f"{text}, and {others} more" if others else text


def _how_to_allow(found: Sequence[Leak]) -> str:
    kinds = ", ".join(f'"{kind}"' for kind in dict.fromkeys(leak.kind for leak in found))
    return f"(if it is meant to: @pytest.mark.harness(allow_leaks=[{kinds}]))"


def checked_allowed(where: str, allowed: object) -> tuple[str, ...]:
    """``allowed`` as a tuple. Raises :exc:`pytest.UsageError` for a kind that does not exist."""
    if isinstance(allowed, str) or not isinstance(allowed, Collection):
        raise pytest.UsageError(f"{where} takes a list of kinds of leak, not {allowed!r}")
    for entry in allowed:
        if not isinstance(entry, str) or entry.partition(":")[0] not in ALL:
            raise pytest.UsageError(
                f"{where}: unknown kind of leak {entry!r}; valid are {', '.join(ALL)}, "
                "each alone or as 'kind:pattern'"
            )
    return tuple(allowed)
