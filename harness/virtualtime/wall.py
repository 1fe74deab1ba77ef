"""The clocks of the process, as one virtual clock has it.

The package time-machine replaces what tells the date, in C and so by whatever name it was
imported. It leaves ``time.monotonic`` alone, since event loops live by that; here it is replaced,
but only where other code than the standard library and the machinery of the test calls it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

from .contract import Timeline

#: Packages that go on by the real clock, beside the standard library.
REAL = frozenset(
    {"_pytest", "anyio", "execnet", "harness", "pluggy", "pytest", "trio", "uvloop", "xdist"}
)

_monotonic = time.monotonic
_monotonic_ns = time.monotonic_ns


@contextmanager
def patched_wall_clock(timeline: Timeline, start: datetime | None) -> Iterator[None]:
    """Let the process's clocks follow ``timeline``, from ``start`` on; by default, from now on."""
    try:
        import time_machine
    except ImportError:
        raise RuntimeError(
            "patch_wall_clock() needs the package time-machine, which is not installed: "
            "pip install time-machine"
        ) from None
    if start is None:
        start = datetime.now(timezone.utc)
    elif not isinstance(start, datetime):
        raise TypeError(f"start must be a datetime, not {start!r}")
    began = timeline.now()
    real = _monotonic_ns()

    def elapsed() -> int:
        return round((timeline.now() - began) * 1_000_000_000)

    def monotonic() -> float:
        return (real + elapsed()) / 1_000_000_000

    def monotonic_ns() -> int:
        return real + elapsed()

    with time_machine.travel(start, tick=False) as traveller:
        told = timedelta()

        def follow() -> None:
            nonlocal told
            now = timedelta(microseconds=elapsed() // 1000)
            if now != told:
                traveller.shift(now - told)
                told = now

        timeline.followers.append(follow)
        try:
            with _replaced({_monotonic: monotonic, _monotonic_ns: monotonic_ns}):
                yield
        finally:
            timeline.followers.remove(follow)


@contextmanager
def _replaced(functions: dict[Callable[..., Any], Callable[..., Any]]) -> Iterator[None]:
    """Let every module that has one of ``functions`` have another one instead."""
    replaced: list[tuple[dict[str, Any], str, Any]] = []
    for namespace in _namespaces():
        for name, value in list(namespace.items()):
            for function, replacement in functions.items():
                if value is function:
                    namespace[name] = replacement
                    replaced.append((namespace, name, function))
    try:
        yield
    finally:
        for namespace, name, function in replaced:
            namespace[name] = function


def _namespaces() -> Iterator[dict[str, Any]]:
    for name, module in list(sys.modules.items()):
        package = name.partition(".")[0]
        namespace = getattr(module, "__dict__", None)
        is_real = package in sys.stdlib_module_names or package in REAL
        if type(namespace) is dict and (name == "time" or not is_real):
            yield namespace
