"""`Harness`, what a test holds, and `open_harness`, which makes one anywhere.

The order of the end is fixed (:meth:`Harness.aclose`): stop accepting and cancel what is idle, let
busy handlers drain, cancel what lingers, bound the cancellation, close the streams and addresses,
and only then say what went wrong.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from anyio import CancelScope, Event, aclose_forcefully, create_task_group, move_on_after
from anyio.abc import AsyncResource, ByteStream, ByteStreamConnectable, TaskGroup

from .adapters.functions import shape_of
from .backends import running_backend_name
from .connection import Connection, RecordedStream
from .diagnostics import LiveConnection, LoopView, format_tasks
from .durations import DEFAULT_CANCEL_TIMEOUT, DEFAULT_GRACE, checked_grace
from .garbage import fewer_collections
from .leaks.places import here
from .reachable import Reachable
from .seeds import Seed, checked_seed, fresh
from .server import (
    NotRaised,
    Server,
    TaskCensus,
    checked_expect,
    checked_name,
)
from .settling import settle
from .steps import current_fixture
from .supervisor import DidNotStop, Listener, Supervisor
from .transports import BUILT_IN, Transport, TransportFactory, make_transport
from .watch import Watch, failure_of, hear_from_elsewhere, is_consequence

R = TypeVar("R", bound=AsyncResource)

if TYPE_CHECKING:
    from .faults.contract import Toxic
    from .faults.proxy import Proxy
    from .faults.upstream import Upstream

#: Connections that are too many for the garbage collector to look through them at their end.
MANY = 1000

#: Turns of the event loop that handlers get to notice, at the end, what clients did last.
TURNS_TO_NOTICE = 256


class Harness:
    """Servers, connections and tasks of one test, with one end.

    Made by the fixture ``harness`` or by :func:`open_harness`, never directly.

    :ivar backend: the name of the backend, such as ``"uvloop"``
    :ivar transport: what servers listen on unless ``serve`` is told otherwise
    """

    def __init__(
        self,
        *,
        backend: str,
        transport: Transport,
        transports: Mapping[str, TransportFactory],
        grace: float,
        cancel_timeout: float,
        listener: Listener | None,
        seed: Seed,
    ) -> None:
        self.backend = backend
        self.transport = transport
        self._seed = seed
        self._factories = transports
        #: made so far, by name: all memory servers of one harness share one network
        self._transports = {transport.name: transport}
        self._grace = grace
        self._cancel_timeout = cancel_timeout
        self._supervisor = Supervisor("the harness", listener)
        self._servers: list[Server] = []
        self._proxies: list[Proxy] = []
        self._streams: dict[RecordedStream, None] = {}
        self._resources: list[AsyncResource] = []
        #: what clients that were left open do before servers stop
        self._at_the_end: list[Callable[[], Awaitable[object]]] = []
        self._closing = self._closed = False
        self._view = LoopView.here()
        _harnesses.add(self)

    @property
    def seed(self) -> int | str:
        """What the seeds of its proxies follow from; for random choices of your own, too.

        In a test, it follows from the run's seed and the test's name, and is the same on every
        backend. If the test fails and has looked at it, or a proxy without a seed of its own has
        made a choice, the report says how to have the same one again.
        """
        return self._seed.use()

    @property
    def task_group(self) -> TaskGroup:
        """A task group whose children end with the test: cancelled at its end, at the latest.

        An exception in a child fails the test with that exception; the other children go on.
        """
        self._check_open("use task_group")
        return self._supervisor.children

    async def serve(
        self,
        handler: Any,
        *,
        transport: str | Transport | None = None,
        name: str | None = None,
        grace: float | None = None,
        expect: type[BaseException] | Iterable[type[BaseException]] = (),
        expect_required: bool = False,
    ) -> Server:
        """Start a server; when this returns, a ``connect`` to it succeeds.

        :param handler: an async callable that is given the stream of each connection, or an object
            with ``async def handle(stream)``, whose stream is closed when it returns; or a shape of
            server (:mod:`harness.adapters`)
        :param transport: another transport than the test's, by name or as an object
        :param name: what messages call the server; the handler's name by default
        :param grace: seconds that handlers get to finish when the server stops
        :param expect: exception types that handlers may raise without failing the test
        :param expect_required: fail the test, with :exc:`~harness.NotRaised`, if no handler has
            raised one of them when the test body ends
        :raises TypeError: if ``handler`` is not an async callable, or an argument has a wrong type
        :raises ValueError: for an unknown transport or a negative grace, and if the shape cannot
            serve over a transport that is named here
        :raises unittest.SkipTest: if the shape cannot serve over the test's transport, or on its
            backend
        :raises RuntimeError: after the end of the test
        """
        __tracebackhide__ = True
        self._check_open("serve")
        shape = shape_of(handler)
        named = transport is not None
        transport = self._resolve(transport)
        grace = self._grace if grace is None else checked_grace(grace)
        expected = checked_expect(expect, required=expect_required)
        server = Server(
            self,
            transport,
            shape,
            name=shape.name if name is None else checked_name(name),
            grace=grace,
            cancel_timeout=self._cancel_timeout,
            expect=expected,
            expect_required=expect_required,
            served_at=here() if expect_required else None,
            transport_was_named=named,
        )
        server._check_possible()
        try:
            await server._start()
        except BaseException:
            with CancelScope(shield=True):
                await server._site.aclose()
            raise
        self._servers.append(server)
        return server

    async def start(self, func: Callable[..., Any], *args: object, name: str | None = None) -> Any:
        """Start ``func(*args, task_status=...)`` in the background.

        Waits for ``task_status.started(value)`` and returns ``value``, as AnyIO's
        ``TaskGroup.start`` does.
        Raises what ``func`` raises before that, and :exc:`RuntimeError` if it ends without it.
        """
        __tracebackhide__ = True
        self._check_open("start a task")
        return await self._supervisor.children.start(func, *args, name=name)

    async def connect(self, server: ByteStreamConnectable) -> ByteStream:
        """Connect to a server, or to anything connectable; closed at the end if the test does not.

        :raises TypeError: if ``server`` is not a ``ByteStreamConnectable``
        :raises anyio.ConnectionFailed: if the connection fails
        :raises RuntimeError: after the end of the test
        """
        __tracebackhide__ = True
        self._check_open("connect")
        if isinstance(server, Reachable):
            stream = self._keep(await server._connect())
            server._was_connected(stream)
            return stream
        if not isinstance(server, ByteStreamConnectable):
            raise TypeError(
                f"connect() expects a Server or another anyio.abc.ByteStreamConnectable, "
                f"not {server!r}"
            )
        return self._keep(await server.connect())

    async def pair(
        self, *, transport: str | Transport | None = None
    ) -> tuple[ByteStream, ByteStream]:
        """Two streams connected to one another: the client's and the server's side.

        Both are closed at the end if the test does not. Raises as :meth:`serve` does.
        """
        __tracebackhide__ = True
        self._check_open("make a pair")
        transport = self._resolve(transport)
        endpoint = await transport.listen()
        accepted: list[ByteStream] = []
        arrived = Event()
        accepting = CancelScope()
        abandoned = False

        async def accept(stream: ByteStream) -> None:
            if abandoned:
                await aclose_forcefully(stream)
            else:
                accepted.append(self._keep(stream))
                arrived.set()

        async def listen() -> None:
            try:
                with accepting:
                    await endpoint.listener.serve(accept, self._supervisor.services)
            finally:
                with CancelScope(shield=True):
                    await endpoint.aclose()

        self._supervisor.services.start_soon(listen, name="the listener of pair()")
        try:
            client = self._keep(await endpoint.connect())
            await arrived.wait()
        except BaseException:
            abandoned = True
            for stream in accepted:
                await aclose_forcefully(stream)
            raise
        finally:
            accepting.cancel()
        return client, accepted[0]

    async def proxy(
        self,
        upstream: Any,
        *toxics: Toxic,
        transport: str | Transport | None = None,
        seed: int | str | None = None,
        name: str | None = None,
    ) -> Proxy:
        """Start a proxy in front of something, which breaks connections on purpose.

        It listens at an address of its own, of the same kind as what it stands in front of; TLS is
        passed through. Without toxics nobody notices it.

        :param upstream: a server or another proxy of this harness; ``(host, port)`` or the path of
            a unix socket; or any ``ByteStreamConnectable``, in front of which it listens on the
            test's transport (without TLS)
        :param toxics: act on what the server sends, as ``proxy.add(toxic)`` has it; see
            :meth:`harness.faults.Proxy.add` for more
        :param transport: what else to listen on, by name or as an object; below TLS, as that of the
            server is passed through. ``TCPTransport("127.0.0.1", 6379)`` and
            ``UnixTransport("/run/s")`` are addresses for clients that cannot be told another.
        :param seed: what all its random choices follow from; by default from the run's seed
            (``--harness-seed``), the test's name, and which proxy of the test this is
        :param name: what messages call it
        :raises TypeError: if ``upstream`` cannot be connected to, or a toxic is none
        :raises ValueError: for an unknown transport
        :raises OSError: if it cannot listen where it shall
        :raises RuntimeError: after the end of the test
        """
        __tracebackhide__ = True
        from .faults.proxy import Proxy

        self._check_open("make a proxy")
        if seed is not None:
            checked_seed(seed)
        way = self._upstream(upstream)
        below = None if transport is None else self._resolve(transport).carrier
        number = len(self._proxies) + 1
        endpoint = await (way.listen() if below is None else below.listen())
        try:
            proxy = Proxy(
                self,
                endpoint,
                way,
                listen=way.listen if below is None else below.anywhere.listen,
                name=f"in front of {way.name}" if name is None else checked_name(name),
                seed=f"{self._seed.value}/{number}" if seed is None else str(seed),
                chooses=self._seed.use if seed is None else None,
            )
            for toxic in toxics:
                proxy.add(toxic)
            await proxy._start()
        except BaseException:
            with CancelScope(shield=True):
                await endpoint.aclose()
            raise
        self._proxies.append(proxy)
        return proxy

    def _upstream(self, upstream: Any) -> Upstream:
        """The way to what a proxy stands in front of. Raises :exc:`TypeError` for anything else."""
        from .faults.upstream import Upstream

        return Upstream.to(upstream, self)

    async def settle(self) -> None:
        """Return when every other task is blocked.

        No pause and no polling interval: the event loop turns until nothing is left to run. Bytes
        sent before this call have been received by whoever was waiting for them. A task that waits
        for a timer, a thread or another process counts as blocked; one that never blocks keeps this
        from returning.
        """
        await settle()

    def dump(self) -> str:
        """What is running now, as text: a tree of all tasks of this event loop.

        Each task stands below the one that its task group was entered in, with its stack in your
        code and, in the last line, what it waits for: a stream and its peer, a lock, an event, a
        timer, a thread. Below the tree come the live connections of this harness. The form is the
        same on every backend, and no line is longer than 100 characters.

        It may be called at any time, after the end of the test too, and in any thread, also while
        the event loop is blocked.
        """
        return self._report()

    def _report(self, width: int = 100) -> str:
        return format_tasks(
            self._view,
            connections=self._live_connections(),
            ended=self._ended_servers(),
            width=width,
        )

    def _ended_servers(self) -> list[tuple[str, str]]:
        """The servers that nobody has stopped, and which do not run any more: name and how."""
        return [
            (server.name, server.shape.end)
            for server in self._servers
            if server._ended_by_itself and not server._ended
        ]

    def _live_connections(self) -> list[LiveConnection]:
        """The connections of its servers and those it has made."""
        found = [
            LiveConnection(connection, server.name)
            for server in self._servers
            for connection in server._live
        ]
        names = {server.address: server.name for server in self._servers}
        for stream in list(self._streams):
            record: Connection = stream.connection
            found.append(LiveConnection(record, names.get(record.remote_address)))
        for proxy in self._proxies:
            found += proxy._live_connections()
        return found

    async def check_expected(self) -> None:
        """Raise :exc:`NotRaised` unless handlers have raised what they were required to.

        Called at the end of a test's body and of a block. Handlers that have seen the end of their
        connection, or have anything else to run, are waited for.
        """
        required = [server for server in self._servers if server._requires_an_error()]
        if required:
            await settle(turns=TURNS_TO_NOTICE)
        for server in required:
            server._check_expected()

    def expect_nothing(self) -> None:
        """Let :meth:`check_expected` find nothing from now on: the test has failed already."""
        for server in self._servers:
            server._expect_required = False

    async def aclose(self) -> None:
        """End everything, in the one order. Idempotent.

        :raises harness.DidNotStop: if something goes on after it was cancelled
        :raises BaseException: a crash that nobody was told of yet, or an ``ExceptionGroup`` of
            several
        """
        __tracebackhide__ = True
        if self._closing:
            return
        self._closing = True
        errors: list[Exception] = []
        try:
            with CancelScope(shield=True):
                await self._end(errors)
        finally:
            # Also when Ctrl-C has interrupted the event loop, and nothing can be awaited any more.
            for each in (*self._servers, *self._proxies):
                each._endpoint.release()
            for server in self._servers:
                server.shape.release()
        failure = failure_of(self._supervisor.take_unreported(), *errors)
        if failure is not None:
            raise failure

    async def _end(self, errors: list[Exception]) -> None:
        await self._hang_up(errors)
        await settle(turns=TURNS_TO_NOTICE)  # what clients did last has reached the handlers
        self._closed = True
        accepted = sum(len(server._live) for server in self._servers)
        many = max(len(self._streams), accepted) >= MANY
        spared = fewer_collections if many else nullcontext
        with spared():
            busy = self._end_idle()
        if busy:  # for as long as their grace; meanwhile, all is collected as ever
            async with create_task_group() as draining:
                for server in busy:
                    draining.start_soon(server._drain)
        with spared():
            await self._close(errors)
        for server in self._servers:
            server._ended = True

    def _end_idle(self) -> list[Server]:
        """Stop accepting, cancel what is idle; return the servers that are to be waited for."""
        running = [server for server in self._servers if server._running]
        census = TaskCensus() if any(server._live for server in running) else None
        idle = {server: server._idle(census) if census else [] for server in running}
        busy = [server for server in running if server._lingers(idle[server])]
        # In one step, so that none of these sees another go first and calls it an error.
        for proxy in self._proxies:
            proxy._stop_accepting()
        for server in running:
            server._stop_accepting()
            server._cancel(idle[server])
        self._supervisor.cancel_children()
        return busy

    async def _close(self, errors: list[Exception]) -> None:
        """Cancel the others, and close streams and addresses."""
        try:
            await self._supervisor.aclose(timeout=self._cancel_timeout)
        except DidNotStop as exc:
            errors.append(exc)
        endpoints = [each._endpoint for each in (*self._servers, *self._proxies)]
        closings: list[Callable[[], Awaitable[object]]] = [
            *(stream.aclose_forcefully for stream in self._streams),
            *(partial(aclose_forcefully, each) for each in (*self._resources, *endpoints)),
        ]
        for close in closings:
            try:
                await close()
            except Exception as exc:  # one that cannot close must not keep the others open
                errors.append(exc)

    async def _hang_up(self, errors: list[Exception]) -> None:
        """Let clients that were left open close what is idle, as the test would have."""
        with move_on_after(self._grace):
            for function in self._at_the_end:
                try:
                    await function()
                except Exception as exc:
                    errors.append(exc)

    def _keep(self, stream: ByteStream) -> RecordedStream:
        recorded = RecordedStream(stream, self._streams.pop)
        self._streams[recorded] = None
        return recorded

    def _keep_open(self, resource: R) -> R:
        """Close it at the end, if the test does not."""
        self._check_open("connect")
        self._resources.append(resource)
        return resource

    def _resolve(self, transport: str | Transport | None) -> Transport:
        if transport is None:
            return self.transport
        if isinstance(transport, str) and transport in self._transports:
            return self._transports[transport]
        made = make_transport(transport, self._factories)
        if isinstance(transport, str):
            self._transports[transport] = made
        return made

    def _check_open(self, what: str) -> None:
        __tracebackhide__ = True
        if self._closed:
            raise RuntimeError(
                f"cannot {what}: this harness is closed, because the test or the "
                "`async with open_harness()` that it belonged to has ended"
            )

    def __repr__(self) -> str:
        return f"<Harness on {self.backend} over {self.transport.name}>"


#: Every harness that somebody holds.
_harnesses: WeakSet[Harness] = WeakSet()


def live_connections(*, but: Collection[Harness] = ()) -> list[LiveConnection]:
    """The connections of every harness in this process, ``but`` those of some, for a report."""
    return [each for harness in _all(but) for each in harness._live_connections()]


def ended_servers(*, but: Collection[Harness] = ()) -> list[tuple[str, str]]:
    """The servers of every harness in this process, ``but`` those of some, that have ended."""
    return [each for harness in _all(but) for each in harness._ended_servers()]


def _all(but: Collection[Harness]) -> list[Harness]:
    return [harness for harness in list(_harnesses) if harness not in but]


class open_harness:  # noqa: N801 (used as a function: `async with open_harness() as harness`)
    """Open a harness in a script, in a wider-scoped fixture or in another test runner.

    ::

        async with open_harness(transport="memory") as harness:
            server = await harness.serve(handler)

    A crash in a handler or background task cancels the block and is raised at its end. In a
    fixture, where the block stands still while tests run, the test that is running is cancelled
    instead, and fails with the crash.

    :param transport: a name (``"tcp"``, ``"unix"``, ``"tls"``, ``"memory"``, ``"tcp6"``) or a
        :class:`~harness.Transport`
    :param grace: seconds that handlers get to finish at the end
    :param cancel_timeout: seconds that a cancelled handler may take to stop
    :param backend: the name that ``harness.backend`` shall have; found out by default
    :param transports: what names stand for, here and in ``serve``: name -> factory
    :param seed: what the seeds of proxies follow from; by default from that of pytest's run and the
        test or fixture that this is in, and outside of pytest another one each time
    :raises TypeError: if an argument has a wrong type
    :raises ValueError: for an unknown transport or a negative number
    """

    def __init__(
        self,
        *,
        transport: str | Transport = "tcp",
        grace: float = DEFAULT_GRACE,
        cancel_timeout: float = DEFAULT_CANCEL_TIMEOUT,
        backend: str | None = None,
        transports: Mapping[str, TransportFactory] = BUILT_IN,
        seed: int | str | Seed | None = None,
    ) -> None:
        if seed is not None and not isinstance(seed, Seed):
            seed = Seed(checked_seed(seed))
        self._seed = seed
        self._transport = make_transport(transport, transports)
        self._factories = transports
        self._grace = checked_grace(grace)
        self._cancel_timeout = checked_grace(cancel_timeout, "cancel_timeout")
        self._backend = backend
        self._watch: Watch | None = None

    async def __aenter__(self) -> Harness:
        # A fixture's block stands still while tests run: there is nothing in it to cancel.
        fixture = current_fixture()
        self._watch = Watch(what="the block of open_harness()") if fixture is None else None
        self._harness = Harness(
            backend=self._backend or running_backend_name(),
            transport=self._transport,
            transports=self._factories,
            grace=self._grace,
            cancel_timeout=self._cancel_timeout,
            listener=fixture or self._watch,
            seed=fresh() if self._seed is None else self._seed,
        )
        await self._harness._supervisor.open()
        if self._watch is not None:
            self._watch.enter()
        return self._harness

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool:
        __tracebackhide__ = True
        watch = self._watch
        error = exc_val
        cancelled_by_crash = watch is not None and watch.leave(error)
        late: list[BaseException] = []
        if is_consequence(error) and not cancelled_by_crash:
            await hear_from_elsewhere()
        if error is None and not (watch is not None and watch.interrupted):
            try:
                await self._harness.check_expected()
            except NotRaised as exc:
                late.append(exc)
        try:
            await self._harness.aclose()
        except BaseException as exc:
            late.append(exc)
        if watch is None:
            failure = failure_of([], *late)
            if failure is not None:
                raise failure
            return False
        for each in late:
            watch.also(each)
        failure = watch.failure(None if cancelled_by_crash else error)
        if failure is None:
            return cancelled_by_crash
        if failure is exc_val:
            return False
        raise failure
