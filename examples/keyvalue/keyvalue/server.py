"""The server: a connection is a session with a reader, a writer and a bounded queue between them.

The queue is what lets a subscriber be told something by another connection. A command's reply waits
for room in it, so a client that does not read its replies stops itself. A published message does
not wait: a subscriber whose queue is full is disconnected, so that it stops nobody else.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from anyio import (
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    IncompleteRead,
    WouldBlock,
    create_memory_object_stream,
    create_task_group,
    current_time,
)
from anyio.abc import ByteStream, ObjectReceiveStream
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.memory import MemoryObjectSendStream

from .resp import ErrorReply, ProtocolError, Push, Value, encode, read_command
from .store import Store

#: What clients are told; from 7.2 on they introduce themselves with CLIENT SETINFO.
VERSION = "7.4.0"

#: Seconds that a client gets to take what is queued for it after its last command.
FLUSH_TIMEOUT = 5

PEER_GONE = (EndOfStream, IncompleteRead, BrokenResourceError, ClosedResourceError)

COMMANDS = frozenset(
    b"PING HELLO CLIENT SELECT GET SET DEL EXISTS INCR EXPIRE PEXPIRE TTL PTTL KEYS "
    b"SUBSCRIBE UNSUBSCRIBE PUBLISH QUIT".split()
)


@dataclass(eq=False)
class Session:
    """One client."""

    id: int
    outbox: MemoryObjectSendStream[bytes]
    scope: CancelScope
    protocol: int = 2
    name: bytes = b""
    channels: list[bytes] = field(default_factory=list)

    async def send(self, value: Value) -> None:
        await self.outbox.send(encode(value, self.protocol))


class KeyValueServer:
    """Serves one store to any number of connections.

    :param queue_size: messages that may wait for a subscriber before it is disconnected
    """

    def __init__(self, store: Store | None = None, *, queue_size: int = 1024) -> None:
        self._store = Store() if store is None else store
        self._queue_size = queue_size
        self._ids = itertools.count(1)
        self._subscribers: dict[bytes, dict[Session, None]] = {}

    async def handle(self, stream: ByteStream) -> None:
        """Serve one connection until the client goes, quits or breaks the protocol."""
        outbox, outgoing = create_memory_object_stream[bytes](self._queue_size)
        async with stream, outgoing, outbox, create_task_group() as tasks:
            session = Session(next(self._ids), outbox, tasks.cancel_scope)
            tasks.start_soon(self._write, session, outgoing, stream)
            last_words: Value = None
            try:
                await self._read(session, BufferedByteReceiveStream(stream))
            except PEER_GONE:
                pass
            except ProtocolError as exc:
                last_words = ErrorReply(f"ERR Protocol error: {exc}")
            finally:
                for channel in list(session.channels):
                    self._unsubscribe(session, channel)
            # The writer ends when it has sent what is left, for which the client has so long.
            tasks.cancel_scope.deadline = current_time() + FLUSH_TIMEOUT
            if last_words is not None:
                await session.send(last_words)
            outbox.close()

    async def _write(
        self, session: Session, outgoing: ObjectReceiveStream[bytes], stream: ByteStream
    ) -> None:
        try:
            async for data in outgoing:
                await stream.send(data)
        except PEER_GONE:  # over TLS, send() raises EndOfStream too
            session.scope.cancel()

    async def _read(self, session: Session, incoming: BufferedByteReceiveStream) -> None:
        while True:
            words = await read_command(incoming)
            if not words:
                continue
            command = [words[0].upper(), *words[1:]]
            if command[0] in (b"SUBSCRIBE", b"UNSUBSCRIBE"):
                await self._change_subscriptions(session, command)
                continue
            try:
                reply = self._answer(session, command)
            except ErrorReply as exc:
                reply = exc
            await session.send(reply)
            if command[0] == b"QUIT":
                return

    def _answer(self, session: Session, command: list[bytes]) -> Value:
        """Run a command that has one reply. Raises :exc:`ErrorReply`."""
        store = self._store
        match command:
            case [b"PING"]:
                return "PONG"
            case [b"PING", message]:
                return message
            case [b"HELLO", *arguments]:
                return self._hello(session, arguments)
            case [b"CLIENT", subcommand, *arguments]:
                return self._client(session, subcommand.upper(), arguments)
            case [b"SELECT", number]:
                if number != b"0":
                    raise ErrorReply("ERR DB index is out of range")
                return "OK"
            case [b"QUIT"]:
                return "OK"
            case [b"GET", key]:
                return store.get(key)
            case [b"SET", key, value, *options]:
                return self._set(key, value, options)
            case [b"DEL", _, *_]:
                return sum(store.delete(key) for key in command[1:])
            case [b"EXISTS", _, *_]:
                return sum(key in store for key in command[1:])
            case [b"INCR", key]:
                try:
                    return store.increment(key)
                except ValueError:
                    raise ErrorReply("ERR value is not an integer or out of range") from None
            case [b"EXPIRE", key, seconds]:
                return int(store.expire(key, _integer(seconds)))
            case [b"PEXPIRE", key, milliseconds]:
                return int(store.expire(key, _integer(milliseconds) / 1000))
            case [b"TTL", key]:
                return self._time_to_live(key, 1)
            case [b"PTTL", key]:
                return self._time_to_live(key, 1000)
            case [b"KEYS", pattern]:
                return store.keys(pattern)
            case [b"PUBLISH", channel, message]:
                return self._publish(channel, message)
            case [name, *_] if name in COMMANDS:
                raise ErrorReply(f"ERR wrong number of arguments for '{name.decode().lower()}'")
        raise ErrorReply(f"ERR unknown command '{command[0][:64].decode('ascii', 'replace')}'")

    def _hello(self, session: Session, arguments: list[bytes]) -> Value:
        match arguments:
            case []:
                pass
            case [(b"2" | b"3") as version]:
                session.protocol = int(version)
            case _:
                raise ErrorReply("NOPROTO unsupported protocol version")
        return {
            "server": b"keyvalue",
            "version": VERSION.encode(),
            "proto": session.protocol,
            "id": session.id,
            "mode": b"standalone",
            "role": b"master",
            "modules": [],
        }

    def _client(self, session: Session, subcommand: bytes, arguments: list[bytes]) -> Value:
        match [subcommand, *arguments]:
            case [b"SETNAME", name]:
                session.name = name
                return "OK"
            case [b"GETNAME"]:
                return session.name or None
            case [b"ID"]:
                return session.id
            case [b"SETINFO", _, _]:
                return "OK"
        raise ErrorReply("ERR unknown subcommand or wrong number of arguments for 'client'")

    def _set(self, key: bytes, value: bytes, options: list[bytes]) -> Value:
        expires_in: float | None = None
        only_if: bool | None = None
        words = iter(options)
        for word in words:
            match word.upper():
                case b"EX":
                    expires_in = _integer(next(words, b""))
                case b"PX":
                    expires_in = _integer(next(words, b"")) / 1000
                case b"NX" if only_if is None:
                    only_if = False
                case b"XX" if only_if is None:
                    only_if = True
                case _:
                    raise ErrorReply("ERR syntax error")
        if expires_in is not None and expires_in <= 0:
            raise ErrorReply("ERR invalid expire time in 'set' command")
        if only_if is not None and (key in self._store) != only_if:
            return None
        self._store.set(key, value, expires_in=expires_in)
        return "OK"

    def _time_to_live(self, key: bytes, scale: int) -> int:
        try:
            seconds = self._store.time_to_live(key)
        except KeyError:
            return -2
        return -1 if seconds is None else round(seconds * scale)

    async def _change_subscriptions(self, session: Session, command: list[bytes]) -> None:
        """SUBSCRIBE and UNSUBSCRIBE are answered once for each channel, with pushes."""
        name, *channels = command
        if name == b"SUBSCRIBE":
            if not channels:
                await session.send(ErrorReply("ERR wrong number of arguments for 'subscribe'"))
            for channel in channels:
                if channel not in session.channels:
                    session.channels.append(channel)
                    self._subscribers.setdefault(channel, {})[session] = None
                await session.send(Push([b"subscribe", channel, len(session.channels)]))
            return
        if not channels and not session.channels:
            await session.send(Push([b"unsubscribe", None, 0]))
        for channel in channels or list(session.channels):
            self._unsubscribe(session, channel)
            await session.send(Push([b"unsubscribe", channel, len(session.channels)]))

    def _unsubscribe(self, session: Session, channel: bytes) -> None:
        if channel in session.channels:
            session.channels.remove(channel)
            del self._subscribers[channel][session]
            if not self._subscribers[channel]:
                del self._subscribers[channel]

    def _publish(self, channel: bytes, message: bytes) -> int:
        reached = 0
        for session in self._subscribers.get(channel, ()):
            push = encode(Push([b"message", channel, message]), session.protocol)
            try:
                session.outbox.send_nowait(push)
            except WouldBlock:
                session.scope.cancel()
            else:
                reached += 1
        return reached


def _integer(text: bytes) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 2**63
    if not -(2**63) <= number < 2**63:
        raise ErrorReply("ERR value is not an integer or out of range")
    return number
