"""What arguments stand for: times, sizes, shares, addresses. Each has its unit, and no other form.

The functions are ``type=`` of argparse, which puts the name of the argument before their errors.
"""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from typing import NoReturn

#: Seconds.
TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}

#: Bytes.
SIZES = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}

NUMBER = r"([0-9]+(?:\.[0-9]+)?)"

#: ``(host, port)``, or the path of a unix socket.
Address = tuple[str, int] | str


def seconds(text: str) -> float:
    """``100ms``, ``2s``, ``1.5m``, in seconds."""
    found = re.fullmatch(f"{NUMBER}({'|'.join(TIMES)})", text)
    if found is None:
        _expected(f"a time with its unit ({', '.join(TIMES)}), such as 100ms or 2s", text)
    return float(found[1]) * TIMES[found[2]]


def size(text: str) -> int:
    """``100``, ``10KB``, ``1.5MiB``, in bytes."""
    found = re.fullmatch(f"{NUMBER}({'|'.join(SIZES)})?", text)
    count = None if found is None else float(found[1]) * SIZES[found[2] or "B"]
    if count is None or not count.is_integer():
        _expected(f"a number of bytes or a size ({', '.join(SIZES)}), such as 100 or 10KB", text)
    return int(count)


def rate(text: str) -> int:
    """``64KB`` or ``64KB/s``, in bytes a second."""
    try:
        return size(text.removesuffix("/s"))
    except ArgumentTypeError:
        _expected(f"bytes a second ({', '.join(SIZES)}), such as 64KB or 64KB/s", text)


def time_or_size(text: str) -> float | int:
    """A time in seconds, as a ``float``, or a size in bytes, as an ``int``; each with its unit."""
    for kind in (seconds, size):
        try:
            if text[-1:].isalpha():
                return kind(text)
        except ArgumentTypeError:
            pass
    _expected("a time or a size with its unit, such as 2s or 10KB", text)


def share(text: str) -> float:
    """A number from 0 to 1."""
    if not re.fullmatch(NUMBER, text) or float(text) > 1:
        _expected("a number from 0 to 1, such as 0.01", text)
    return float(text)


def address(text: str) -> Address:
    """``host:port``, ``[::1]:port``, or a path, which has a slash in it."""
    if "://" in text:
        _expected("HOST:PORT without a scheme such as http://", text)
    if "/" in text:
        return text
    found = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]+)):([0-9]{1,5})", text)
    if found is None or int(found[3]) > 65535:
        _expected("HOST:PORT, [IPV6]:PORT or the path of a unix socket with a slash in it", text)
    return (found[1] or found[2], int(found[3]))


def in_words(where: Address) -> str:
    """What :func:`address` takes for the same address."""
    if isinstance(where, str):
        return where
    host, port = where[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _expected(what: str, text: str) -> NoReturn:
    raise ArgumentTypeError(f"expected {what}, not {text!r}")
