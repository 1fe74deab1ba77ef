"""Where a suspended task is: its chain of awaits, from the outermost coroutine to the innermost."""

from __future__ import annotations

import functools
import gc
import inspect
import linecache
import os
import sys
import sysconfig
import textwrap
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, NamedTuple

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup


class Place(NamedTuple):
    """A line of code; as text, ``file:line in function: source``."""

    file: str
    line: int
    function: str

    @property
    def name(self) -> str:
        """The name of the function, without those that it stands in."""
        return self.function.rpartition("<locals>.")[2]

    @property
    def source(self) -> str:
        return linecache.getline(self.file, self.line).strip()

    @property
    def position(self) -> str:
        """``file:line``."""
        return f"{_short_path(self.file)}:{self.line}"

    def __str__(self) -> str:
        return f"{self.position} in {self.function}: {self.source}"


def place_of(frame: FrameType, line: int | None = None) -> Place:
    """The line that ``frame`` is at, or was at: ``line``."""
    code = frame.f_code
    function = getattr(code, "co_qualname", code.co_name)  # co_qualname came with Python 3.11
    return Place(code.co_filename, line_of(frame) if line is None else line, function)


def place_of_function(function: Any) -> str:
    """Where ``function`` is written, as `` (file:line)``; empty for what has no code in Python."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None) or getattr(
        getattr(type(function), "__call__", None),  # noqa: B004 (the method)
        "__code__",
        None,
    )
    return "" if code is None else f" ({_short_path(code.co_filename)}:{code.co_firstlineno})"


def await_stack(coroutine: Any) -> Iterator[tuple[FrameType, int]]:
    """The suspended frames of ``coroutine``, outermost first, each with its current line number."""
    while coroutine is not None:
        for kind in ("cr", "ag", "gi"):
            frame = getattr(coroutine, f"{kind}_frame", None)
            if frame is not None:
                yield frame, line_of(frame)
            if hasattr(coroutine, f"{kind}_frame"):
                awaited = "gi_yieldfrom" if kind == "gi" else f"{kind}_await"
                coroutine = getattr(coroutine, awaited, None)
                break
        else:
            coroutine = _behind(coroutine)


def line_of(frame: FrameType) -> int:
    """The line that ``frame`` is at; where it has none (it may not have begun), its first."""
    line: int | None = frame.f_lineno
    return frame.f_code.co_firstlineno if line is None else line


#: Awaitables of CPython (Objects/genobject.c, Objects/iterobject.c) that have no attribute for the
#: coroutine or asynchronous generator that they run.
OPAQUE = {
    "anext_awaitable",
    "async_generator_asend",
    "async_generator_athrow",
    "coroutine_wrapper",
}


def _behind(awaitable: object) -> object:
    """The coroutine or generator that an opaque ``awaitable`` runs; ``None`` if there is none.

    ``async for`` over an asynchronous generator waits for such a one, and so does AnyIO's test
    runner for each fixture with a ``yield``.
    """
    if type(awaitable).__name__ in OPAQUE:
        for referent in gc.get_referents(awaitable):
            kinds = ("cr_frame", "ag_frame", "gi_frame")
            if type(referent).__name__ in OPAQUE or any(hasattr(referent, kind) for kind in kinds):
                found: object = referent
                return found
    return None


#: Packages whose frames say nothing about the code under test.
MACHINERY = ("anyio", "trio", "asyncio", "uvloop", "outcome", "harness", "_pytest", "pluggy")


#: Of these, those that say nothing of an error of an event loop either.
OWN = ("harness", "_pytest", "pluggy")


def is_machinery(frame: FrameType) -> bool:
    """Whether ``frame`` runs code of an event loop or of the harness, and not the user's."""
    if str(frame.f_globals.get("__name__", "")).partition(".")[0] in MACHINERY:
        return True
    # The frames that Cython makes up for uvloop's coroutines have no globals at all.
    return frame.f_code.co_filename.startswith("uvloop/")


#: Where the standard library lies, and what may lie below it without being part of it.
STDLIB = tuple({sysconfig.get_path("stdlib") + os.sep, sysconfig.get_path("platstdlib") + os.sep})
INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def is_user_code(frame: FrameType) -> bool:
    """Whether ``frame`` runs neither the machinery nor the standard library."""
    filename = frame.f_code.co_filename
    if is_machinery(frame) or filename.startswith("<frozen "):
        return False
    return not filename.startswith(STDLIB) or any(part in filename for part in INSTALLED)


def format_stack(coroutine: Any, *, indent: str = "    ") -> str:
    """``coroutine``'s await stack in the user's code, a line a frame: file, line, name, source.

    Empty if the coroutine is suspended in the machinery alone.
    """
    lines = []
    for frame, line in await_stack(coroutine):
        if is_machinery(frame):
            continue
        lines.append(f"{indent}{place_of(frame, line)}")
    return "\n".join(lines)


