"""For which test or fixture each event loop was made, and what follows for an error message.

AnyIO's plugin makes an event loop for the first test or fixture that needs one, and keeps it as
long as anybody holds a lease on it. All leases are taken through one function, which is replaced
while AnyIO sets up a fixture or calls a test. So it is known who holds the loop that a test of
another backend meets, and whose loop it was that "Event loop is closed" is about.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any
from weakref import WeakKeyDictionary, ref

import anyio
import pytest

from ..diagnostics import all_in, innermost_user_line
from ..diagnostics.foreign_loops import Found, find_loop, loop_of
from ..watch import add_note
from .options import settings_key
from .places import Owner, owner_of_fixture

loops_key: pytest.StashKey[Loops] = pytest.StashKey()

#: Parts of the messages of asyncio and uvloop for an object of a loop that does not run.
#: asyncio/base_events.py and uvloop/loop.pyx, ``_check_closed``; asyncio/tasks.py, ``__step`` and
#: ``ensure_future``; asyncio/mixins.py.
OF_ANOTHER_LOOP = (
    "Event loop is closed",
    "attached to a different loop",
    "belongs to a different loop",
    "is bound to a different event loop",
)
#: ``trio/_core/_run.py``: trio was called where no trio runs.
NOT_IN_TRIO = "must be called from async context"
#: ``asyncio/tasks.py`` and uvloop, about a checkpoint of trio.
TRIO_IN_ASYNCIO = "Task got bad yield: <class 'trio."
#: ``asyncio/events.py``: asyncio was called where no asyncio runs.
NOT_IN_ASYNCIO = "no running event loop"
#: The same file, ``get_event_loop`` of the policy, where it does not make one.
NO_LOOP_OF_THREAD = "There is no current event loop in thread "


class Loops:
    """The event loops of a run."""

    def __init__(self) -> None:
        #: asyncio's loops, and for trio, which has no such object, the tokens of its runs
        self._made_for: WeakKeyDictionary[object, Owner] = WeakKeyDictionary()
        self._leases: list[Owner] = []
        self._last: tuple[str, ref[object]] | None = None

    def holders(self) -> Sequence[Owner]:
        """Who holds the event loop beside the test that runs: first those of a wider scope."""
        wider = [owner for owner in self._leases if owner.outlives_its_test]
        return wider or [owner for owner in self._leases if owner.fixture is not None]

    # Who makes a loop

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        __tracebackhide__ = True
        function = fixturedef.func
        if not (isasyncgenfunction(function) or iscoroutinefunction(function)):
            result = yield
            loop = _loop_of_fixture(result)
            if loop is not None:
                self._remember(loop, owner_of_fixture(fixturedef, request))
            return result
        with self._recording(owner_of_fixture(fixturedef, request)):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, object, object]:
        __tracebackhide__ = True
        if "anyio_backend" not in pyfuncitem.funcargs:
            return (yield)
        with self._recording(Owner(pyfuncitem.nodeid)):
            return (yield)

    @contextmanager
    def _recording(self, owner: Owner) -> Iterator[None]:
        """Record ``owner`` for the leases that AnyIO takes meanwhile.

        anyio/pytest_plugin.py, ``get_runner``: the one way to a runner and its loop. Without it,
        all works but the messages.
        """
        plugin: Any = sys.modules["anyio.pytest_plugin"]
        original = getattr(plugin, "get_runner", None)
        if original is None:
            yield
            return
        taken: list[object] = []

        @contextmanager
        def get_runner(*args: Any, **arguments: Any) -> Iterator[object]:
            with original(*args, **arguments) as runner:
                self._leases.append(owner)
                taken.append(runner)
                self._remember(_loop_of_runner(runner), owner)
                try:
                    yield runner
                finally:
                    # Again, since trio's run begins with the first call of the runner.
                    now = owner.fixture is None  # else this is the fixture's teardown
                    self._remember(_loop_of_runner(runner), owner, now=now)
                    self._leases.remove(owner)
                    taken.remove(runner)

        plugin.get_runner = get_runner
        try:
            yield
        finally:
            plugin.get_runner = original
            for runner in taken:
                self._remember(_loop_of_runner(runner), owner)

    def _remember(self, loop: object | None, owner: Owner, *, now: bool = True) -> None:
        """Record ``owner`` as the one whose loop it is, and as the one who runs on it ``now``."""
        if loop is None:
            return
        try:
            self._made_for.setdefault(loop, owner)
            if now:
                self._last = (owner.nodeid, ref(loop))
        except TypeError:
            pass  # a loop of somebody's own that cannot be hashed or referenced weakly

    # What an error says

    def add_notes(self, raised: BaseException, item: pytest.Item) -> None:
        """Note on what ``item`` has raised whose event loop it is about, if it is about one."""
        for error in all_in(raised):
            note = self._note(error, item)
            if note is not None:
                add_note(error, note)

    def _note(self, error: BaseException, item: pytest.Item) -> str | None:
        if not isinstance(error, (RuntimeError, ValueError)):
            return None
        message = str(error)
        if message == NOT_IN_TRIO or message.startswith(TRIO_IN_ASYNCIO):
            return _about_wrong_library(error, item, "trio")
        if message == NOT_IN_ASYNCIO or message.startswith(NO_LOOP_OF_THREAD):
            return _about_wrong_library(error, item, "asyncio")
        if _is_run_finished(error) or any(part in message for part in OF_ANOTHER_LOOP):
            return self._about_loop(error, item)
        return None

    def _about_loop(self, error: BaseException, item: pytest.Item) -> str | None:
        own = None
        if self._last is not None and self._last[0] == item.nodeid:
            own = self._last[1]()
        found = find_loop(error.__traceback__, lambda loop: loop is not own)
        if found is not None:
            return self._about_foreign(found, item)
        found = find_loop(error.__traceback__, lambda loop: loop is own)
        if found is None or own is None:
            return None
        return (
            f"({_object(found)} belongs to the event loop of this test, which had ended when it "
            f"was used at {found.place}\n"
            "Finish with it before that, in the test or in the teardown of an async fixture)"
        )

    def _about_foreign(self, found: Found, item: pytest.Item) -> str:
        owner = self._made_for.get(found.loop)
        cure = "Make it"
        if owner is None:
            whose = (
                "an event loop that no test or async fixture runs on, such as one of "
                "asyncio.run() or new_event_loop(), at import or in a sync fixture"
            )
        else:
            whose = f"the event loop of {owner}"
            if not owner.outlives_its_test:
                cure = "Every test has an event loop of its own: make it"
            elif owner.nodeid != item.nodeid:
                cure = f"Let this test use the fixture {owner.fixture!r}, or make it"
        return (
            f"({_object(found)} was made in {whose}, and used at {found.place}\n"
            f"{cure} in the test that uses it or in an async fixture of function scope; "
            "keep it in no global, class or cache)"
        )


def _object(found: Found) -> str:
    return f"`{found.name}`, of type {found.type_name},"


def _about_wrong_library(error: BaseException, item: pytest.Item, called: str) -> str | None:
    place = innermost_user_line(error.__traceback__)
    if place is None:
        return None
    backend = getattr(item, "funcargs", {}).get("anyio_backend")
    if backend is not None:
        runs = item.config.stash[settings_key].backend_of(backend)
        if runs.library != called:
            names = '["trio"]' if called == "trio" else '["asyncio", "uvloop"]'
            return (
                f"(this test runs on {runs.name}, and calls {called} at {place}. Call AnyIO's "
                f"counterpart there, or keep the test on {called}: "
                f"@pytest.mark.harness(backends={names}))"
            )
    return (
        f"({called} is called outside of its event loop at {place}: in sync code before or after "
        "it, in a callback, or in a thread; from a thread, go through anyio.from_thread)"
    )


def _is_run_finished(error: BaseException) -> bool:
    """``RunFinishedError``, AnyIO's or trio's own: a token was used after its event loop."""
    kinds: list[Any] = [getattr(anyio, "RunFinishedError", None)]
    if "trio" in sys.modules:
        kinds.append(sys.modules["trio"].RunFinishedError)
    return isinstance(error, tuple(kind for kind in kinds if kind is not None))


def _loop_of_runner(runner: Any) -> object | None:
    """anyio/_backends/_asyncio.py and _trio.py, ``TestRunner``.

    Between two calls of its runner trio's guest run is suspended, and still trio's current one.
    """
    get_loop = getattr(runner, "get_loop", None)
    if get_loop is not None:
        loop: object = get_loop()
        return loop
    trio: Any = sys.modules.get("trio")
    if trio is None:
        return None
    try:
        token: object = trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None
    return token


def _loop_of_fixture(result: object) -> object | None:
    """The loop of a fixture that makes one: pytest-asyncio's runners, or a project's own."""
    if result is None or isinstance(result, (str, bytes, int)) or "asyncio" not in sys.modules:
        return None
    if type(result).__name__ == "Runner":  # asyncio's, or backports.asyncio's
        try:
            loop: object = result.get_loop()  # type: ignore[attr-defined]
        except Exception:
            return None
        return loop if loop_of(loop) is loop else None
    return result if loop_of(result) is result else None
