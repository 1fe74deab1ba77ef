"""What transports put into the file system: known for as long as it is there.

Nothing of it may be left after a test, and nothing after the process, however that ends.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable

#: What is still to be removed, by path: what it was made for.
_made: dict[str, str] = {}

#: Called with each path that is made, by whoever looks for what is left.
listeners: list[Callable[[str], object]] = []

#: Called with each path that was removed.
removal_listeners: list[Callable[[str], object]] = []


def make_directory(purpose: str, parent: str | None = None) -> str:
    """Make a private directory (mode 0700).

    :param purpose: what it is made for, in words
    :param parent: where; by default, in the temporary directory of the process
    """
    directory = tempfile.mkdtemp(prefix="anyio-harness-", dir=parent)
    _made[directory] = purpose
    for listener in listeners:
        listener(directory)
    return directory


def remove_directory(directory: str) -> None:
    """Remove a directory of :func:`make_directory` and what is in it; it may be gone already.

    What cannot be removed stays known, and is tried again when the process ends.
    """
    shutil.rmtree(directory, ignore_errors=True)
    if not os.path.lexists(directory) and _made.pop(directory, None) is not None:
        for listener in removal_listeners:
            listener(directory)


def made() -> list[str]:
    """The directories that are still to be removed."""
    return list(_made)


def purpose_of(directory: str) -> str | None:
    """What a directory that is still there was made for; ``None`` if it was removed."""
    purpose = _made.get(directory)
    return purpose if purpose is not None and os.path.lexists(directory) else None


@atexit.register
def remove_all() -> None:
    """Remove everything that is still there; from any thread, and whatever cannot be removed."""
    for directory in list(_made):
        remove_directory(directory)
