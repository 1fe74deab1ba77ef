"""How live connections are named and described, in the tree and in its list of connections."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from .stacks import wrapped


class ConnectionRecord(Protocol):
    """What :class:`harness.Connection` has to say of one side of a connection."""

    id: int
    bytes_in: int
    bytes_out: int

    @property
    def local_address(self) -> Any: ...
    @property
    def remote_address(self) -> Any: ...
    @property
    def state(self) -> str: ...
    @property
    def waiting(self) -> str | None: ...
    @property
    def ends_read(self) -> int: ...


@dataclass(frozen=True)
class LiveConnection:
    """One side of a connection, and the name of the server that it leads to, if it is known."""

    record: ConnectionRecord
    server: str | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether this is the server's side."""
        return self.record.id > 0

    @property
    def name(self) -> str:
        """What messages call it: ``connection 3 of server 'echo'``."""
        of = "" if self.server is None else f" of server {self.server!r}"
        return f"connection {self.record.id}{of}" if self.is_accepted else f"a client{of}"

    def peer(self) -> str:
        """The other side, to be put after "receive from"."""
        address = format_address(_safely(self.record, "remote_address"))
        if self.is_accepted:
            return f"{address} on {self.name}" if address else f"the client of {self.name}"
        if self.server is None:
            return address or "its peer"
        return f"{address} (server {self.server!r})" if address else f"server {self.server!r}"

    def state(self) -> str:
        """State, bytes and addresses, the client's first, in one line without the name."""
        record = self.record
        local = format_address(_safely(record, "local_address"))
        remote = format_address(_safely(record, "remote_address"))
        client, server = (remote, local) if self.is_accepted else (local, remote)
        parts = [
            "open" if record.state == "established" else record.state,
            f"{_bytes(record.bytes_in)} in",
            f"{_bytes(record.bytes_out)} out",
        ]
        if client and server:
            parts.append(f"{client} -> {server}")
        elif client or server:  # a unix socket that connects has no name
            parts.append(f"at {client or server}")
        if record.waiting is not None:
            parts.append(f"in {record.waiting}()")
        return ", ".join(parts)


@dataclass
class ProxiedRecord:
    """What a proxy knows of one of its connections; ``in`` is from the client, ``out`` to it."""

    id: int
    bytes_in: int
    bytes_out: int
    remote_address: Any
    fired: tuple[str, ...]
    local_address: Any = None
    state: str = "established"
    waiting: str | None = None
    ends_read: int = 0


@dataclass(frozen=True)
class ProxiedConnection(LiveConnection):
    """A connection through a proxy, which is named in the place of the server."""

    record: ProxiedRecord

    @property
    def name(self) -> str:
        return f"connection {self.record.id} of proxy {self.server!r}"

    def state(self) -> str:
        record = self.record
        parts = [f"{_bytes(record.bytes_in)} up", f"{_bytes(record.bytes_out)} down"]
        client = format_address(record.remote_address)
        if client:
            parts.append(f"from {client}")
        if record.fired:
            parts.append(f"{', '.join(record.fired)} fired")
        return ", ".join(parts)


def _bytes(number: int) -> str:
    return "1 byte" if number == 1 else f"{number} bytes"


#: How many of a row of things that look alike are shown.
ALIKE = 3


def format_connections(connections: Iterable[LiveConnection], *, width: int) -> list[str]:
    """A line for each connection; of those that look alike, three and a count."""
    kinds: list[tuple[str, list[str]]] = []
    for connection in connections:
        record = connection.record
        looks = (record.state, record.bytes_in, record.bytes_out, record.waiting)
        text = f"{connection.name}: {connection.state()}"
        lines = wrapped(text, width)
        kinds.append((f"{masked(connection.name)} {looks}", lines))
    return fold_alike(kinds)


#: Reads of the end of a stream that are a loop which goes on after it.
ENDLESS = 100


def format_endless(connections: Iterable[LiveConnection], *, width: int) -> list[str]:
    """A line for each side that reads the end of its stream again and again."""
    kinds = []
    for connection in connections:
        times = connection.record.ends_read
        if times >= ENDLESS:
            name = connection.name
            text = f"{name} was read {times} times at its end: that loop does not stop there"
            kinds.append((masked(name), wrapped(text, width)))
    return fold_alike(kinds)


def fold_alike(items: Iterable[tuple[str, list[str]]]) -> list[str]:
    """The lines of ``(kind, lines)``; of each kind three items, and how many more there are."""
    pairs = list(items)
    total = Counter(kind for kind, _ in pairs)
    seen: Counter[str] = Counter()
    folded = []
    for kind, lines in pairs:
        seen[kind] += 1
        if seen[kind] <= ALIKE:
            folded.extend(lines)
        if seen[kind] == ALIKE and total[kind] > ALIKE:
            folded.append(f"... and {total[kind] - ALIKE} more like this")
    return folded


def masked(text: str) -> str:
    """``text`` without its numbers: what is left tells whether two things look alike."""
    return re.sub(r"\d+(\.\d+)?", "#", text)


def format_address(address: Any) -> str:
    """``host:port``, a path, or nothing for an address that is not there."""
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[0], address[1]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    if isinstance(address, bytes):
        return repr(address) if address else ""
    return str(address) if address else ""


def _safely(subject: Any, attribute: str) -> Any:
    """An attribute whose look-up may meet a socket that is closed or has lost its peer."""
    try:
        return getattr(subject, attribute)
    except Exception:
        return None