def waits_for_children(coroutine: Any) -> bool:
    """Whether a task is at the end of the block of a task group, waiting for its children."""
    return any(
        frame.f_code.co_name == "__aexit__" and is_machinery(frame)
        for frame, _ in await_stack(coroutine)
    )


def innermost_user_line(traceback: TracebackType | None) -> str | None:
    """The last line of the user's code in ``traceback``; ``None`` if there is none."""
    place = None
    while traceback is not None:
        if not is_machinery(traceback.tb_frame):
            place = str(place_of(traceback.tb_frame, traceback.tb_lineno))
        traceback = traceback.tb_next
    return place


def innermost_project_line(traceback: TracebackType | None) -> str | None:
    """The last line in ``traceback`` of code that is not installed; else the last of the user's."""
    found = innermost_user_line(traceback)
    while traceback is not None:
        frame = traceback.tb_frame
        if is_user_code(frame) and not any(part in frame.f_code.co_filename for part in INSTALLED):
            found = str(place_of(frame, traceback.tb_lineno))
        traceback = traceback.tb_next
    return found


def without_machinery(error: BaseException) -> None:
    """Take the machinery's frames off the top of the tracebacks of ``error``, what is in it as a
    group, and what led to it.

    What remains begins in the user's code, or, if there is none of it, in the library that has
    raised. What the harness itself has raised outside of the user's code is left without any.
    """
    for each in all_in(error):
        each.__traceback__ = _below_machinery(each.__traceback__)


#: The modules whose frames are above all code of a test or a fixture, and never below it.
WAYS_IN = ("harness.steps", "harness.watch")


def _below_machinery(traceback: TracebackType | None) -> TracebackType | None:
    begin = traceback
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__") in WAYS_IN:
            begin = traceback.tb_next  # hooks of the project's may stand above it
        traceback = traceback.tb_next
    users = begin
    while users is not None:
        if is_user_code(users.tb_frame):
            return users
        if str(users.tb_frame.f_globals.get("__name__", "")).partition(".")[0] in OWN:
            begin = users.tb_next
        users = users.tb_next
    return begin


def all_in(error: BaseException) -> Iterator[BaseException]:
    """``error``, what is in it as a group, and what led to it."""
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, BaseExceptionGroup):
            todo.extend(each.exceptions)
        todo += [each.__cause__, each.__context__]


def end_in_user_code(error: BaseException) -> None:
    """Cut the machinery's frames off the end of the traceback of ``error``."""
    last = None
    traceback = error.__traceback__
    while traceback is not None:
        if not is_machinery(traceback.tb_frame):
            last = traceback
        traceback = traceback.tb_next
    if last is None:
        error.__traceback__ = None
    else:
        last.tb_next = None


def format_frames(frames: Iterable[tuple[FrameType, int]], *, width: int) -> list[str]:
    """A line for each of ``frames``, none longer than ``width``: file, line, name, source.

    Files are named from the working directory or from ``site-packages`` on. Of a frame that
    repeats, and of a very deep stack, some lines stand for all.
    """
    lines: list[str] = []
    last: tuple[str, int, str] | None = None
    repeated = 0

    def end_repetition() -> None:
        if repeated:
            lines.append(f"... and {repeated} more {'frame' if repeated == 1 else 'frames'} of it")

    for frame, line in frames:
        code = frame.f_code
        key = (code.co_filename, line, code.co_name)
        if key == last:
            repeated += 1
            continue
        end_repetition()
        last, repeated = key, 0
        lines.append(_within(place_of(frame, line), width))
    end_repetition()
    if len(lines) > MOST_FRAMES:
        left_out = len(lines) - MOST_FRAMES
        half = MOST_FRAMES // 2
        lines[half : half + left_out] = [f"... {left_out} more frames"]
    return lines


#: How many frames of one stack are shown.
MOST_FRAMES = 40


def shorten(text: str, width: int) -> str:
    """``text``, cut at its end where it is longer than ``width``."""
    return text if len(text) <= width else text[: max(width - 3, 0)].rstrip() + "..."


def wrapped(text: str, width: int) -> list[str]:
    """``text`` in lines of at most ``width`` characters, all but the first indented."""
    if len(text) <= width:
        return [text]
    return textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)


def _within(place: Place, width: int) -> str:
    """``place`` as one line of at most ``width`` characters, with some of its source in it."""
    path = _short_path(place.file)
    where = f"{path}:{place.line} in {place.name}: "
    if len(where) > width - 20:
        where = f".../{os.path.basename(path)}:{place.line} in {place.name}: "
    return shorten(where + place.source, width)


def _short_path(path: str) -> str:
    for part in INSTALLED:
        if part in path:
            return path.rpartition(part)[2]
    try:
        here = os.getcwd() + os.sep
    except OSError:  # the working directory is gone
        return path
    return path[len(here) :] if path.startswith(here) else path
