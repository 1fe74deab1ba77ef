"""Where AnyIO's own streams break a promise, or differ from one backend to the next.

The tests beside it hold every line of this to what the checks find. So what is made from it,
`docs/backend-differences.md`, cannot go stale: `nox -s differences` writes it, and a test compares.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path

from harness.conformance import byte_stream_checks, half_close_checks

CHECKS = (*byte_stream_checks(), *half_close_checks())
BACKENDS = ("asyncio", "uvloop", "trio")
STREAMS = ("tcp", "unix", "tls")
DOCUMENT = Path(__file__).parents[2] / "docs" / "backend-differences.md"

ASYNCIO = "anyio/_backends/_asyncio.py"
TRIO = "anyio/_backends/_trio.py"
TLS = "anyio/streams/tls.py"


@dataclass(frozen=True)
class Difference:
    """A check that some of AnyIO's streams do not pass.

    :ivar where: `backend/stream` of each, `*` for all
    :ivar seen: what the check sees then, as a pattern
    :ivar why: the code that decides it, or a sentence
    """

    check: str
    where: tuple[str, ...]
    seen: str
    why: str

    def applies(self, check: str, backend: str, stream: str) -> bool:
        cell = f"{backend}/{'tcp' if stream == 'tcp6' else stream}"
        return fnmatch.fnmatch(check, self.check) and any(
            fnmatch.fnmatch(cell, pattern) for pattern in self.where
        )


NO_EOF = f"`TLSStream.send_eof` is not implemented ({TLS})"

DIFFERENCES = (
    *(
        Difference(
            check.name, ("*/tls",), "*NotImplementedError('send_eof() has not yet been *", NO_EOF
        )
        for check in half_close_checks()
        if check.name != "eof_after_close_is_refused"
    ),
    Difference(
        "eof_after_close_is_refused",
        ("*/tls",),
        "it raised *",
        f"it asks the closed transport for its attributes first ({TLS}, `TLSStream.send_eof`)",
    ),
    Difference(
        "operations_are_checkpoints",
        ("*/tls",),
        "it had * turns",
        f"what is decrypted already is returned without a checkpoint ({TLS}, "
        "`_call_sslobject_method`)",
    ),
    Difference(
        "a_deadline_that_has_passed",
        ("uvloop/tcp", "uvloop/tls"),
        "it returned b'kept'",
        "uvloop reads as soon as reading is resumed, and the `Event.wait` that follows does not "
        f"look at its scope ({ASYNCIO}, `SocketStream.receive`)",
    ),
    Difference(
        "racing_senders",
        ("*/tls",),
        "*BrokenResourceError()*",
        "the second `send` has encrypted its bytes when the transport refuses them, and that "
        f"breaks the stream ({TLS}, `_flush_write_bio`)",
    ),
    Difference(
        "a_closed_stream_does_not_receive",
        ("asyncio/tcp", "uvloop/tcp"),
        "it returned b'there'",
        f"`aclose` leaves what was read ahead in the queue ({ASYNCIO}, `SocketStream.receive`)",
    ),
    Difference(
        "a_closed_stream_does_not_send_nothing",
        ("asyncio/unix", "uvloop/unix", "trio/tcp", "trio/unix", "*/tls"),
        "it returned None",
        "a loop over the bytes ends before the socket is asked (`while view`); on TLS nothing is "
        "encrypted",
    ),
    Difference(
        "a_forceful_close_is_seen",
        ("*/tls",),
        "it raised EndOfStream()",
        f"every end of the transport is an `EndOfStream` here, of `send` too ({TLS}, "
        "`_call_sslobject_method`)",
    ),
    Difference(
        "send_after_eof_is_refused",
        ("asyncio/tcp", "uvloop/tcp"),
        "it raised RuntimeError('Cannot call write() after write_eof()')",
        f"the transport's own exception is let through ({ASYNCIO}, `SocketStream.send`)",
    ),
    Difference(
        "eof_to_a_peer_that_has_gone",
        ("uvloop/tcp",),
        "it raised RuntimeError('unable to perform operation on *; the handler is closed')",
        f"`send_eof` catches `OSError` only ({ASYNCIO}, `SocketStream.send_eof`)",
    ),
    Difference(
        "eof_to_a_peer_that_has_gone",
        ("trio/tcp",),
        "it raised OSError(107, 'Transport endpoint is not connected')",
        f"`shutdown` is called as it is ({TRIO}, `SocketStream.send_eof`)",
    ),
    Difference(
        "eof_after_close_is_refused",
        ("asyncio/tcp",),
        "it returned None",
        f"the transport takes it without a word ({ASYNCIO}, `SocketStream.send_eof`)",
    ),
    Difference(
        "eof_after_close_is_refused",
        ("uvloop/tcp",),
        "it raised RuntimeError('unable to perform operation on *; the handler is closed')",
        f"the transport's own exception is let through ({ASYNCIO}, `SocketStream.send_eof`)",
    ),
    Difference(
        "eof_after_close_is_refused",
        ("asyncio/unix", "uvloop/unix", "trio/tcp", "trio/unix"),
        "it raised OSError(9, 'Bad file descriptor')",
        f"`shutdown` is called as it is ({ASYNCIO}, `UNIXSocketStream.send_eof`; {TRIO})",
    ),
)


def difference(check: str, backend: str, stream: str) -> Difference | None:
    found = [each for each in DIFFERENCES if each.applies(check, backend, stream)]
    assert len(found) < 2, f"{check} on {backend} over {stream} stands in two lines"
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
        "What AnyIO's own byte streams make of the checks in `harness.conformance`, on Linux, with",
        "AnyIO 4.16, uvloop 0.23, trio 0.35 and CPython 3.10 to 3.13. The tests run every check on",
        "every stream and backend, and fail if one behaves otherwise than it stands here. A check",
        "that is not listed is passed everywhere. tcp is IPv4 and IPv6; the in-memory transport of",
        "the harness passes all checks on all backends.",
        "",
        "## Promises that are not kept",
        "",
        "| check | " + " | ".join(BACKENDS) + " |",
        "| --- | " + " | ".join("---" for _ in BACKENDS) + " |",
    ]
    broken = [check for check in CHECKS if any(each.check == check.name for each in _told())]
    for check in broken:
        cells = " | ".join(_cell(check.name, backend) or "kept" for backend in BACKENDS)
        lines.append(f"| `{check.name}` | {cells} |")
    lines += ["", "What they promise, and where it is lost:", ""]
    for check in broken:
        lines.append(f'* `{check.name}`: "{check.promise}" ({check.source}).')
        lines += [
            f"  {', '.join(each.where)}: {each.why}."
            for each in _told()
            if each.check == check.name
        ]
    lines += [
        "",
        "For all checks of `send_eof` on TLS: " + NO_EOF + ".",
        "",
        "## Not promised, and different",
        "",
        "| what | " + " | ".join(BACKENDS) + " |",
        "| --- | " + " | ".join("---" for _ in BACKENDS) + " |",
    ]
    for each in NOT_PROMISED.values():
        cells = " | ".join(each.seen[backend] for backend in BACKENDS)
        lines.append(f"| {each.what} | {cells} |")
    passed = [
        check.name
        for check in CHECKS
        if not any(fnmatch.fnmatch(check.name, each.check) for each in _told())
    ]
    lines += ["", "## Kept everywhere", "", ", ".join(f"`{name}`" for name in passed) + ".", ""]
    return "\n".join(lines)


def _told() -> list[Difference]:
    return [each for each in DIFFERENCES if each.why is not NO_EOF]


def _cell(check: str, backend: str) -> str:
    return "; ".join(
        f"{stream}: {each.seen.replace('*', '…')}"
        for each in _told()
        if each.check == check
        for stream in STREAMS
        if each.applies(check, backend, stream)
    )


if __name__ == "__main__":
    DOCUMENT.write_text(document())
