"""The descriptors of this process, and which file each of them is."""

from __future__ import annotations

import os
import stat
import sys

#: Device, inode and type: what tells a descriptor from the next one of the same number.
Identity = tuple[int, int, int]

#: Where the system lists them.
FOLDER = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"


def open_descriptors() -> dict[int, Identity]:
    """The descriptors of this process; none where the system does not list them (Windows)."""
    found = {}
    try:
        names = os.listdir(FOLDER)
    except OSError:
        return {}
    for fd in map(int, names):
        try:  # noqa: SIM105 (ten times as slow, at each descriptor of each test)
            found[fd] = identity_of(fd)
        except OSError:
            pass  # the listing's own has gone
    return found


def open_sockets() -> dict[int, Identity]:
    """Those of them that are sockets."""
    return {fd: each for fd, each in open_descriptors().items() if stat.S_ISSOCK(each[2])}


def identity_of(fd: int) -> Identity:
    """Raises :exc:`OSError` if ``fd`` is not open."""
    mode, inode, device = os.fstat(fd)[:3]
    return device, inode, stat.S_IFMT(mode)
