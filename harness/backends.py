"""The backends by name: what each is made of, whether it is there, whether it is what runs.

A backend here is what AnyIO calls a backend plus its options. The name is the id in a test's name
and what options and markers select it by.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

Options = Mapping[str, Any]

#: AnyIO's option ``use_uvloop`` means winloop on Windows.
UVLOOP = "winloop" if sys.platform == "win32" else "uvloop"


@dataclass(frozen=True)
class Backend:
    """One event loop that tests can run on.

    :ivar name: the id of the backend
    :ivar library: the AnyIO backend, ``"asyncio"`` or ``"trio"``
    :ivar options: AnyIO's options for it
    :ivar needs: modules that have to be importable
    :ivar python: the first Python version that can run it
    :ivar is_running: tells whether the loop that is running, of the right library, is this one
    """

    name: str
    library: str
    options: Options = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    python: tuple[int, int] = (3, 10)
    is_running: Callable[[], bool] = lambda: True

    def missing(self) -> str | None:
        """Why this backend cannot run here, and what to do about it; ``None`` if it can."""
        if sys.version_info < self.python:
            wanted = ".".join(map(str, self.python))
            have = ".".join(map(str, sys.version_info[:2]))
            return f"backend {self.name!r} needs Python {wanted} or later, this is {have}"
        for module in self.needs:
            if not _importable(module):
                return (
                    f"backend {self.name!r} needs {module!r}, which is not installed: "
                    f"pip install {module}"
                )
        return None

    @property
    def anyio_backend(self) -> str | tuple[str, dict[str, Any]]:
        """The value of AnyIO's ``anyio_backend`` fixture for this backend."""
        return (self.library, dict(self.options)) if self.options else self.library


class WrongBackend(RuntimeError):
    """A test runs on another event loop than the one it was made for."""


def check_running(backend: Backend, holders: Sequence[object] = ()) -> None:
    """Raise :exc:`WrongBackend` unless ``backend`` is what runs here and now.

    :param holders: the fixtures that keep the event loop, in words, if that is known
    """
    library = current_library()
    if library == backend.library and backend.is_running():
        return
    held = "A module-, class- or session-scoped async fixture holds"
    if holders:
        verb = "holds" if len(holders) == 1 else "hold"
        held = f"{' and '.join(str(holder) for holder in holders)} {verb}"
        held = held[0].upper() + held[1:]
    raise WrongBackend(
        f"this test was made for the backend {backend.name!r} but runs on {describe_running()}. "
        f"{held} an event loop of another backend; "
        "give that fixture the same backend (let it use `anyio_backend`), or a function scope"
    )


def current_library() -> str:
    """``"asyncio"`` or ``"trio"``, for the event loop that runs this code.

    Raises :exc:`RuntimeError` outside an event loop. Importing this, or calling it under asyncio,
    does not import trio.
    """
    if _in_trio_task():
        return "trio"
    if asyncio._get_running_loop() is None:
        raise RuntimeError("no event loop of asyncio or trio is running in this thread")
    return "asyncio"


def current_loop() -> object:
    """The event loop that runs this code, also in a callback: asyncio's loop, or trio's token.

    Raises :exc:`RuntimeError` outside an event loop.
    """
    if not _in_trio_task():
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            if "trio" not in sys.modules:
                raise
    import trio

    return trio.lowlevel.current_trio_token()


def call_soon_from_thread() -> Callable[..., object]:
    """What a thread calls to have a function called in the running event loop.

    It raises :exc:`RuntimeError` once that has ended.
    """
    if current_library() == "trio":
        import trio

        return trio.lowlevel.current_trio_token().run_sync_soon
    # In this context, since AnyIO does not know its backend in a callback on uvloop otherwise.
    call_soon = asyncio.get_running_loop().call_soon_threadsafe
    return functools.partial(call_soon, context=copy_context())


