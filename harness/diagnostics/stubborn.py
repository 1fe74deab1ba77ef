"""Tasks that go on after they were cancelled: where each is, and why it has not stopped."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection

from .connections import fold_alike, masked
from .loopview import LoopView, TaskRecord
from .stacks import await_stack, format_stack, wrapped
from .waits import Surroundings, Wait, wait_of

#: Columns of the report.
WIDTH = 100

SHIELDED = (
    "shielded by a CancelScope(shield=True): shield only what ends soon, and bound it with "
    "move_on_after(seconds, shield=True)"
)
SWALLOWS = (
    "not shielded: it swallows the cancellation, by `except BaseException`, a bare `except` or "
    "`return` in `finally`, or takes long to clean up; let the cancellation through"
)
IN_A_THREAD = (
    "which cannot be cancelled: let the thread end by itself soon, or leave it behind with "
    "to_thread.run_sync(..., abandon_on_cancel=True)"
)


def format_stubborn(task_ids: Collection[int]) -> str:
    """A paragraph for each of those tasks that is in code of the user's; called in their loop.

    :param task_ids: AnyIO's ids of tasks that were cancelled
    """
    view = LoopView.here()
    records = view.tasks()
    threads = sys._current_frames()
    children = Counter(record.parent for record in records)
    paragraphs: list[tuple[str, list[str]]] = []
    for record in records:
        stack = format_stack(record.coroutine)
        if record.id not in task_ids or not stack:
            continue
        around = Surroundings(
            view.time(), threads=threads, stands_still=True, children=children[record.id]
        )
        frames = list(await_stack(record.coroutine))
        why = _why(record, wait_of(record, frames, around))
        lines = [f"  {record.name}", *stack.splitlines()]
        lines += [f"    {line}" for line in wrapped(why, WIDTH - 4)]
        paragraphs.append((masked("\n".join(lines)), lines))
    return "\n".join(fold_alike(paragraphs))


def _why(record: TaskRecord, wait: Wait) -> str:
    if wait.text.startswith("waits for a thread"):
        return f"{wait.text}, {IN_A_THREAD}"
    if wait.uncancellable:
        return wait.text
    return SHIELDED if record.cancelled() == "shielded" else SWALLOWS
