"""What is told of a proxy while it runs: counts in one line, or a line for each connection."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections import Counter
from collections.abc import Mapping
from typing import TextIO

from anyio import sleep, sleep_forever

from ..faults import Proxy, ProxyConnection
from .arguments import in_words

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

#: Seconds between two looks at the counts.
REFRESH = 0.25


class Lines:
    """Lines for a reader, who may have gone: that is no reason to end.

    On a terminal, the last one may be rewritten in place.
    """

    def __init__(self, stream: TextIO, *, quiet: bool) -> None:
        self.live: bool = stream.isatty() and not quiet
        self._stream = stream
        self._quiet = quiet
        self._shown = ""

    def say(self, text: str) -> None:
        """Write a line that stays, above the one that is rewritten."""
        if not self._quiet:
            self._write(f"{self._covered(text)}\n{self._shown}" if self.live else f"{text}\n")

    def show(self, text: str) -> None:
        """Put a line in the place of the last one, if there is a place."""
        text = text[: shutil.get_terminal_size().columns - 1]
        if self.live and text != self._shown:
            covered = self._covered(text)
            self._shown = text
            self._write(covered)

    def clear(self) -> None:
        """Have no line any more that is rewritten."""
        if self._shown:
            self._write(f"{self._covered('')}\r")
            self._shown = ""

    def _covered(self, text: str) -> str:
        """``text`` in the place of what is shown."""
        return f"\r{text.ljust(len(self._shown))}"

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            self._quiet, self.live = True, False


class Counts:
    """The counts of all connections of a proxy, those that have ended included.

    :param upstream: what messages call what the proxy stands in front of
    """

    def __init__(self, proxy: Proxy, upstream: str, lines: Lines) -> None:
        self._proxy = proxy
        self._upstream = upstream
        self._lines = lines
        self._up = self._down = 0
        self._fired: Counter[str] = Counter()
        proxy._when_ended.append(self._ended)

    async def refresh(self) -> None:
        """Show them, on a terminal, as long as this runs."""
        try:
            while self._lines.live:
                self._lines.show(str(self))
                await sleep(REFRESH)
            await sleep_forever()
        finally:
            self._lines.clear()

    def _ended(self, connection: ProxyConnection) -> None:
        self._up += connection.bytes_upstream
        self._down += connection.bytes_downstream
        self._fired.update(connection.fired)
        if connection.error is not None:
            what = f"cannot connect to {self._upstream}: {reason(connection.error)}"
        elif not self._lines.live:
            what = f"{connection.ending}, " + _traffic(
                connection.bytes_upstream, connection.bytes_downstream, connection.fired
            )
        else:
            return
        client = connection.client_address
        where = f" from {in_words(client)}" if isinstance(client, tuple) else ""
        self._lines.say(f"connection {connection.id}{where}: {what}")

    def __str__(self) -> str:
        live = self._proxy.connections
        up = self._up + sum(connection.bytes_upstream for connection in live)
        down = self._down + sum(connection.bytes_downstream for connection in live)
        fired = self._fired.copy()
        for connection in live:
            fired.update(connection.fired)
        return f"{len(live)} live of {self._proxy.accepted} accepted, {_traffic(up, down, fired)}"


def _traffic(up: int, down: int, fired: Mapping[str, int]) -> str:
    text = f"{_in_bytes(up)} up, {_in_bytes(down)} down"
    acted = ", ".join(f"{name} {count}" for name, count in fired.items())
    return f"{text}; {acted}" if acted else text


def _in_bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def reason(error: BaseException) -> str:
    """Why something could not be reached, in the system's words: the same on every backend."""
    if isinstance(error, BaseExceptionGroup):
        return ", ".join(dict.fromkeys(map(reason, error.exceptions)))
    if error.__cause__ is not None:
        return reason(error.__cause__)
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error)