def time_is_virtual() -> bool:
    """Whether the clock of the running event loop is none of the machine's."""
    if current_library() == "trio":
        import trio

        return type(trio.lowlevel.current_clock()).__name__ != "SystemClock"
    return getattr(current_loop(), "_virtual", None) is not None


def current_task_id() -> int:
    """AnyIO's ``get_current_task().id``, without making the rest of a ``TaskInfo``."""
    if current_library() == "trio":
        import trio

        return id(trio.lowlevel.current_task())
    return id(asyncio.current_task())


def describe_running() -> str:
    """The running event loop, in words for an error message."""
    if current_library() == "trio":
        return "trio"
    loop = asyncio.get_running_loop()
    return f"asyncio with {type(loop).__module__}.{type(loop).__qualname__}"


def running_backend_name() -> str:
    """The name of the built-in backend that runs: ``"asyncio"``, ``"uvloop"`` or ``"trio"``."""
    if current_library() == "trio":
        return "trio"
    return "uvloop" if _is_uvloop() else "asyncio"


def eager_loop() -> asyncio.AbstractEventLoop:
    """An asyncio event loop that starts tasks eagerly (``asyncio.eager_task_factory``)."""
    loop = asyncio.new_event_loop()
    if sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    return loop


def _in_trio_task() -> bool:
    trio: Any = sys.modules.get("trio")
    # in_trio_run() would also be true in an asyncio loop that runs beside a suspended guest run.
    return trio is not None and bool(trio.lowlevel.in_trio_task())


def _importable(module: str) -> bool:
    if module in sys.modules:
        return sys.modules[module] is not None
    return importlib.util.find_spec(module) is not None


def is_uvloops(loop: object) -> bool:
    """Whether ``loop`` is an event loop of uvloop's, or on Windows of winloop's."""
    return type(loop).__module__.partition(".")[0] == UVLOOP


def _is_uvloop() -> bool:
    return is_uvloops(asyncio.get_running_loop())


def _is_eager() -> bool:
    factory = asyncio.get_running_loop().get_task_factory()
    return factory is not None and factory is getattr(asyncio, "eager_task_factory", None)


#: The built-in backends.
BUILT_IN: Mapping[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend(
            "asyncio",
            "asyncio",
            is_running=lambda: isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop),
        ),
        Backend(
            "uvloop",
            "asyncio",
            {"use_uvloop": True},
            needs=(UVLOOP,),
            is_running=_is_uvloop,
        ),
        Backend("trio", "trio", needs=("trio",)),
        Backend(
            "asyncio+debug",
            "asyncio",
            {"debug": True},
            is_running=lambda: asyncio.get_running_loop().get_debug(),
        ),
        Backend(
            "asyncio+eager",
            "asyncio",
            {"loop_factory": eager_loop},
            python=(3, 12),
            is_running=_is_eager,
        ),
    )
}

#: The ids a test runs on when nothing else is said.
DEFAULT: tuple[str, ...] = ("asyncio", "uvloop", "trio")


def custom_backend(name: str, library: str, options: Options) -> Backend:
    """A backend of the user's own: AnyIO backend ``library`` with ``options``.

    With a ``loop_factory`` among the options, a loop of another type than the one the factory made
    is recognised as a different backend.

    Raises :exc:`ValueError` for an AnyIO backend that does not exist.
    """
    if library not in ("asyncio", "trio"):
        raise ValueError(
            f"backend {name!r}: the AnyIO backend must be 'asyncio' or 'trio', not {library!r}"
        )
    factory = options.get("loop_factory")
    if factory is None:
        return Backend(name, library, options, needs=(library,))
    made: set[type] = set()

    def loop_factory() -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = factory()
        made.add(type(loop))
        return loop

    return Backend(
        name,
        library,
        {**options, "loop_factory": loop_factory},
        # In virtual time, the loop's class is derived from the one that was made.
        is_running=lambda: isinstance(asyncio.get_running_loop(), tuple(made)),
    )
