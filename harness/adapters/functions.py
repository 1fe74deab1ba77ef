"""What ``serve`` and the shapes are given: whether it will do, and what it is called."""

from __future__ import annotations

import functools
import inspect
from typing import Any, cast

from .base import Handled, Handler, Shape


def shape_of(what: Any) -> Shape:
    """The shape that ``what`` is, or that of a handler. Raises :exc:`TypeError` for neither."""
    __tracebackhide__ = True
    return what if isinstance(what, Shape) else Handled(handler_of(what), name_of(what))


def handler_of(what: Any) -> Handler:
    """The async callable that ``what`` is or has as its ``handle`` method.

    Raises :exc:`TypeError` where there is none.
    """
    __tracebackhide__ = True
    is_async = inspect.iscoroutinefunction(what) or inspect.iscoroutinefunction(
        getattr(type(what), "__call__", None)  # noqa: B004 (the method, not whether there is one)
    )
    if not is_async and not isinstance(what, type) and hasattr(what, "handle"):
        what = what.handle
    expected = (
        "an async function that takes the stream, an object with `async def handle(stream)`, or a "
        "shape of harness.adapters"
    )
    if isinstance(what, type) and (issubclass(what, Shape) or hasattr(what, "handle")):
        raise TypeError(f"serve() expects {expected}: {name_of(what)}(...), not the class")
    if not callable(what) or isinstance(what, type):
        raise TypeError(f"serve() expects {expected}, not {what!r}")
    function = what
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isasyncgenfunction(function):
        raise TypeError(
            f"serve() expects {expected}; {name_of(what)}() is an async generator: it has a `yield`"
        )
    if not inspect.isroutine(function):
        function = getattr(type(function), "__call__")  # noqa: B004, B009
    is_def = not is_async and getattr(function, "__name__", "") != "<lambda>"
    if is_def and not inspect.iscoroutinefunction(function) and not _returns_awaitable(function):
        raise TypeError(
            f"serve() expects {expected}; {name_of(what)}() is not async: write `async def`"
        )
    why = why_not_called(what, object())
    if why is not None:
        raise TypeError(
            f"serve() calls the handler with the stream alone, and {why}"
            f"{_shape_for(what) or callback_alone(what)}"
        )
    return cast(Handler, what)


def _shape_for(what: Any) -> str:
    """Which shape of harness.adapters would call it as it is written, in words."""
    for shape, arguments, options in (
        ("AsyncioStreams takes a function of a reader and a writer", 2, {}),
        ("ASGI takes an application", 3, {}),
        ("Main takes a function with task_status, and its arguments", 0, {"task_status": None}),
    ):
        if why_not_called(what, *[None] * arguments, **options) is None:
            return f"; {shape}"
    return ""


def callback_alone(what: Any) -> str:
    """What to serve in the place of a function that calls asyncio's ``start_server`` itself.

    Or whose object does, in any of its methods. Nothing for any other function.
    """
    while isinstance(what, functools.partial):
        what = what.func
    owner = getattr(what, "__self__", None)
    functions = [what]
    for cls in type(owner).__mro__ if owner is not None else ():
        functions += vars(cls).values()
    called = {
        name
        for each in functions
        for name in getattr(getattr(each, "__code__", None), "co_names", ())
        if name in ("start_server", "start_unix_server")
    }
    if not called:
        return ""
    return f"; the callback that is given to {min(called)}() is served by AsyncioStreams(callback)"


def why_not_called(function: Any, *args: object, **options: object) -> str | None:
    """Why ``function`` does not take these arguments; ``None`` if it does, or if nobody knows."""
    try:
        # What a decorator hides is its own affair.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*args, **options)
    except TypeError as exc:
        names = [
            each.replace(annotation=inspect.Parameter.empty)
            for each in signature.parameters.values()
        ]
        return f"{name_of(function)}{inspect.Signature(names)} does not take that: {exc}"
    return None


def _returns_awaitable(function: Any) -> bool:
    """Whether a plain ``def`` wraps an async one (``functools.wraps``) or says it returns one."""
    if inspect.iscoroutinefunction(inspect.unwrap(function)):
        return True
    returns = str(getattr(function, "__annotations__", {}).get("return", ""))
    return "Awaitable" in returns or "Coroutine" in returns


def name_of(what: Any) -> str:
    """What messages call a handler: its function's name, or its class's."""
    while isinstance(what, functools.partial):
        what = what.func
    if hasattr(what, "__name__"):
        return str(what.__name__)
    return type(what).__name__


def checked_function(what: Any, shape: str, wanted: str = "an async function") -> Any:
    """``what``. Raises :exc:`TypeError` if it cannot be called."""
    __tracebackhide__ = True
    if inspect.iscoroutine(what):
        what.close()
        raise TypeError(
            f"{shape} takes {wanted}, and its arguments, and {what.__name__}() was called already"
        )
    if not callable(what):
        raise TypeError(f"{shape} takes {wanted}, not {what!r}")
    return what
