"""Cancel scopes that were entered and never left; of task groups and nurseries, too."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar

from ..backends import current_library
from ..diagnostics.stacks import Place
from ..hooks import Hook, Hooks
from .contract import Kind, Leak, Owner, Suspects, owner
from .places import current_task, described, entered_by_harness, here


class CancelScopes(Kind):
    """Scopes whose task is at the end of the test, or has ended, without having left them.

    The scopes of another task that still runs go with that task.
    """

    names: ClassVar[tuple[str, ...]] = ("cancel scope",)

    def __init__(self, test: Owner) -> None:
        super().__init__(test)
        #: by the scope's id: the scope, its task, and the line that entered it
        self._entered: dict[int, tuple[Any, Any, Place]] = {}

    def entered_new_loop(self) -> None:
        _hooks_of(current_library()).listen(self)

    def entered(self, scope: Any, place: Place | None) -> None:
        """``scope`` was entered."""
        # Without a line of the user's it is one of the machinery's own.
        if place is not None and self.mine(owner.get()):
            self._entered[id(scope)] = scope, current_task(), place

    def left(self, scope: Any) -> None:
        """``scope`` was left."""
        self._entered.pop(id(scope), None)

    def look(self) -> Suspects:
        this = current_task()
        return {
            ("cancel scope", id(scope)): _describe(place)
            for scope, task, place in list(self._entered.values())
            if task is this or not _is_running(task)
        }

    def nothing_left(self, loop: AbstractEventLoop | None) -> bool:
        return not self._entered

    def stop(self) -> None:
        for hooks in _hooks.values():
            hooks.leave(self)
        self._entered.clear()


_hooks: dict[str, Hooks[CancelScopes]] = {}


def _hooks_of(library: str) -> Hooks[CancelScopes]:
    hooks = _hooks.get(library)
    if hooks is None:
        scope: Any
        if library == "trio":
            # AnyIO's scopes and task groups stand on trio's; its own class would miss the latter.
            import trio

            # A nursery leaves its scope by `_close` (trio/_core/_run.py, NurseryManager.__aexit__),
            # which CancelScope.__exit__ calls as well.
            scope, leave = trio.CancelScope, "_close"
        else:
            # What anyio.CancelScope() makes on asyncio (anyio/_backends/_asyncio.py).
            scope, leave = import_module("anyio._backends._asyncio").CancelScope, "__exit__"
        hooks = Hooks(Hook(scope, "__enter__", _enter), Hook(scope, leave, _leave))
        _hooks[library] = hooks
    return hooks


def _enter(original: Callable[..., Any], hook: Hook[CancelScopes]) -> Callable[..., Any]:
    def __enter__(scope: Any) -> Any:  # noqa: N807 (it is one)
        result = original(scope)
        if not hook.listeners:
            return result
        # The harness's own scopes are its own affair: one of a fixture that ends in another task
        # than it began in goes with its task.
        place = None if entered_by_harness() else here()
        for listener in hook.listeners:
            listener.entered(scope, place)
        return result

    return __enter__


def _leave(original: Callable[..., Any], hook: Hook[CancelScopes]) -> Callable[..., Any]:
    def leave(scope: Any, *exc_info: Any) -> Any:
        __tracebackhide__ = True
        try:
            return original(scope, *exc_info)
        finally:
            # A frame in the traceback of an exception must not hold the exception.
            del exc_info
            for listener in hook.listeners:
                listener.left(scope)

    return leave


def open_in_this_task() -> list[Place]:
    """The lines that entered what this task has not left; known only while leaks are looked for."""
    this = current_task()
    found: dict[int, Place] = {}
    hooks = _hooks.get(current_library())
    for listener in () if hooks is None else hooks.listeners:
        for key, (_, task, place) in list(listener._entered.items()):
            if task is this:
                found[key] = place
    return list(found.values())


def _is_running(task: Any) -> bool:
    done = getattr(task, "done", None)
    if done is not None:
        return not done()
    nursery = getattr(task, "parent_nursery", None)
    return nursery is not None and task in nursery.child_tasks


def _describe(place: Place) -> Callable[[], Leak]:
    return lambda: Leak("cancel scope", "entered and never left", described(place))
