"""Every thread's stack, the user's frames first: what a loop that is blocked is blocked by."""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection
from types import FrameType
from typing import Any

from .connections import fold_alike
from .stacks import MACHINERY, format_frames, is_machinery, is_user_code, line_of, shorten

EXECUTOR = "concurrent.futures.thread"

#: Modules whose threads belong to a pool: they wait for the next thing to do.
POOLS = frozenset({EXECUTOR, "anyio._backends._asyncio", "trio._core._thread_cache"})


def format_threads(
    *,
    skip: Collection[int] = (),
    mark_loop_thread: int | None = None,
    width: int = 100,
) -> str:
    """A paragraph for each thread: name, whether it is a daemon, and its stack in the user's code.

    Outermost frame first. The frames of event loops, of the harness and of the standard library are
    left out, but for the innermost one, which says in what the thread waits. Threads in which no
    user code runs come last, in a line each.

    :param skip: identifiers of threads to leave out, as in ``threading.get_ident()``
    :param mark_loop_thread: the identifier of the thread to mark as the event loop's
    """
    names = {thread.ident: thread for thread in threading.enumerate()}
    with_user_code: list[tuple[bool, str]] = []
    others: list[tuple[str, list[str]]] = []
    for ident, inmost in sys._current_frames().items():
        if ident in skip:
            continue
        thread = names.get(ident)
        kind = ["daemon"] if thread is not None and thread.daemon else []
        is_loop = ident == mark_loop_thread
        if is_loop:
            kind.append("runs the event loop")
        name = "a thread not started by Python" if thread is None else f"thread {thread.name!r}"
        title = shorten(name + (f" ({', '.join(kind)})" if kind else ""), width)
        outermost = first_inside_pytest(inmost)
        lines = thread_lines(inmost, width=width - 4, outermost=outermost)
        if is_loop or any(is_user_code(frame) for frame in frames_of(inmost)):
            paragraph = "\n".join([title, *(f"    {line}" for line in lines)])
            with_user_code.append((not is_loop, paragraph))
        else:
            where = lines[-1] if lines else "runs no user code"
            others.append((f"{where} {kind}", [shorten(f"{title}: {where}", width)]))
    with_user_code.sort(key=lambda each: each[0])
    return "\n".join([paragraph for _, paragraph in with_user_code] + fold_alike(others))


def frames_of(inmost: FrameType) -> list[FrameType]:
    """The frames of a thread, outermost first."""
    frames: list[FrameType] = []
    frame: FrameType | None = inmost
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def thread_lines(inmost: FrameType, *, width: int, outermost: FrameType | None = None) -> list[str]:
    """The stack of a thread from ``outermost`` on, in the user's code.

    If the innermost frame is not the user's, the last line is the function called there.
    """
    frames = frames_of(inmost)
    if outermost in frames:
        frames = frames[frames.index(outermost) :]
    lines = format_frames(
        [(frame, line_of(frame)) for frame in frames if is_user_code(frame)], width=width
    )
    while inmost.f_back is not None and _module_of(inmost).partition(".")[0] == "harness":
        inmost = inmost.f_back  # whoever asks for this report
    if not is_user_code(inmost) and not is_machinery(inmost):
        module = _module_of(inmost)
        lines.append(shorten(f"in {module}.{inmost.f_code.co_name}()", width))
    return lines


def innermost_of_thread(said: str, ident: int | None, *, width: int) -> str:
    """``said`` and the innermost line of the user's code in a thread, inside of pytest if there.

    Without such a line, the function that it is in; within ``width`` characters.
    """
    inmost = sys._current_frames().get(ident or 0)
    if inmost is None:
        return f"{said}a thread that has ended"
    outermost = first_inside_pytest(inmost)
    frames = frames_of(inmost)
    users = [frame for frame in frames[frames.index(outermost) :] if is_user_code(frame)]
    if not users:
        return shorten(f"{said}{_module_of(inmost)}.{inmost.f_code.co_name}()", width)
    line = (users[-1], line_of(users[-1]))
    return said + format_frames([line], width=width - len(said))[0]


def first_inside_pytest(inmost: FrameType) -> FrameType:
    """The outermost frame that pytest has called: how pytest itself was started is no news."""
    frame: FrameType | None = inmost
    inside = inmost
    while frame is not None:
        if _module_of(frame).partition(".")[0] in ("_pytest", "pluggy"):
            return inside
        inside, frame = frame, frame.f_back
    return inside


def is_of_pool(thread: threading.Thread) -> bool:
    """Whether it belongs to a pool."""
    return _module_of_thread(thread) in POOLS


def is_busy_in_executor(thread: threading.Thread) -> bool:
    """Whether it belongs to a ``ThreadPoolExecutor`` and has something to do.

    Idle is one that waits, in ``_worker``, for its queue, which has nothing in it either
    (``concurrent/futures/thread.py``).
    """
    inmost = sys._current_frames().get(thread.ident or 0)
    if inmost is None or _module_of_thread(thread) != EXECUTOR:
        return False
    if inmost.f_code.co_name != "_worker" or _module_of(inmost) != EXECUTOR:
        return True
    variables = inmost.f_locals
    return variables.get("work_item") is not None or not variables["work_queue"].empty()


def is_portal(thread: threading.Thread) -> bool:
    """Whether an event loop of ``anyio.from_thread.start_blocking_portal`` runs in it."""
    return _module_of_thread(thread) == "anyio.from_thread"


def is_machinery_thread(thread: threading.Thread) -> bool:
    """Whether it is the harness's or an event loop's own, and not a pool's."""
    if isinstance(thread, threading._DummyThread):
        return True  # of a library in C, which runs Python now and then
    module = _module_of_thread(thread)
    return module.partition(".")[0] in MACHINERY and module not in POOLS


def _module_of_thread(thread: threading.Thread) -> str:
    """Where what a thread runs is defined."""
    made_by: Any = type(thread)
    if made_by.__module__ == "threading":
        made_by = getattr(thread, "_target", None)  # what Thread.run calls, in every CPython
        made_by = getattr(made_by, "__func__", made_by)
    return str(getattr(made_by, "__module__", ""))


def _module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
