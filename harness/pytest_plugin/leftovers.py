"""What must not stay on the machine when the process ends without its usual end."""

from __future__ import annotations

import contextlib

from ..leaks.children import children, helpers, kill, with_descendants
from ..transports import temporary

#: How often to look again: the code that cannot be ended may go on to make things.
ROUNDS = 3

_of_others: frozenset[int] = frozenset()


def know_others() -> None:
    """Leave alone, at the end, the child processes that are there now: no test has made them."""
    global _of_others
    _of_others = children()


def release_everything() -> None:
    """Take away what ``os._exit`` would leave: temporary folders, and child processes.

    Called in any thread while others run; nothing that goes wrong here may keep the process.
    """
    for _ in range(ROUNDS):
        with contextlib.suppress(BaseException):
            kill(with_descendants(children() - _of_others - helpers()))
        with contextlib.suppress(BaseException):
            temporary.remove_all()
