"""Where AnyIO's own streams, sockets, listeners and connectables break a promise, or differ.

The tests beside it hold every line of this to what the checks find, by :func:`known.held_to`. So
what is made from it, `docs/backend-differences.md`, cannot go stale: `nox -s differences` writes
it, and a test compares.
"""

from __future__ import annotations

import fnmatch
import sys
from asyncio import InvalidStateError
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.conformance import (
    PromiseBroken,
    byte_stream_checks,
    connectable_checks,
    datagram_checks,
    half_close_checks,
    listener_checks,
    object_stream_checks,
    truncation_checks,
)

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

CHECKS = (*byte_stream_checks(), *half_close_checks())
BACKENDS = ("asyncio", "uvloop", "trio")
DOCUMENT = Path(__file__).parents[2] / "docs" / "backend-differences.md"

ASYNCIO = "anyio/_backends/_asyncio.py"
TRIO = "anyio/_backends/_trio.py"
BOTH = "anyio/_backends/_asyncio.py and _trio.py"
TLS = "anyio/streams/tls.py"
STAPLED = "anyio/streams/stapled.py"

#: What a callback of the event loop raises, and AnyIO's pytest plugin then.
IN_LOOP = "InvalidStateError('invalid state') in the event loop"

CLOSED_OR_BROKEN = "https://github.com/agronholm/anyio/issues/671"
RAGGED = "https://github.com/agronholm/anyio/issues/379"
CANCELLED_FUTURE = "https://github.com/agronholm/anyio/issues/1267"
ACCEPT = "https://github.com/python/cpython/issues/153761"
EMPTY_ASYNCIO = "https://github.com/python/cpython/issues/113812"
EMPTY_UVLOOP = "https://github.com/MagicStack/uvloop/issues/594"


@dataclass(frozen=True)
class Kind:
    """What the checks of one kind look at.

    :ivar title: of its section on the page
    :ivar about: what is meant by the names of its subjects
    :ivar subjects: those that the tests run the checks on
    """

    title: str
    about: str
    checks: tuple[Any, ...]
    subjects: tuple[str, ...]


KINDS = {
    "streams": Kind(
        "Byte streams",
        "AnyIO's socket streams, and its TLS over them (with `standard_compatible=False`). tcp is "
        "IPv4 and IPv6. The in-memory transport of the harness passes all checks on all backends.",
        CHECKS,
        ("tcp", "unix", "tls"),
    ),
    "wrapped": Kind(
        "Byte streams made of others",
        "Over streams that keep every promise: AnyIO's `BufferedByteStream` (buffered) and "
        "`StapledByteStream` (stapled), and the streams of httpcore and python-socks on AnyIO.",
        CHECKS,
        ("buffered", "stapled", "httpcore", "python-socks"),
    ),
    "truncations": Kind(
        "TLS that is cut off",
        "`TLSStream` whose transport ends without a closing alert; not-standard is the one with "
        "`standard_compatible=False`.",
        truncation_checks(),
        ("tls-over-tcp", "tls-over-memory", "not-standard"),
    ),
    "objects": Kind(
        "Object streams",
        "Memory object streams (memory, with a buffer of 0, 1, 100 or any number of items), "
        "`StapledObjectStream` of two of them (stapled), of halves whose close is a checkpoint "
        "(closing-slowly), and `TextStream` over objects (text) and over bytes (text-over-bytes).",
        object_stream_checks(),
        (
            *("memory-0", "memory-1", "memory-100", "memory-inf", "stapled-0", "stapled-100"),
            *("closing-slowly", "text", "text-over-bytes"),
        ),
    ),
    "datagrams": Kind(
        "Datagram sockets",
        "UDP and unix datagram sockets: two that are unconnected, two that are connected to one "
        "another (connected), and one that is connected to an unconnected one (to-another).",
        datagram_checks(),
        (
            *("udp", "udp-connected", "udp-to-another"),
            *("unix", "unix-connected", "unix-to-another"),
        ),
    ),
    "listeners": Kind(
        "Listeners",
        "`create_tcp_listener`, `create_unix_listener`, `TLSListener` over TCP (tls, and "
        "not-standard with `standard_compatible=False`), `MultiListener` (multi), and the "
        "in-memory listener of the harness.",
        listener_checks(),
        ("tcp", "unix", "tls", "not-standard", "multi", "memory"),
    ),
    "connectables": Kind(
        "Connectables",
        "`TCPConnectable`, `UNIXConnectable`, `TLSConnectable` (tls, and not-standard with "
        "`standard_compatible=False`), and `TLSConnectable` where the handshake fails: an unknown "
        "authority (untrusted), a peer that hangs up (hung-up) or that speaks no TLS (no-tls).",
        connectable_checks(),
        ("tcp", "unix", "tls", "not-standard", "untrusted", "hung-up", "no-tls"),
    ),
}


