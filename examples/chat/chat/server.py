"""The server: whoever joins with a nick gets everybody else's lines.

Slow readers: every client has a queue of ``queue_size`` lines. Broadcasting never waits; a client
whose queue is full is disconnected, and the others are told so. Dropping single lines instead would
leave holes in a conversation that nobody sees, and waiting would let one client stop all of them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from anyio import (
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    DelimiterNotFound,
    EndOfStream,
    IncompleteRead,
    WouldBlock,
    create_memory_object_stream,
    create_task_group,
    current_time,
    fail_after,
)
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

#: Seconds that a client gets to take its last lines when the server hangs up.
FLUSH_TIMEOUT = 5

NICK = re.compile(r"\w{1,32}")

PEER_GONE = (EndOfStream, IncompleteRead, BrokenResourceError, ClosedResourceError)


class RudeError(Exception):
    """The client does not keep to the rules; the text is the last thing it is told."""


@dataclass(eq=False)
class Member:
    """A client that has joined."""

    nick: str
    outbox: MemoryObjectSendStream[bytes]
    scope: CancelScope
    farewell: str = "left"


class ChatServer:
    """One room.

    :param max_line: bytes of one line
    :param queue_size: lines that may wait for one client before it is disconnected
    :param idle_timeout: seconds that a client may say nothing before it has to go
    """

    def __init__(
        self, *, max_line: int = 1024, queue_size: int = 1024, idle_timeout: float = math.inf
    ) -> None:
        self._max_line = max_line
        self._idle_timeout = idle_timeout
        self._queue_size = queue_size
        self._members: dict[str, Member] = {}

    @property
    def nicks(self) -> list[str]:
        """Who is there."""
        return list(self._members)

    async def handle(self, stream: ByteStream) -> None:
        """Serve one client until it goes, is rude or is too slow."""
        outbox, outgoing = create_memory_object_stream[bytes](self._queue_size)
        incoming = BufferedByteReceiveStream(stream)
        async with stream, outgoing, outbox, create_task_group() as tasks:
            tasks.start_soon(self._write, outgoing, stream, tasks.cancel_scope)
            last_words = ""
            try:
                nick = await self._read_line(incoming)
                await self._converse(self._join(nick, outbox, tasks.cancel_scope), incoming)
            except RudeError as exc:
                last_words = f"error: {exc}\n"
            except PEER_GONE:
                pass  # half a line is nothing that was said
            # The writer ends when it has sent what is left, for which the client has so long.
            tasks.cancel_scope.deadline = current_time() + FLUSH_TIMEOUT
            if last_words:
                await outbox.send(last_words.encode())
            outbox.close()

    def _join(self, nick: str, outbox: MemoryObjectSendStream[bytes], scope: CancelScope) -> Member:
        if not NICK.fullmatch(nick):
            raise RudeError("a nick is 1 to 32 letters, digits or underscores")
        if nick in self._members:
            raise RudeError(f"somebody is called {nick} already")
        member = Member(nick, outbox, scope)
        self._members[nick] = member
        # The others are not told: with n clients coming at once that would be n * n lines.
        outbox.send_nowait(f"* welcome {nick}, you are one of {len(self._members)}\n".encode())
        return member

    async def _converse(self, member: Member, incoming: BufferedByteReceiveStream) -> None:
        try:
            while True:
                line = await self._read_line(incoming)
                self._broadcast(f"{member.nick}: {line}", sender=member)
                # Many lines may have come at once, and reading those never waits: without this,
                # they would fill the queues of clients whose writers had no chance to run.
                await checkpoint()
        except RudeError:
            member.farewell = "left (rude)"
            raise
        finally:
            del self._members[member.nick]
            self._broadcast(f"* {member.nick} {member.farewell}")

    def _broadcast(self, line: str, *, sender: Member | None = None) -> None:
        """Queue ``line`` for everybody but ``sender``. Never waits, so any place may call it."""
        data = f"{line}\n".encode()
        for member in self._members.values():
            if member is sender:
                continue
            try:
                member.outbox.send_nowait(data)
            except WouldBlock:
                member.farewell = "left (too slow)"
                member.scope.cancel()

    async def _read_line(self, incoming: BufferedByteReceiveStream) -> str:
        try:
            with fail_after(self._idle_timeout):
                line = await incoming.receive_until(b"\n", self._max_line)
        except TimeoutError:
            raise RudeError("you have fallen asleep") from None
        except DelimiterNotFound:
            raise RudeError("the line is too long") from None
        if len(line) > self._max_line:  # a line that arrived in one piece is found nevertheless
            raise RudeError("the line is too long")
        return line.decode("utf-8", "replace").rstrip("\r")

    async def _write(
        self, outgoing: MemoryObjectReceiveStream[bytes], stream: ByteStream, scope: CancelScope
    ) -> None:
        try:
            async for line in outgoing:
                # All that waits goes out in one send: whoever has fallen behind catches up quickly.
                waiting = [line]
                try:
                    while True:
                        waiting.append(outgoing.receive_nowait())
                except (WouldBlock, EndOfStream):
                    pass
                await stream.send(b"".join(waiting))
        except PEER_GONE:  # over TLS, send() raises EndOfStream too
            scope.cancel()
