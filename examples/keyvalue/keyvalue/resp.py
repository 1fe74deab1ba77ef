"""The wire format, RESP2 and RESP3 (https://redis.io/docs/latest/develop/reference/protocol-spec/).

RESP3 has types of its own for what RESP2 says with others: null, map and push.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Union

from anyio import DelimiterNotFound
from anyio.streams.buffered import BufferedByteReceiveStream

#: Bytes in one string, strings in one command, bytes in one line: what a peer can make us buffer.
MAX_STRING = 1024 * 1024
MAX_ITEMS = 1024
MAX_LINE = 64 * 1024


class ProtocolError(Exception):
    """The peer sent something that is not RESP."""


class ErrorReply(Exception):
    """An error reply; its text begins with a code such as ``ERR``."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ErrorReply) and self.args == other.args

    __hash__ = Exception.__hash__


class Push(list["Value"]):
    """A message that answers no command; an ordinary array in RESP2."""


#: ``str`` is a simple string such as ``OK``, ``bytes`` are a bulk string.
Value = Union[  # noqa: UP007 (evaluated at run time, where `"Value"` is a string)
    None, int, str, bytes, ErrorReply, Push, Sequence["Value"], Mapping[str, "Value"]
]


def encode(value: Value, protocol: int) -> bytes:
    """``value`` on the wire, in version 2 or 3 of the protocol."""
    if value is None:
        return b"_\r\n" if protocol == 3 else b"$-1\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    if isinstance(value, (str, ErrorReply)):
        # An error may quote a client, and nothing that a client says may end the line.
        line = str(value).replace("\r", " ").replace("\n", " ")
        return b"%b%b\r\n" % (b"+" if isinstance(value, str) else b"-", line.encode())
    if isinstance(value, Mapping):
        size, mark = len(value), b"%"
        items: list[Value] = []
        for key, item in value.items():
            items += [key.encode(), item]
        if protocol == 2:
            size, mark = len(items), b"*"
    else:
        size, items = len(value), list(value)
        mark = b">" if protocol == 3 and isinstance(value, Push) else b"*"
    return b"%b%d\r\n" % (mark, size) + b"".join(encode(item, protocol) for item in items)


async def read_value(stream: BufferedByteReceiveStream) -> Value:
    """Read one value. Raises :exc:`ProtocolError`, and :exc:`anyio.IncompleteRead` at the end."""
    line = await read_line(stream)
    mark, rest = line[:1], line[1:]
    if mark == b"+":
        return rest.decode(errors="replace")
    if mark == b"-":
        return ErrorReply(rest.decode(errors="replace"))
    if mark == b":":
        return _number(rest)
    if mark == b"_":
        return None
    if mark == b"$":
        return None if rest == b"-1" else await read_string(stream, rest)
    if mark in (b"*", b">"):
        items = [await read_value(stream) for _ in range(_bounded(rest, MAX_ITEMS))]
        return Push(items) if mark == b">" else items
    if mark == b"%":
        pairs: dict[str, Value] = {}
        for _ in range(_bounded(rest, MAX_ITEMS)):
            key = await read_value(stream)
            pairs[
                key.decode(errors="replace") if isinstance(key, bytes) else str(key)
            ] = await read_value(stream)
        return pairs
    raise ProtocolError(f"unknown type {mark!r}")


async def read_command(stream: BufferedByteReceiveStream) -> list[bytes]:
    """Read one command: an array of strings, or a plain line as a person types it.

    Raises as :func:`read_value` does.
    """
    line = await read_line(stream)
    if not line.startswith(b"*"):
        return line.split()
    words = []
    for _ in range(_bounded(line[1:], MAX_ITEMS)):
        line = await read_line(stream)
        if not line.startswith(b"$"):
            raise ProtocolError(f"expected '$', got {line[:1]!r}")
        words.append(await read_string(stream, line[1:]))
    return words


async def read_line(stream: BufferedByteReceiveStream) -> bytes:
    try:
        return await stream.receive_until(b"\r\n", MAX_LINE)
    except DelimiterNotFound:
        raise ProtocolError("too big a line") from None


async def read_string(stream: BufferedByteReceiveStream, size: bytes) -> bytes:
    data = await stream.receive_exactly(_bounded(size, MAX_STRING) + 2)
    if not data.endswith(b"\r\n"):
        raise ProtocolError("a string is longer than it said")
    return data[:-2]


def _bounded(text: bytes, limit: int) -> int:
    number = _number(text)
    if not 0 <= number <= limit:
        raise ProtocolError(f"invalid length {number}")
    return number


def _number(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise ProtocolError(f"not a number: {text[:20]!r}") from None
