"""Where a suspended task is: its chain of awaits, from the outermost coroutine to the innermost."""

from __future__ import annotations

import linecache
from collections.abc import Iterator
from types import FrameType
from typing import Any


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
MACHINERY = ("anyio", "trio", "asyncio", "uvloop", "outcome", "harness")


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
        code = frame.f_code
        source = linecache.getline(code.co_filename, line).strip()
        name = getattr(code, "co_qualname", code.co_name)  # co_qualname came with Python 3.11
        lines.append(f"{indent}{code.co_filename}:{line} in {name}: {source}")
    return "\n".join(lines)
