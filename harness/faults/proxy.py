"""A proxy in front of something reachable, which breaks connections on purpose."""

from __future__ import annotations

import copy
import math
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from anyio import (
    BrokenResourceError,
    CancelScope,
    ConnectionFailed,
    Event,
    Lock,
    aclose_forcefully,
    create_task_group,
    current_time,
    get_cancelled_exc_class,
    move_on_after,
    sleep,
)
from anyio.abc import ByteStream, TaskGroup, TaskStatus
from anyio.lowlevel import checkpoint

from ..diagnostics import ProxiedConnection, ProxiedRecord
from ..reachable import Reachable
from ..transports.base import Endpoint
from .arrivals import (
    Arrivals,
    connect_with_a_name,
    local_name,
    peer_name,
    stop_reading_ahead,
    waiting_at,
)
from .closing import close_socket, disconnect, reset
from .contract import Direction, Toxic, Trigger, checked_count, checked_number, checked_toxic
from .freeze import Freeze
from .latency import Latency
from .path import BROKEN, Path
from .shortcut import shortcut
from .spare import Spare, is_no_fault_of_a_listener, reason_of
from .stage import Stage
from .transform import Transform

if TYPE_CHECKING:
    from ..core import Harness
    from .upstream import Upstream

#: How a connection ends: both sides have sent their end; RST; FIN; the proxy itself is closed.
Ending = Literal["finished", "reset", "disconnected", "closed"]

#: Turns of the event loop in which what the kernel has handed over becomes a connection here.
TURNS_TO_ACCEPT = 16

#: Seconds until a listener that cannot accept tries again, as trio's ``serve_listeners`` has it.
ACCEPT_AGAIN = 0.1

#: Seconds for what a stream has to say at its end, as TLS may (``close_notify``).
FAREWELL = 1.0

DIRECTIONS: tuple[Direction, ...] = ("upstream", "downstream")


