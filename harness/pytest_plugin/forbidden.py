"""``forbid_get_event_loop``: a test fails if code under it calls ``asyncio.get_event_loop()``.

That function gives what runs, or else makes a loop that nothing will ever run, or raises, as the
version of Python and the thread have it. The calls are recorded and not refused, so that the code
takes the way it takes without the harness (``except RuntimeError`` around such a call is common);
the phase of the test in which they were made fails, with the line of each caller.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio import events
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from types import FrameType
from typing import Any, NamedTuple

import pytest

from ..diagnostics.stacks import Place, place_of
from ..watch import add_note
from .matrix import marker_of_run
from .options import settings_key

#: Packages that may call it: they know what runs.
EXEMPT = (
    "asyncio",
    "uvloop",
    "winloop",
    "anyio",
    "trio",
    "sniffio",
    "harness",
    "pytest_asyncio",
    "_pytest",
    "pluggy",
)


class Call(NamedTuple):
    """What was called, and the caller's line."""

    what: str
    place: Place

    def __str__(self) -> str:
        return f"{self.what} at {self.place}"


#: Calls in the test that is running; ``None`` while no test forbids anything.
_calls: list[Call] | None = None

_original: Any = events.get_event_loop


@wraps(_original)
def _get_event_loop() -> asyncio.AbstractEventLoop:
    _record(sys._getframe(1), "asyncio.get_event_loop()")
    loop: asyncio.AbstractEventLoop = _original()
    return loop


def _record(caller: FrameType, what: str) -> None:
    if _calls is None:
        return  # a module that was imported while it was forbidden keeps this function for good
    if str(caller.f_globals.get("__name__", "")).partition(".")[0] in EXEMPT:
        return
    call = Call(what, place_of(caller))
    if call not in _calls:
        _calls.append(call)


@contextmanager
def _forbidding() -> Iterator[list[Call]]:
    """Record who calls ``get_event_loop``, by whatever name it was imported before.

    In an event loop, CPython's function is answered in C, from ``asyncio.get_event_loop`` to the
    loop, and passes nothing that could be replaced. So every module's own name for it is.
    """
    global _calls
    before, _calls = _calls, []
    replaced = list(_names_of(_original))
    for namespace, name in replaced:
        namespace[name] = _get_event_loop
    try:
        with _policy_recorded():
            yield _calls
    finally:
        _calls = before
        for namespace, name in replaced:
            if namespace.get(name) is _get_event_loop:
                namespace[name] = _original


def _names_of(function: object) -> Iterator[tuple[dict[str, Any], str]]:
    for module in list(sys.modules.values()):
        namespace = getattr(module, "__dict__", None)
        name = str(getattr(module, "__name__", ""))
        if type(namespace) is not dict or name == __name__:
            continue
        if name not in ("asyncio", "asyncio.events") and name.partition(".")[0] in EXEMPT:
            continue
        for name, value in list(namespace.items()):
            if value is function:
                yield namespace, name


@contextmanager
def _policy_recorded() -> Iterator[None]:
    """``get_event_loop_policy().get_event_loop()``, too. Policies are to go in Python 3.16."""
    get_policy: Any = getattr(  # the public one warns, from Python 3.14 on
        events, "_get_event_loop_policy", getattr(events, "get_event_loop_policy", None)
    )
    owner: Any = None
    if get_policy is not None:
        classes = type(get_policy()).__mro__
        owner = next((each for each in classes if "get_event_loop" in vars(each)), None)
    if owner is None:
        yield
        return
    original = vars(owner)["get_event_loop"]

    @wraps(original)
    def get_event_loop(self: Any) -> asyncio.AbstractEventLoop:
        _record(sys._getframe(1), "get_event_loop() of the event loop policy")
        loop: asyncio.AbstractEventLoop = original(self)
        return loop

    owner.get_event_loop = get_event_loop
    try:
        yield
    finally:
        owner.get_event_loop = original


def _is_forbidden(item: pytest.Item) -> bool:
    settings = item.config.stash[settings_key]
    mark = marker_of_run(item, settings)
    if mark is None:
        return False
    if mark.forbid_get_event_loop is None:
        return settings.forbid_get_event_loop
    return mark.forbid_get_event_loop


def _phase_of(item: pytest.Item) -> AbstractContextManager[None]:
    return _forbidden() if _is_forbidden(item) else _ALLOWED


_ALLOWED = nullcontext()


@contextmanager
def _forbidden() -> Iterator[None]:
    __tracebackhide__ = True
    with _forbidding() as calls:
        try:
            yield
        except BaseException as exc:
            if calls:
                add_note(exc, _report(calls))
            raise
    if calls:
        pytest.fail(_report(calls), pytrace=False)


def _report(calls: list[Call]) -> str:
    lines = "\n".join(f"  {call}" for call in calls)
    place = calls[0].place
    return (
        f"asyncio.get_event_loop() called at {os.path.basename(place.file)}:{place.line}, "
        f"and the test forbids that (forbid_get_event_loop):\n{lines}\n"
        "Call asyncio.get_running_loop() in async code, and where no loop runs, get one passed in"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    __tracebackhide__ = True
    with _phase_of(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    __tracebackhide__ = True
    with _phase_of(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    __tracebackhide__ = True
    with _phase_of(item):
        return (yield)