@dataclass(frozen=True)
class Difference:
    """A check that some subjects of a kind do not pass.

    :ivar kind: one of :data:`KINDS`
    :ivar check: its name
    :ivar where: `backend/subject` of each, as patterns
    :ivar seen: what the check sees then, as a pattern; the first one is told, if there are several
    :ivar why: the code that decides it, or a sentence
    :ivar issue: where upstream knows of it
    :ivar reproducer: whether ``docs/upstream-bugs.md`` has one
    :ivar until: the CPython that has it no more
    :ivar unending: whether it does not end, even if it is cancelled
    """

    kind: str
    check: str
    where: tuple[str, ...]
    seen: str | tuple[str, ...]
    why: str
    issue: str | None = None
    reproducer: bool = False
    until: tuple[int, int] | None = None
    unending: bool = False

    @property
    def in_loop(self) -> bool:
        """Whether it is not the check that fails, but the event loop that complains."""
        return self.seen == IN_LOOP

    @property
    def told(self) -> str:
        """What is seen, for the page."""
        seen = self.seen if isinstance(self.seen, str) else self.seen[0]
        until = "" if self.until is None else f" (before CPython {'.'.join(map(str, self.until))})"
        return seen.replace("*", "…") + until

    def applies(self, check: str, backend: str, subject: str) -> bool:
        cell = f"{backend}/{'tcp' if subject == 'tcp6' else subject}"
        return check == self.check and any(
            fnmatch.fnmatchcase(cell, pattern) for pattern in self.where
        )

    def describes(self, error: BaseException) -> bool:
        """Whether ``error`` is this difference, and nothing else."""
        if isinstance(error, BaseExceptionGroup):
            return all(map(self.describes, error.exceptions))
        if self.in_loop:
            return isinstance(error, InvalidStateError)
        patterns = (self.seen,) if isinstance(self.seen, str) else self.seen
        return isinstance(error, PromiseBroken) and any(
            fnmatch.fnmatchcase(error.seen, pattern.replace("[", "[[]")) for pattern in patterns
        )


NO_EOF = f"`TLSStream.send_eof` is not implemented ({TLS})"