class ProxyConnection:
    """One live connection through a proxy.

    :ivar id: its number, from 1, in the order in which the proxy has accepted them
    :ivar client_address: the client's address, as the proxy sees it; ``None`` for a unix socket
        without a path
    :ivar fired: how often each toxic, by its class's name, has done something here: one for each
        run of bytes and each end of the stream that it has held back, changed, cut or lost, and
        one each time that it has made the connection wait, has refused it or ended it, or has sent
        something of its own
    :ivar error: why the server could not be connected to, if so
    """

    def __init__(self, proxy: Proxy, number: int, client: ByteStream, name: Any) -> None:
        self.id: int = number
        self.client_address: Any = None if isinstance(name, bytes) else name
        self.fired: Mapping[str, int]
        self._fired: Counter[str] = Counter()
        self.fired = self._fired
        self._proxy = proxy
        #: what it is connected to: later ones may have another
        self._upstream = proxy._upstream
        self._client = client
        self._server: ByteStream | None = None
        #: how often the toxic was asked about it that is asked now, and when first, by the event
        #: loop's clock
        self.times_asked: int = 0
        self.asked_at: float = 0.0
        self._paths: dict[Direction, Path] = {}
        self._scope = CancelScope()
        self._ending: Ending | None = None
        #: why there is no connection to the server
        self._refused: ConnectionFailed | None = None
        self.error: OSError | None = None
        #: whether the server is connected to, or never will be
        self._settled = Event()
        self._over = Event()

    @property
    def bytes_upstream(self) -> int:
        """Bytes that have been given to the server's stream: it has received no more than these."""
        return self._passed("upstream")

    @property
    def bytes_downstream(self) -> int:
        """Bytes that have been given to the client's stream: it has received no more than these."""
        return self._passed("downstream")

    @property
    def ending(self) -> Ending | None:
        """How it ends, or has ended; ``None`` while it goes on."""
        return "closed" if self._ending is None and self._over.is_set() else self._ending

    async def reset(self) -> None:
        """End it with RST, on both sides, now."""
        await self._end("reset")

    async def disconnect(self) -> None:
        """End it with FIN, on both sides, now; what a toxic holds back is lost."""
        await self._end("disconnected")

    def _passed(self, direction: Direction) -> int:
        return self._paths[direction].passed if direction in self._paths else 0

    async def _end(self, ending: Ending) -> None:
        self.end_with(ending)
        await self._over.wait()

    # What its paths and toxics call

    def end_with(self, ending: Ending) -> None:
        """Let it end; the first word counts."""
        if self._ending is None:
            self._ending = ending
        self._scope.cancel()

    def chooses(self) -> None:
        """A random choice is made."""
        self._proxy._chooses()

    @property
    def in_words(self) -> str:
        """What reports call it."""
        return f"connection {self.id} of proxy {self._proxy.name!r}"

    def note(self, name: str) -> None:
        self._fired[name] += 1

    def toxic_failed(self, error: BaseException, active: ActiveToxic) -> None:
        self.failed(error, f"{active.toxic!r} on ")

    def failed(self, error: BaseException, what: str = "") -> None:
        """Something of the user's own has raised what no stream should: the test's failure."""
        where = f"{what}connection {self.id} of {self._proxy.name!r}"
        self._proxy._harness._supervisor.notice(error, where)
        self.end_with("reset")

    def __repr__(self) -> str:
        fired = f", {', '.join(self._fired)} fired" if self._fired else ""
        return (
            f"<ProxyConnection {self.id} from {self.client_address}, "
            f"{self.bytes_upstream} B up, {self.bytes_downstream} B down{fired}>"
        )

    # How the proxy runs it

    async def _run(self) -> None:
        try:
            with self._scope:
                for active in self._proxy.toxics:
                    if active.covers(self.id):
                        await self._accepted_by(active)
                self._server = await self._connect_to_server()
                if self._server is not None:
                    await self._relay(self._server)
            if self._ending == "finished":
                await self._part()
        finally:
            self._ending = self._ending or "closed"
            self._settled.set()
            with CancelScope(shield=True):
                await self._close()
            self._over.set()

    async def _accepted_by(self, active: ActiveToxic) -> None:
        try:
            await active._accept(self)
        except BROKEN as exc:
            self.note(active.name)
            self._refuse(exc, reason_of(exc))
            await checkpoint()
        except (GeneratorExit, get_cancelled_exc_class()):
            raise
        except BaseException as exc:
            self.toxic_failed(exc, active)
            await checkpoint()

    async def _connect_to_server(self) -> ByteStream | None:
        try:
            return await self._upstream.connect()
        except BROKEN as exc:
            self.error = exc if isinstance(exc, OSError) else ConnectionFailed(reason_of(exc))
            self._refuse(exc, f"cannot connect to {self._upstream.name}: {reason_of(exc)}")
        except Exception as exc:
            self.failed(exc, f"connect() of {self._upstream.name} for ")
        return None

    def _refuse(self, cause: BaseException, reason: str) -> None:
        self._refused = self._proxy._refusal(self.id, reason, cause)
        self.end_with("reset")

    async def _relay(self, server: ByteStream) -> None:
        try:
            async with create_task_group() as group:
                self._open_paths(group, server)
                self._settled.set()
                for path in self._paths.values():
                    group.start_soon(path.pump, name=f"{path.direction} of {self.in_words}")
                for path in self._paths.values():
                    await path.over.wait()
                self.end_with("finished")
        finally:
            self._ending = self._ending or "closed"  # it takes no more toxics

    def _open_paths(self, group: TaskGroup, server: ByteStream) -> None:
        client, server = shortcut(self._client), shortcut(server)
        self._paths = {
            "upstream": Path(self, "upstream", client, server, group),
            "downstream": Path(self, "downstream", server, client, group),
        }
        for active in self._proxy._actives:
            active._act_on(self)

    @property
    def _relays(self) -> bool:
        """Whether toxics can act on it: bytes go through, and it has no end yet."""
        return bool(self._paths) and self._ending is None

    def _streams(self) -> list[ByteStream]:
        return [self._client] if self._server is None else [self._client, self._server]

    async def _part(self) -> None:
        """Close the streams as those do that have something to say then."""
        with move_on_after(FAREWELL):
            await self._each_stream(lambda stream: stream.aclose())

    async def _close(self) -> None:
        close: Callable[[ByteStream], Awaitable[None]] = aclose_forcefully
        if self._ending == "reset":
            close = reset
        elif self._ending == "disconnected":
            close = disconnect
        await self._each_stream(close)

    async def _each_stream(self, close: Callable[[ByteStream], Awaitable[None]]) -> None:
        for stream in self._streams():
            try:
                await close(stream)
            except BROKEN:
                pass
            except Exception as exc:  # of somebody else's stream; the other is to be closed, too
                self.failed(exc, "closing ")


