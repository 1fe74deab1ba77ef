"""What a process writes: its last lines, and waiting for one of them."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator

from anyio import Event

#: How many lines are kept.
KEPT = 1000

#: Characters of a line that somebody reads.
SHOWN_OF_A_LINE = 1000

#: What is said of a line that was begun, and not ended.
NO_END = " (and no end of that line)"

#: Bytes after which a line is cut.
LONGEST_LINE = 65536

#: Called with what a process writes, whenever one is started, by whoever shows it on failure.
listeners: list[Callable[[Output], object]] = []


def shortened(line: str) -> str:
    """A line, for somebody to read."""
    if len(line) <= SHOWN_OF_A_LINE:
        return line
    return f"{line[:SHOWN_OF_A_LINE]}... ({len(line)} characters)"


class Wanted:
    """A line that somebody waits for.

    :ivar match: what was found, once :attr:`known` is set; ``None`` if there will be none
    """

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.pattern: re.Pattern[str] = pattern
        self.match: re.Match[str] | None = None
        self.known: Event = Event()

    def found(self, match: re.Match[str] | None) -> None:
        self.match = match
        self.known.set()


class Output:
    """What one process writes to both its outputs, in lines, over all its starts.

    :param name: what the process is called
    :ivar count: how many lines there were
    :ivar is_open: whether more may come
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.count: int = 0
        self.is_open: bool = False
        self._lines: deque[str] = deque(maxlen=KEPT)
        self._begun = b""
        self._last_has_no_end = -1
        self._wanted: list[Wanted] = []

    def open(self) -> None:
        """The process was started."""
        self.is_open = True
        for listener in listeners:
            listener(self)

    def write(self, data: bytes) -> None:
        *lines, self._begun = (self._begun + data).split(b"\n")
        for line in lines:
            self._add(self._cut(line))
        self._begun = self._cut(self._begun)

    def close(self) -> None:
        """The process has ended: what it has begun is a line, and nothing that is wanted comes."""
        if self._begun:
            self._add(self._begun)
            self._last_has_no_end = self.count
        self._begun = b""
        self.is_open = False
        wanted, self._wanted = self._wanted, []
        for each in wanted:
            each.found(None)

    def _cut(self, line: bytes) -> bytes:
        """Make lines of a long one; what is left of it."""
        while len(line) > LONGEST_LINE:
            self._add(line[:LONGEST_LINE])
            line = line[LONGEST_LINE:]
        return line

    def _add(self, line: bytes) -> None:
        text = line.rstrip(b"\r").decode(errors="replace")
        self._lines.append(text)
        self.count += 1
        for each in list(self._wanted):
            match = each.pattern.search(text)
            if match is not None:
                self._wanted.remove(each)
                each.found(match)

    def since(self, number: int) -> list[str]:
        """The lines after the first ``number``, as far as they are kept."""
        return list(self._since(number))

    def shown(self, number: int, most: int) -> list[str]:
        """The last ``most`` lines after the first ``number``, for somebody to read."""
        lines = [shortened(line) for line in self.since(number)[-most:]]
        missing = self.count - number - len(lines)
        if lines and self.count == self._last_has_no_end:
            lines[-1] += NO_END
        if self._begun:
            lines.append(shortened(self._begun.decode(errors="replace")) + NO_END)
        if missing > 0:
            lines.insert(0, f"({missing} lines before)")
        return lines

    def _since(self, number: int) -> Iterator[str]:
        skipped = number - (self.count - len(self._lines))
        return (line for n, line in enumerate(self._lines) if n >= skipped)

    def want(self, pattern: re.Pattern[str], *, since: int) -> Wanted:
        """The first line after the first ``since`` that ``pattern`` is found in.

        To be given back with :meth:`unwant`.
        """
        wanted = Wanted(pattern)
        for line in self._since(since):
            match = pattern.search(line)
            if match is not None:
                wanted.found(match)
                return wanted
        if self.is_open:
            self._wanted.append(wanted)
        else:
            wanted.found(None)
        return wanted

    def unwant(self, wanted: Wanted) -> None:
        if wanted in self._wanted:
            self._wanted.remove(wanted)