DIFFERENCES = (
    *(
        Difference(
            "streams",
            check.name,
            ("*/tls",)
            if check.name != "eof_after_close_is_refused"
            else ("asyncio/tls", "trio/tls"),
            "*NotImplementedError('send_eof() has not yet been *",
            NO_EOF,
        )
        for check in half_close_checks()
    ),
    Difference(
        "streams",
        "eof_after_close_is_refused",
        ("uvloop/tls",),
        ("it raised ValueError('negative file descriptor')", "it raised NotImplementedError(*"),
        "it asks the closed transport for its attributes before it says that it is not implemented "
        f"({TLS}, `TLSStream.send_eof`)",
        CLOSED_OR_BROKEN,
    ),
    Difference(
        "streams",
        "operations_are_checkpoints",
        ("*/tls",),
        "it had * turns",
        f"what is decrypted already is returned without a checkpoint ({TLS}, "
        "`_call_sslobject_method`)",
    ),
    Difference(
        "streams",
        "a_deadline_that_has_passed",
        ("uvloop/tcp", "uvloop/tls"),
        "it returned b'kept'",
        "uvloop reads as soon as reading is resumed, and the `Event.wait` that follows does not "
        f"look at its scope ({ASYNCIO}, `SocketStream.receive`)",
    ),
    Difference(
        "streams",
        "racing_senders",
        ("*/tls",),
        "*BrokenResourceError()*",
        "the second `send` has encrypted its bytes when the transport refuses them, and that "
        f"breaks the stream ({TLS}, `_flush_write_bio`)",
        reproducer=True,
    ),
    Difference(
        "streams",
        "a_closed_stream_does_not_receive",
        ("asyncio/tcp", "uvloop/tcp"),
        "it returned b'there'",
        f"`aclose` leaves what was read ahead in the queue ({ASYNCIO}, `SocketStream.receive`)",
        CLOSED_OR_BROKEN,
    ),
    Difference(
        "streams",
        "a_closed_stream_does_not_send_nothing",
        ("asyncio/unix", "uvloop/unix", "trio/tcp", "trio/unix", "*/tls"),
        "it returned None",
        "a loop over the bytes ends before the socket is asked (`while view`); on TLS nothing is "
        "encrypted",
        CLOSED_OR_BROKEN,
    ),
    Difference(
        "streams",
        "a_forceful_close_is_seen",
        ("*/tls",),
        "it raised EndOfStream()",
        f"every end of the transport is an `EndOfStream` here, of `send` too ({TLS}, "
        "`_call_sslobject_method`)",
        RAGGED,
        reproducer=True,
    ),
    Difference(
        "streams",
        "eof_can_be_repeated_by_both",
        ("trio/tcp",),
        "OSError(107, 'Transport endpoint is not connected')",
        f"`shutdown` is called as it is ({TRIO}, `SocketStream.send_eof`)",
    ),
    Difference(
        "streams",
        "send_after_eof_is_refused",
        ("asyncio/tcp", "uvloop/tcp"),
        "it raised RuntimeError('Cannot call write() after write_eof()')",
        f"the transport's own exception is let through ({ASYNCIO}, `SocketStream.send`)",
        CLOSED_OR_BROKEN,
    ),
    Difference(
        "streams",
        "eof_to_a_peer_that_has_gone",
        ("uvloop/tcp",),
        "it raised RuntimeError('unable to perform operation on *; the handler is closed')",
        f"`send_eof` catches `OSError` only ({ASYNCIO}, `SocketStream.send_eof`)",
        CLOSED_OR_BROKEN,
    ),
    Difference(
        "streams",
        "eof_to_a_peer_that_has_gone",
        ("trio/tcp",),
        "it raised OSError(107, 'Transport endpoint is not connected')",
        f"`shutdown` is called as it is ({TRIO}, `SocketStream.send_eof`)",
        CLOSED_OR_BROKEN,
    ),
    Difference(
        "streams",
        "eof_after_close_is_refused",
        ("asyncio/tcp",),
        "it returned None",
        f"the transport takes it without a word ({ASYNCIO}, `SocketStream.send_eof`)",
        CLOSED_OR_BROKEN,
    ),
    Difference(
        "streams",
        "eof_after_close_is_refused",
        ("uvloop/tcp",),
        "it raised RuntimeError('unable to perform operation on *; the handler is closed')",
        f"the transport's own exception is let through ({ASYNCIO}, `SocketStream.send_eof`)",
        CLOSED_OR_BROKEN,
    ),
    Difference(
        "streams",
        "eof_after_close_is_refused",
        ("asyncio/unix", "uvloop/unix", "trio/tcp", "trio/unix"),
        "it raised OSError(9, 'Bad file descriptor')",
        f"`shutdown` is called as it is ({ASYNCIO}, `UNIXSocketStream.send_eof`; {TRIO})",
        CLOSED_OR_BROKEN,
    ),
    # Byte streams made of others
    Difference(
        "wrapped",
        "a_closed_stream_does_not_send_nothing",
        ("*/httpcore",),
        "it returned None",
        "`write` returns at once for no bytes (httpcore/_backends/anyio.py)",
    ),
    *(
        Difference(
            "wrapped",
            name,
            ("*/stapled",),
            seen,
            "a cancelled `aclose` of the one stream keeps it from closing the other "
            f"({STAPLED}, `StapledByteStream.aclose`)",
            reproducer=True,
        )
        for name, seen in (
            ("a_cancelled_close_closes", "after * s it still waits for receive() *"),
            ("a_forceful_close_is_seen", "after * s it still waits for send() *"),
            ("close_wakes_receive", "it still waits"),
            ("the_peers_close_wakes_send", "it still waits"),
        )
    ),
    Difference(
        "wrapped",
        "eof_after_close_is_refused",
        ("*/stapled",),
        "it returned None",
        "`send_eof` is `aclose` of the sending stream, which can be repeated "
        f"({STAPLED}, `StapledByteStream.send_eof`)",
    ),
    Difference(
        "wrapped",
        "typed_attributes",
        ("*/stapled",),
        "('127.1.0.*', *)",
        "the two directions here are two pairs of addresses",
    ),
    # TLS that is cut off
    *(
        Difference(
            "truncations",
            name,
            ("*/not-standard",),
            seen,
            f"as is documented: a truncation is taken for an end ({TLS}, `TLSStream.wrap`)",
            RAGGED,
        )
        for name, seen in (
            ("a_cut_is_no_end", "it raised EndOfStream()"),
            ("a_cut_after_bytes_is_no_end", "it raised EndOfStream()"),
            ("a_cut_wakes_receive", "it raised EndOfStream()"),
            ("a_cut_is_raised_by_iteration", "it returned \"the end, after b'a part'\""),
        )
    ),
    Difference(
        "truncations",
        "a_cut_breaks_send",
        ("*/not-standard",),
        "it raised EndOfStream()",
        f"every end of the transport is an `EndOfStream` here, of `send` too ({TLS}, "
        "`_call_sslobject_method`)",
        RAGGED,
        reproducer=True,
    ),
    # Object streams
    Difference(
        "objects",
        "an_item_is_one_object",
        ("*/text-over-bytes",),
        "'item 0item 1'",
        "a byte stream has no boundaries, and `TextStream` adds none: two `send` are one `receive` "
        "(anyio/streams/text.py, `TextReceiveStream.receive`)",
    ),
    Difference(
        "objects",
        "eof_after_close_is_refused",
        ("*/stapled-*", "*/text"),
        "it returned None",
        "`send_eof` is `aclose` of the half that sends, which can be repeated "
        f"({STAPLED}, `StapledObjectStream.send_eof`)",
    ),
    *(
        Difference(
            "objects",
            name,
            ("*/closing-slowly",),
            "it still waits",
            "a cancelled `aclose` of the half that sends keeps it from closing the one that "
            f"receives ({STAPLED}, `StapledObjectStream.aclose`)",
            reproducer=True,
        )
        for name in (
            "the_receivers_close_wakes_send",
            "a_forceful_close_of_the_receiver_is_seen",
            "a_cancelled_close_closes_both_directions",
            "close_wakes_receive",
        )
    ),
    # Datagram sockets
    Difference(
        "datagrams",
        "a_closed_socket_does_not_receive",
        ("asyncio/udp*", "uvloop/udp*"),
        "it returned b'unread'",
        f"`aclose` leaves what was read ahead in the queue ({ASYNCIO}, `UDPSocket.receive`, "
        "`ConnectedUDPSocket.receive`)",
        CLOSED_OR_BROKEN,
    ),
    Difference(
        "datagrams",
        "an_empty_datagram",
        ("uvloop/udp*",),
        "first came b'after it'",
        "nothing is sent for no bytes (uvloop/handles/udp.pyx, `UDPTransport.sendto`)",
        EMPTY_UVLOOP,
    ),
    Difference(
        "datagrams",
        "an_empty_datagram",
        ("asyncio/udp*",),
        "first came b'after it'",
        "nothing is sent for no bytes (asyncio/selector_events.py, "
        "`_SelectorDatagramTransport.sendto`)",
        EMPTY_ASYNCIO,
        until=(3, 13),
    ),
    Difference(
        "datagrams",
        "a_very_long_datagram_arrives_whole_or_not_at_all",
        ("*/unix*",),
        "65536 bytes, *",
        "`receive` asks for 65536 bytes, and the rest is thrown away without a word "
        f"({BOTH}, `UNIXDatagramSocket.receive`, `ConnectedUNIXDatagramSocket.receive`)",
        reproducer=True,
    ),
    Difference(
        "datagrams",
        "a_cancelled_receive_loses_nothing",
        ("asyncio/unix*", "uvloop/unix*"),
        IN_LOOP,
        "a `receive` is cancelled as its socket becomes readable "
        f"({ASYNCIO}, `_RawSocketMixin._wait_until_readable`)",
        CANCELLED_FUTURE,
        reproducer=True,
    ),
    Difference(
        "datagrams",
        "a_blocked_send_does_not_keep_the_loop_busy",
        ("*/unix",),
        "it keeps the event loop busy",
        "an unconnected socket is always writable, so a `send` to a peer whose queue is full tries "
        f"again and again ({BOTH}, `UNIXDatagramSocket.send`)",
        reproducer=True,
    ),
    Difference(
        "datagrams",
        "a_blocked_send_can_be_cancelled",
        ("uvloop/unix",),
        "it still waits",
        "whenever the cancellation is tried, the socket has just become writable "
        f"({ASYNCIO}, `CancelScope._deliver_cancellation`)",
        reproducer=True,
    ),
    Difference(
        "datagrams",
        "a_blocked_send_can_be_cancelled",
        ("asyncio/unix",),
        IN_LOOP,
        "a `send` is cancelled as its socket becomes writable "
        f"({ASYNCIO}, `_RawSocketMixin._wait_until_writable`)",
        CANCELLED_FUTURE,
        reproducer=True,
    ),
    Difference(
        "datagrams",
        "close_wakes_send",
        ("asyncio/unix",),
        IN_LOOP,
        "a socket is closed as it becomes writable "
        f"({ASYNCIO}, `_RawSocketMixin.aclose`, `_wait_until_writable`)",
        CANCELLED_FUTURE,
        reproducer=True,
    ),
    # Listeners
    Difference(
        "listeners",
        "a_cancelled_close_closes",
        ("*/multi",),
        "it returned <*SocketStream object*",
        "a cancelled `aclose` of the first listener keeps it from closing the others "
        f"({STAPLED}, `MultiListener.aclose`)",
        reproducer=True,
    ),
    Difference(
        "listeners",
        "a_cancelled_serve_loses_no_connection",
        tuple(
            f"{backend}/{subject}"
            for backend in ("asyncio", "uvloop")
            for subject in ("tcp", "tls", "not-standard", "multi")
        ),
        ("its client got BrokenResourceError()", "its client got *", "b'', and then the end"),
        "a connection that is being accepted when `serve` is cancelled is closed "
        f"({ASYNCIO}, `TCPSocketListener.accept`: `sock_accept`, `connect_accepted_socket`)",
        ACCEPT,
        reproducer=True,
    ),
    Difference(
        "listeners",
        "a_cancelled_serve_loses_no_connection",
        ("asyncio/unix", "uvloop/unix"),
        IN_LOOP,
        f"`serve` is cancelled as a connection comes ({ASYNCIO}, `UNIXSocketListener.accept`)",
        CANCELLED_FUTURE,
        reproducer=True,
    ),
    # Connectables
    Difference(
        "connectables",
        "a_connect_that_nobody_answers",
        ("asyncio/unix",),
        ("there was an unclosed <socket*", "there was a socket*"),
        f"its socket is left open when it is cancelled ({ASYNCIO}, `AsyncIOBackend.connect_unix`)",
        reproducer=True,
    ),
    Difference(
        "connectables",
        "a_connect_that_nobody_answers",
        ("uvloop/unix",),
        (
            "it still waits, and goes on when it is cancelled",
            "* goes on when it is cancelled",
            "there was a*socket*",
        ),
        "whenever the cancellation is tried, the socket has just become writable "
        f"({ASYNCIO}, `CancelScope._deliver_cancellation`)",
        reproducer=True,
        unending=True,
    ),
    Difference(
        "connectables",
        "a_connect_that_nobody_answers",
        ("trio/unix",),
        "it returned <*UNIXSocketStream object*",
        "what it returns is not connected: EAGAIN is taken for EINPROGRESS "
        "(trio/_socket.py, `_SocketType.connect`)",
        reproducer=True,
    ),
    Difference(
        "connectables",
        "a_connect_that_nobody_answers_does_not_keep_the_loop_busy",
        ("asyncio/unix", "uvloop/unix"),
        "it keeps the event loop busy",
        "a socket that is not connected is always writable, so it tries again and again "
        f"({ASYNCIO}, `AsyncIOBackend.connect_unix`)",
        reproducer=True,
        unending=True,
    ),
    *(
        Difference(
            "connectables",
            "a_refused_connect_raises_connection_failed",
            (f"*/{subject}",),
            seen,
            "the exception of the handshake is let through "
            "(anyio/streams/tls.py, `TLSConnectable.connect`)",
        )
        for subject, seen in (
            ("untrusted", "it raised SSLCertVerificationError(*"),
            ("hung-up", "it raised BrokenResourceError()"),
            ("no-tls", "it raised SSLError(*"),
        )
    ),
)