class ActiveToxic:
    """A toxic at work in a proxy; made by :meth:`Proxy.add`.

    :ivar toxic: the toxic
    :ivar direction: ``"upstream"``, ``"downstream"`` or ``"both"``
    :ivar toxicity: the share of connections that it acts on
    :ivar window: from when to when it may act, by ``anyio.current_time()``
    """

    def __init__(
        self,
        proxy: Proxy,
        toxic: Toxic,
        directions: tuple[Direction, ...],
        toxicity: float,
        when: tuple[Trigger, ...],
        number: int,
    ) -> None:
        self.toxic: Toxic = toxic
        self.direction: str = "both" if len(directions) == 2 else directions[0]
        self.toxicity: float = toxicity
        self.when: tuple[Trigger, ...] = when
        self.added_at: float = current_time()
        self.name: str = type(toxic).__name__
        windows = [trigger.window() for trigger in when]
        self.window: tuple[float, float] = (
            self.added_at + max([start for start, _ in windows], default=0.0),
            self.added_at + min([end for _, end in windows], default=math.inf),
        )
        self._given = toxic
        self._removed = False
        self._directions = directions
        self._proxy = proxy
        self._seed = f"{proxy._seed}/{self.name}/{number}"
        self._stages: list[Stage] = []
        #: in each of them, a connection waits for it to accept it
        self._accepting: list[CancelScope] = []

    def remove(self) -> None:
        """Take it away, on live connections too. What it holds back goes on at once, in order."""
        self._removed = True
        if self in self._proxy._actives:
            self._proxy._actives.remove(self)
        for stage in self._stages:
            stage.remove()
        self._stages.clear()
        for scope in self._accepting:
            scope.cancel()

    def update(self, **values: Any) -> None:
        """Change attributes of the toxic, on live connections too.

        What waits is not lost and not overtaken; from now on it waits as long as it would have if
        the values had always been these.

        :raises AttributeError: if it has no such attribute
        """
        before = self.toxic
        known = {name: value for name, value in vars(before).items() if name[0] != "_"}
        unknown = [name for name in values if name not in known]
        if unknown:
            has = f", only {', '.join(known)}" if known else "; it has nothing that changes"
            raise AttributeError(f"{self.name} has no {unknown[0]!r} to change{has}")
        if _is_made_of(known, before):
            self.toxic = type(before)(**{**known, **values})  # which checks them
        else:
            self.toxic = copy.copy(before)
            vars(self.toxic).update(values)
        changed = {
            name: value
            for name, value in vars(self.toxic).items()
            if name[0] != "_" and (name not in known or value is not known[name])
        }
        for stage in self._stages:
            stage.change(changed)
        for scope in self._accepting:
            scope.cancel()

    def covers(self, number: int) -> bool:
        """Whether it acts on the connection with this number. The same answer each time."""
        if not all(trigger.covers(number) for trigger in self.when):
            return False
        if self.toxicity >= 1:
            return True
        self._proxy._chooses()
        return Random(f"{self._seed}/{number}").random() < self.toxicity

    async def _accept(self, connection: ProxyConnection) -> None:
        """Ask the toxic about a connection that a client has made, if it acts now."""
        opens, closes = self.window
        if type(self.toxic).accept is Toxic.accept or any(
            copy.copy(trigger).begins(b"") is None for trigger in self.when
        ):
            return
        connection.times_asked, connection.asked_at = 0, current_time()
        while not self._removed and opens <= current_time() < closes:
            with CancelScope(deadline=closes) as scope:
                self._accepting.append(scope)
                connection.times_asked += 1
                try:
                    await self.toxic.accept(connection)
                    return
                finally:
                    self._accepting.remove(scope)

    def _act_on(self, connection: ProxyConnection) -> None:
        if self.covers(connection.id):
            for direction in self._directions:
                path = connection._paths[direction]
                self._stages.append(path.add(self, f"{self._seed}/{connection.id}/{direction}"))

    def _forget(self, connection: ProxyConnection) -> None:
        self._stages = [stage for stage in self._stages if stage.connection is not connection]

    def __repr__(self) -> str:
        return f"<{self.toxic!r}, {self.direction}, toxicity {self.toxicity:g}>"


