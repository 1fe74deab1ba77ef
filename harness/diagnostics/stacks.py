"""Where a suspended task is: its chain of awaits, from the outermost coroutine to the innermost."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup


def await_stack(coroutine: Any) -> Iterator[tuple[FrameType, int]]:
    """The suspended frames of ``coroutine``, outermost first, each with its current line number."""
    while coroutine is not None:
        for kind in ("cr", "ag", "gi"):
            frame = getattr(coroutine, f"{kind}_frame", None)
            if frame is not None:
                yield frame, frame.f_lineno
            if hasattr(coroutine, f"{kind}_frame"):
                awaited = "gi_yieldfrom" if kind == "gi" else f"{kind}_await"
                coroutine = getattr(coroutine, awaited, None)
                break
        else:
            return


#: Packages whose frames say nothing about the code under test.
MACHINERY = ("anyio", "trio", "asyncio", "uvloop", "outcome", "harness", "_pytest", "pluggy")


def is_machinery(frame: FrameType) -> bool:
    """Whether ``frame`` runs code of an event loop or of the harness, and not the user's."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in MACHINERY


def format_stack(coroutine: Any, *, indent: str = "    ") -> str:
    """``coroutine``'s await stack in the user's code, a line a frame: file, line, name, source.

    Empty if the coroutine is suspended in the machinery alone.
    """
    lines = []
    for frame, line in await_stack(coroutine):
        if is_machinery(frame):
            continue
        lines.append(f"{indent}{_place(frame, line)}")
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
            place = _place(traceback.tb_frame, traceback.tb_lineno)
        traceback = traceback.tb_next
    return place


def without_machinery(error: BaseException) -> None:
    """Take the machinery's frames off the top of the traceback of ``error`` and what is in it.

    What remains begins in the user's code; a traceback without any is left as it is.
    """
    traceback = error.__traceback__
    while traceback is not None and is_machinery(traceback.tb_frame):
        traceback = traceback.tb_next
    if traceback is not None:
        error.__traceback__ = traceback
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            without_machinery(each)


def _place(frame: FrameType, line: int) -> str:
    code = frame.f_code
    name = getattr(code, "co_qualname", code.co_name)  # co_qualname came with Python 3.11
    source = linecache.getline(code.co_filename, line).strip()
    return f"{code.co_filename}:{line} in {name}: {source}"