def difference(kind: str, check: str, backend: str, subject: str) -> Difference | None:
    """What is known of ``check`` there, on this CPython; ``None`` if it is passed."""
    found = [
        each
        for each in DIFFERENCES
        if each.kind == kind
        and each.applies(check, backend, subject)
        and (each.until is None or sys.version_info < each.until)
    ]
    assert len(found) < 2, f"{check} on {backend} over {subject} stands in two lines"
    return found[0] if found else None


@dataclass(frozen=True)
class NotPromised:
    """Something that AnyIO promises neither way, and that differs.

    :ivar what: what was done
    :ivar seen: what came of it on each backend
    """

    what: str
    seen: dict[str, str]


#: On tcp.
NOT_PROMISED = {
    "read_ahead": NotPromised(
        "32 MiB are sent to an accepted stream that has received nothing yet",
        {
            "asyncio": "it takes them all",
            "uvloop": "it takes them all",
            "trio": "the sender waits",
        },
    ),
    "unread": NotPromised(
        "a peer closes that has not asked for all it was sent; `receive` raises",
        {
            "asyncio": "EndOfStream",
            "uvloop": "EndOfStream",
            "trio": "BrokenResourceError",
        },
    ),
    "eof_in_send": NotPromised(
        "`send_eof` during a blocked `send`",
        {
            "asyncio": "the end comes after all bytes",
            "uvloop": "the end comes after all bytes",
            "trio": "the end comes at once, and `send` raises BrokenResourceError",
        },
    ),
}