def _is_made_of(values: dict[str, Any], toxic: Toxic) -> bool:
    """Whether ``toxic`` would be made again by its class from what its attributes are now."""
    try:
        again = type(toxic)(**values)
        return {name: value for name, value in vars(again).items() if name[0] != "_"} == values
    except Exception:  # its parameters are others, or become something else
        return False


class Proxy(Reachable):
    """A proxy under the care of a harness; made by :meth:`harness.Harness.proxy`.

    It is AnyIO's ``ByteStreamConnectable``, and has the address and URL of a :class:`Server`.

    Without toxics nobody notices it: the end of one direction is passed on as that, a break (RST)
    as a break, and a server that refuses is seen to. A unix socket has no RST. Its peer sees the
    end of the stream instead, or, on Linux, ``ECONNRESET`` if it has sent something that the proxy
    has not read; and cannot send any more (``EPIPE``). So does an outside client on a unix socket
    that is refused.

    A connection for which the process has no descriptor left is refused; the others go on.

    A sender waits for who does not read. Beside the buffers of the sockets, each direction of a
    connection holds at most 64 KiB without a toxic (over TCP, 256 KiB), and 64 KiB and a toxic's
    ``capacity`` more for each.

    :ivar name: what messages call it
    :ivar accepted: how many connections it has accepted
    """

    def __init__(
        self,
        harness: Harness,
        endpoint: Endpoint,
        upstream: Upstream,
        *,
        listen: Callable[[], Awaitable[Endpoint]],
        name: str,
        seed: str,
        chooses: Callable[[], object] | None,
    ) -> None:
        self.name: str = name
        self._seed = seed
        #: called at each random choice
        self._chooses: Callable[[], object] = chooses or (lambda: None)
        self.accepted: int = 0
        self._harness = harness
        self._endpoint = endpoint
        self._upstream = upstream
        self._actives: list[ActiveToxic] = []
        self._added = 0
        #: where another proxy listens that stands in front of this one
        self._listen = listen
        self._live: dict[ProxyConnection, None] = {}
        self._arrivals: Arrivals[ProxyConnection | ConnectionFailed] = Arrivals()
        self._watchers: list[Event] = []
        #: called with each connection that has ended
        self._when_ended: list[Callable[[ProxyConnection], object]] = []
        self._changing = Lock()
        self._running = False
        self._frozen: ActiveToxic | None = None
        self._processors: dict[Direction, ActiveToxic] = {}

    # Where it is

    @property
    def client_ssl_context(self) -> ssl.SSLContext:
        """A context that trusts the server behind it, whose TLS is passed through.

        Raises :exc:`AttributeError` if that has none.
        """
        context = self._upstream.client_ssl_context
        if context is None:
            raise AttributeError(f"{self} has no client_ssl_context: no TLS is passed through it")
        return context

    @property
    def connections(self) -> Sequence[ProxyConnection]:
        """The live connections, oldest first."""
        return list(self._live)

    async def connect(self) -> ByteStream:
        """Connect through it. The harness closes the stream at the end if the test does not.

        When this returns, the connection is one of :attr:`connections`, and connected to the
        server. Raises :exc:`anyio.ConnectionFailed` if the proxy is disabled, if a toxic refuses
        the connection, if the server does, or if a handshake of TLS fails.
        """
        return await self._harness.connect(self)

    # Toxics

    def add(
        self,
        toxic: Toxic,
        *,
        direction: str = "downstream",
        toxicity: float = 1.0,
        when: Trigger | Iterable[Trigger] = (),
    ) -> ActiveToxic:
        """Let a toxic act, on live connections too.

        Toxics of one direction act one after the other, in the order in which they were added.

        :param direction: ``"upstream"`` (client to server), ``"downstream"`` or ``"both"``
        :param toxicity: the share of connections that it acts on, from 0 to 1; decided once for
            each connection, by the seed
        :param when: triggers, which all have to agree
        :raises TypeError: if something is not what it has to be
        :raises ValueError: if a number is out of range, or for another direction
        :raises RuntimeError: after the end of the test
        """
        self._harness._check_open("add a toxic")
        checked_toxic(toxic)
        directions = _directions(direction)
        checked_number(toxicity, "toxicity", of="add()", most=1.0)
        triggers = _triggers(when)
        self._added += 1
        active = ActiveToxic(self, toxic, directions, toxicity, triggers, self._added)
        self._actives.append(active)
        for connection in self._live:
            if connection._relays:
                active._act_on(connection)
        return active

    def remove(self, toxic: ActiveToxic | Toxic) -> None:
        """Take a toxic away, on live connections too. What it holds back goes on, in order.

        :raises ValueError: if it does not act here
        """
        found = [
            active
            for active in self._actives
            if any(toxic is each for each in (active, active.toxic, active._given))
        ]
        if not found:
            raise ValueError(f"{toxic!r} does not act in {self}")
        for active in found:
            active.remove()

    @contextmanager
    def toxic(
        self,
        toxic: Toxic,
        *,
        direction: str = "downstream",
        toxicity: float = 1.0,
        when: Trigger | Iterable[Trigger] = (),
    ) -> Iterator[ActiveToxic]:
        """A block in which a toxic acts; as :meth:`add`."""
        active = self.add(toxic, direction=direction, toxicity=toxicity, when=when)
        try:
            yield active
        finally:
            active.remove()

    @property
    def toxics(self) -> Sequence[ActiveToxic]:
        """Those that act, in the order in which they were added."""
        return list(self._actives)

    def freeze(self) -> None:
        """Let no byte and no end through, either way, until :meth:`thaw`. Nothing is lost."""
        if self._frozen is None or self._frozen._removed:
            self._frozen = self.add(Freeze(), direction="both")

    def thaw(self) -> None:
        """Let everything through that :meth:`freeze` has held back, in order."""
        if self._frozen is not None:
            self._frozen.remove()
            self._frozen = None

    @contextmanager
    def slowdown(self, read_delay: float = 0, write_delay: float = 0) -> Iterator[None]:
        """A block in which bytes are late, by seconds: aiomisc's name for two :class:`Latency`.

        :param read_delay: for what is read from the client
        :param write_delay: for what is written to it
        """
        with (
            self.toxic(Latency(read_delay), direction="upstream"),
            self.toxic(Latency(write_delay), direction="downstream"),
        ):
            yield

    def set_content_processors(
        self,
        read: Callable[[bytes], Any] | None = None,
        write: Callable[[bytes], Any] | None = None,
    ) -> None:
        """Functions over the bytes of each direction: aiomisc's name for two :class:`Transform`.

        :param read: for what is read from the client; ``None`` takes it away
        :param write: for what is written to it
        """
        toxics: dict[Direction, Transform] = {}
        if read is not None:
            toxics["upstream"] = Transform(read)
        if write is not None:
            toxics["downstream"] = Transform(write)
        for active in self._processors.values():
            active.remove()
        self._processors = {
            direction: self.add(toxic, direction=direction) for direction, toxic in toxics.items()
        }

    # Connections

    async def disconnect_all(self) -> None:
        """End every live connection with FIN, on both sides; what toxics hold back is lost."""
        await self._end_all("disconnected")

    async def reset_all(self) -> None:
        """End every live connection with RST, on both sides, now."""
        await self._end_all("reset")

    async def wait_connections(self, n: int) -> None:
        """Wait until at least ``n`` connections are live; for ``n == 0``, until none is.

        Live is a connection that the proxy has accepted and not closed yet, also one for which it
        is not connected to the server yet.

        Raises :exc:`ValueError` for a negative ``n``, and :exc:`RuntimeError` after the end of the
        test.
        """
        checked_count(n, "n", of="wait_connections()")
        await checkpoint()
        while len(self._live) < n if n else self._live:
            self._harness._check_open("wait for connections")
            event = Event()
            self._watchers.append(event)
            await event.wait()

    async def disable(self) -> None:
        """Go down: refuse connections and end the live ones with FIN, as a process that ends."""
        if self._harness._closed:
            await self._go_down()
            return
        # In a task of its own: a toxic may have called this, whose connection ends first.
        gone = Event()

        async def go_down() -> None:
            try:
                await self._go_down()
            finally:
                gone.set()

        self._harness._supervisor.services.start_soon(go_down, name=f"disable() of {self.name!r}")
        await gone.wait()

    async def _go_down(self) -> None:
        async with self._changing:
            await self._end_all("disconnected")
            if self._running:
                self._end_waiting("disconnected")
                self._accepting.cancel()
                await self._stopped.wait()
            await self._end_all("disconnected")

    async def enable(self) -> None:
        """Come up again, at the same address.

        Raises :exc:`RuntimeError` after the end of the test.
        """
        async with self._changing:
            self._harness._check_open("enable a proxy")
            if not self._running:
                await self._endpoint.listen_again()
                try:
                    await self._start()
                except BaseException:
                    with CancelScope(shield=True):
                        await aclose_forcefully(self._endpoint.listener)
                    raise

    def set_upstream(self, upstream: Any) -> None:
        """Connect new connections to something else; live ones stay where they are.

        It goes on listening where it does, whatever that is reached over.

        :param upstream: what :meth:`harness.Harness.proxy` takes
        :raises TypeError: if it cannot be connected to
        :raises ValueError: if that is this proxy, or leads back to it
        :raises RuntimeError: after the end of the test
        """
        self._harness._check_open("set the upstream of a proxy")
        found = self._harness._upstream(upstream)
        behind = found.proxy
        while behind is not None:
            if behind is self:
                raise ValueError(f"{self} cannot be put in front of {found.name}: it leads back")
            behind = behind._upstream.proxy
        self._upstream = found

    @property
    def seed(self) -> str:
        """What all its random choices follow from."""
        self._chooses()
        return self._seed

    def __repr__(self) -> str:
        state = "" if self._running else ", disabled"
        return f"<Proxy {self.name!r} at {self.address}{state}>"

    # How the harness runs it

    def _live_connections(self) -> list[ProxiedConnection]:
        """Those of a report."""
        return [
            ProxiedConnection(
                ProxiedRecord(
                    connection.id,
                    connection.bytes_upstream,
                    connection.bytes_downstream,
                    connection.client_address,
                    tuple(connection.fired),
                ),
                self.name,
            )
            for connection in self.connections
        ]

    async def _start(self) -> None:
        self._stopped = Event()
        await self._harness._supervisor.services.start(self._serve, name=f"proxy {self.name!r}")

    async def _serve(self, *, task_status: TaskStatus[None]) -> None:
        services = self._harness._supervisor.services
        try:
            with CancelScope() as self._accepting:
                self._running = True
                task_status.started()
                with Spare(self._endpoint.listener) as spare:
                    while True:
                        try:
                            await self._endpoint.listener.serve(self._accept, services)
                        except (OSError, BrokenResourceError) as exc:
                            if not is_no_fault_of_a_listener(exc):
                                raise
                            await self._refuse_waiting(exc, spare)
        finally:
            self._running = False
            with CancelScope(shield=True):
                await aclose_forcefully(self._endpoint.listener)
            self._stopped.set()
            self._arrivals.end()

    async def _accept(self, client: ByteStream) -> None:
        __tracebackhide__ = True
        stop_reading_ahead(client)
        self.accepted += 1
        name = peer_name(client)
        connection = ProxyConnection(self, self.accepted, client, name)
        self._live[connection] = None
        self._arrivals.note(name, connection)
        self._changed()
        try:
            await connection._run()
        finally:
            del self._live[connection]
            for active in self._actives:
                active._forget(connection)
            for tell in self._when_ended:
                tell(connection)
            self._changed()

    def _stop_accepting(self) -> None:
        self._accepting.cancel()

    def _changed(self) -> None:
        for event in self._watchers:
            event.set()
        self._watchers.clear()

    async def _end_all(self, ending: Ending) -> None:
        self._end_waiting(ending)
        for _ in range(TURNS_TO_ACCEPT):
            await checkpoint()
        live = self.connections
        for connection in live:
            connection.end_with(ending)
        for connection in live:
            await connection._over.wait()

    def _end_waiting(self, ending: Ending) -> None:
        """End whoever has connected and is not accepted yet: nobody has heard of him here."""
        for client, name in waiting_at(self._endpoint.listener):
            self.accepted += 1
            self._arrivals.note(name, self._ended_early(self.accepted))
            close_socket(client, with_reset=ending == "reset")

    async def _refuse_waiting(self, cause: Exception, spare: Spare) -> None:
        """Refuse whoever waits: only the spare descriptor is left to accept him with."""
        reason = reason_of(cause)
        before = self.accepted
        with spare.given_up():
            for client, name in waiting_at(self._endpoint.listener):
                self.accepted += 1
                self._arrivals.note(name, self._refusal(self.accepted, reason, cause))
                close_socket(client, with_reset=True)
        # If somebody else has taken that one too, there is nothing that would tell of another.
        await (sleep(ACCEPT_AGAIN) if self.accepted == before else checkpoint())

    def _refusal(self, number: int, reason: str, cause: BaseException) -> ConnectionFailed:
        refusal = ConnectionFailed(f"{self} refuses connection {number}: {reason}")
        refusal.__cause__ = cause
        return refusal

    async def _connect(self) -> ByteStream:
        stream, connection = await self._connect_below()
        try:
            return await connection._upstream.dress(stream)
        except BaseException as exc:
            await aclose_forcefully(stream)
            if isinstance(exc, BROKEN):  # in the middle of a handshake
                raise ConnectionFailed(f"cannot connect through {self}: {reason_of(exc)}") from exc
            raise

    async def _connect_below_tls(self) -> ByteStream:
        stream, _ = await self._connect_below()
        return stream

    def _dress(self, stream: ByteStream) -> Awaitable[ByteStream]:
        return self._upstream.dress(stream)

    async def _connect_below(self) -> tuple[ByteStream, ProxyConnection]:
        """A stream to it without TLS on top, and its connection, which has reached the server."""
        if not self._running:
            raise ConnectionFailed(f"{self} is disabled; enable() it")
        stopped = self._stopped
        with self._arrivals:
            try:
                stream = await connect_with_a_name(self._endpoint)
            except OSError as exc:
                reason = reason_of(exc)
                raise ConnectionFailed(f"cannot connect to {self}: {reason}") from exc
            try:
                connection = await self._accepted_from(stream, stopped)
                await connection._settled.wait()
                if connection._server is None:
                    await connection._over.wait()
                    raise connection._refused or self._ended_early(connection.id)
            except BaseException:
                await aclose_forcefully(stream)
                raise
        return stream, connection

    async def _accepted_from(self, stream: ByteStream, stopped: Event) -> ProxyConnection:
        """The other side of ``stream``. One that is over already is found, too."""
        try:
            name = local_name(stream)
        except OSError as exc:
            raise ConnectionFailed(f"cannot connect to {self}: {exc}") from exc
        turns = TURNS_TO_ACCEPT
        while turns:
            found = self._arrivals.take(name)
            if isinstance(found, ConnectionFailed):
                raise found
            if found is not None:
                return found
            if stopped.is_set():  # what was accepted last is noted in a few turns
                turns -= 1
                await checkpoint()
            else:
                await self._arrivals.change(name)
        raise ConnectionFailed(f"{self} was disabled before it accepted the connection")

    def _ended_early(self, number: int) -> ConnectionFailed:
        return ConnectionFailed(
            f"{self} has ended connection {number} before it reached the server"
        )


def _triggers(when: Any) -> tuple[Trigger, ...]:
    several = isinstance(when, Iterable) and not isinstance(when, (str, bytes))
    triggers: tuple[Any, ...] = tuple(when) if several else (when,)
    for trigger in triggers:
        if not isinstance(trigger, Trigger):
            raise TypeError(
                "add(): when has to be a harness.faults.Trigger, or several of them, "
                f"not {trigger!r}"
            )
    return triggers


def _directions(direction: str) -> tuple[Direction, ...]:
    if direction == "both":
        return DIRECTIONS
    for each in DIRECTIONS:
        if direction == each:
            return (each,)
    raise ValueError(
        f"add(): direction has to be 'upstream', 'downstream' or 'both', not {direction!r}"
    )