def document() -> str:
    """The whole page."""
    lines = [
        "# Where AnyIO's backends differ",
        "",
        "<!-- Made by `nox -s differences` from tests/conformance/differences.py. -->",
        "",
        "What AnyIO's own streams, sockets, listeners and connectables make of the checks in",
        "`harness.conformance`, on Linux, with AnyIO 4.16, uvloop 0.23, trio 0.35 and CPython 3.10",
        "to 3.13. The tests run every check on each of them on each backend, and fail if one does",
        "otherwise than it stands here: a promise that is kept again does not stay on this page.",
        "The tables say what was looked at and what a check then saw; an empty cell is a promise",
        "kept.",
        "",
        "How many promises are not kept, of those that are checked:",
        "",
        "| | checks | asyncio | uvloop | trio |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, kind in KINDS.items():
        counts = " | ".join(
            str(sum(bool(_cell(name, check.name, backend)) for check in kind.checks) or "")
            for backend in BACKENDS
        )
        anchor = kind.title.lower().replace(" ", "-")
        lines.append(f"| [{kind.title}](#{anchor}) | {len(kind.checks)} | {counts} |")
    lines += [
        "",
        "What AnyIO promises neither way, and what differs all the same, stands at",
        "[the end](#not-promised-and-different). For some there is a program of a few lines that",
        "shows it: [upstream-bugs.md](upstream-bugs.md).",
    ]
    for name in KINDS:
        lines += _section(name)
    lines += [
        "",
        "## Not promised, and different",
        "",
        "On tcp.",
        "",
        *_head("what"),
    ]
    for each in NOT_PROMISED.values():
        cells = " | ".join(each.seen[backend] for backend in BACKENDS)
        lines.append(f"| {each.what} | {cells} |")
    return "\n".join([*lines, ""])


def _section(name: str) -> Iterator[str]:
    kind = KINDS[name]
    yield from ("", f"## {kind.title}", "", kind.about)
    rows = {check: [_cell(name, check.name, each) for each in BACKENDS] for check in kind.checks}
    broken = {check: row for check, row in rows.items() if any(row)}
    alike = {check: row for check, row in broken.items() if len(set(row)) == 1}
    if len(alike) < len(broken):
        yield from ("", "Where the backends differ:", "", *_head("check"))
        for check, row in broken.items():
            if check not in alike:
                yield f"| `{check.name}` | {' | '.join(row)} |"
    if alike:
        yield from ("", "The same on all of them:", "", "| check | seen |", "| --- | --- |")
        for check, row in alike.items():
            yield f"| `{check.name}` | {row[0]} |"
    if broken:
        yield from ("", "What they promise, and where it is lost:", "")
    for check in broken:
        yield f'* `{check.name}`: "{check.promise}" ({check.source}).'
        reasons: dict[str, list[str]] = {}
        for each in _told(name):
            if each.check == check.name:
                reasons.setdefault(_reason(each), []).extend(each.where)
        for reason, where in reasons.items():
            places = ", ".join(f"`{pattern}`" for pattern in where)
            yield f"  {places}: {reason}"
    if name == "streams":
        yield from ("", f"For all checks of `send_eof` on TLS: {NO_EOF}.")
    names = [f"`{check.name}`" for check in kind.checks if check not in broken]
    yield from ("", "Kept everywhere: " + ", ".join(names) + ".")


def _head(first: str) -> tuple[str, str]:
    return f"| {first} | " + " | ".join(BACKENDS) + " |", "| --- | --- | --- | --- |"


def _reason(each: Difference) -> str:
    notes = []
    if each.issue is not None:
        project, _, number = each.issue.removeprefix("https://github.com/").partition("/issues/")
        notes.append(f"[{project.partition('/')[2]}#{number}]({each.issue})")
    if each.reproducer:
        notes.append("[reproducer](upstream-bugs.md)")
    return f"{each.why}." + (f" See {', '.join(notes)}." if notes else "")


def _told(kind: str) -> list[Difference]:
    return [each for each in DIFFERENCES if each.kind == kind and each.why is not NO_EOF]


def _cell(kind: str, check: str, backend: str) -> str:
    """What is seen, with those that show it: `udp, udp-connected: it returned b'unread'`."""
    seen: dict[str, list[str]] = {}
    for subject in KINDS[kind].subjects:
        for each in _told(kind):
            if each.applies(check, backend, subject):
                seen.setdefault(each.told, []).append(subject)
    return "; ".join(f"{', '.join(subjects)}: {told}" for told, subjects in seen.items())


if __name__ == "__main__":
    DOCUMENT.write_text(document())
