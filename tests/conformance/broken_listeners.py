"""Listeners with one defect each, for the checks to find."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress

from anyio import (
    BusyResourceError,
    ClosedResourceError,
    Event,
    aclose_forcefully,
    create_task_group,
    get_cancelled_exc_class,
)
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from harness.conformance.listener import Connect, MakeListener
from harness.network import MemoryListener, MemoryStream, Network


class Sound(MemoryListener):
    """The harness's own, in memory: without a defect.

    :ivar outside: a task group beyond the check's
    """

    outside: TaskGroup

    async def serve(self, handler, task_group=None):
        async with AsyncExitStack() as stack:
            if task_group is None:
                task_group = await stack.enter_async_context(create_task_group())
            while True:
                await self.start(handler, await self.accept(), task_group)

    async def start(self, handler, stream, task_group):
        task_group.start_soon(handler, stream)

    @property
    def backlog(self):
        return self._socket._backlog


@asynccontextmanager
async def listeners_of(kind: type[Sound]) -> AsyncIterator[tuple[MakeListener, Connect]]:
    """What makes listeners of ``kind``, and what connects to them."""
    network = Network()
    addresses = {}
    made = []

    async def make_listener():
        listening = network.listen()
        listener = kind(listening)
        addresses[listener] = listening.address
        listener.outside = outside
        made.append(listening)
        return listener

    async def connect(listener):
        await checkpoint()
        return MemoryStream(network.connect(addresses[listener]))

    async with create_task_group() as outside:
        yield make_listener, connect
        outside.cancel_scope.cancel()
    for listening in made:
        listening.close()


# Serving


class GivesEachTheFirstStream(Sound):
    first = None

    async def start(self, handler, stream, task_group):
        self.first = self.first or stream
        await super().start(handler, self.first, task_group)


class DropsTheBacklog(Sound):
    async def serve(self, handler, task_group=None):
        while self.backlog:
            self.backlog.popleft().abort()
        await super().serve(handler, task_group)


class OneAtATime(Sound):
    async def start(self, handler, stream, task_group):
        await handler(stream)


class EndsWithOneHandler(Sound):
    async def serve(self, handler, task_group=None):
        streams = []

        async def wrapped(stream):
            streams.append(stream)
            await handler(stream)
            for each in streams:
                await aclose_forcefully(each)

        await super().serve(wrapped, task_group)


# The task group


class IgnoresTheGroup(Sound):
    async def serve(self, handler, task_group=None):
        await super().serve(handler)


class StartsHandlersOutside(Sound):
    async def serve(self, handler, task_group=None):
        async def until_serve_ends(stream):
            async with create_task_group() as group:
                group.start_soon(handler, stream)
                await over.wait()
                group.cancel_scope.cancel()

        over = Event()
        try:
            while True:
                (task_group or self.outside).start_soon(until_serve_ends, await self.accept())
        finally:
            if task_group is None:
                over.set()


class SwallowsExceptions(Sound):
    async def start(self, handler, stream, task_group):
        async def wrapped(stream):
            with suppress(Exception):
                await handler(stream)

        await super().start(wrapped, stream, task_group)


# Cancellation


class StaysBusy(Sound):
    busy = False

    async def serve(self, handler, task_group=None):
        if self.busy:
            await checkpoint()
            raise BusyResourceError("serving")
        self.busy = True
        await super().serve(handler, task_group)


class AcceptsBeforeItYields(Sound):
    async def accept(self):
        if not self.backlog:
            return await super().accept()
        accepted = MemoryStream(self._socket.accept())
        await checkpoint()
        return accepted


class LosesWhenCancelled(Sound):
    async def accept(self):
        accepted = await super().accept()
        try:
            await checkpoint()
        except get_cancelled_exc_class():
            await aclose_forcefully(accepted)
            raise
        return accepted


class LeavesASocketOpen(Sound):
    """For as long as the check lasts: it is closed by whoever made the listener."""

    async def start(self, handler, stream, task_group):
        async def keep():
            with socket.socket():
                await Event().wait()

        self.outside.start_soon(keep)
        await super().start(handler, stream, task_group)


# Two that serve


class HandlesTwice(Sound):
    """With two that serve, each connection has one handler, and another one that has no peer."""

    async def serve(self, handler, task_group=None):
        self.servers = getattr(self, "servers", 0) + 1
        try:
            await super().serve(handler, task_group)
        except BusyResourceError:
            await Event().wait()

    async def start(self, handler, stream, task_group):
        await super().start(handler, stream, task_group)
        if self.servers > 1:
            peer, another = (MemoryStream(each) for each in Network().pair())
            await peer.aclose()
            await super().start(handler, another, task_group)


class SecondAcceptTakesTheFirstsPlace(Sound):
    """Nobody is refused, and only the last one is told of a connection."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._accept_guard = nullcontext()


# The end


class CloseDoesNotWake(Sound):
    async def aclose(self):
        self._socket.on_acceptable = None
        await super().aclose()


class CloseEndsHandlers(Sound):
    async def serve(self, handler, task_group=None):
        self.streams = []

        async def wrapped(stream):
            self.streams.append(stream)
            await handler(stream)

        await super().serve(wrapped, task_group)

    async def aclose(self):
        await super().aclose()
        for stream in getattr(self, "streams", ()):
            await aclose_forcefully(stream)


class GoesOnListening(Sound):
    async def aclose(self):
        self._socket.closed = True
        if self._socket.on_acceptable is not None:
            self._socket.on_acceptable()
        await checkpoint()


class ServesAfterClose(Sound):
    async def serve(self, handler, task_group=None):
        with suppress(ClosedResourceError):
            await self.accept()
        await Event().wait()


class KeepsTheBacklog(Sound):
    async def aclose(self):
        self.kept = list(self.backlog)
        self.backlog.clear()
        await super().aclose()


class ClosesOnce(Sound):
    async def aclose(self):
        if self._socket.closed:
            raise ClosedResourceError
        await super().aclose()


class YieldsBeforeItCloses(Sound):
    async def aclose(self):
        await checkpoint()
        await super().aclose()


# Attributes


class HasABrokenAttribute(Sound):
    @property
    def extra_attributes(self):
        def value():
            raise RuntimeError("there is none")

        return {object(): value}


#: A defect for each check to find.
BROKEN: dict[str, type[Sound]] = {
    "each_connection_has_its_handler": GivesEachTheFirstStream,
    "connections_from_before_are_served": DropsTheBacklog,
    "many_at_once": OneAtATime,
    "a_handler_that_returns_ends_no_other": EndsWithOneHandler,
    "handlers_run_in_the_group_that_is_given": IgnoresTheGroup,
    "without_a_group_serve_ends_after_its_handlers": StartsHandlersOutside,
    "a_handlers_exception_ends_the_group_that_is_given": SwallowsExceptions,
    "a_handlers_exception_ends_serve": SwallowsExceptions,
    "a_cancelled_serve_can_be_repeated": StaysBusy,
    "a_deadline_that_has_passed": AcceptsBeforeItYields,
    "a_cancelled_serve_loses_no_connection": LosesWhenCancelled,
    "nothing_is_left": LeavesASocketOpen,
    "two_that_serve": HandlesTwice,
    "two_that_accept": SecondAcceptTakesTheFirstsPlace,
    "close_ends_serve": CloseDoesNotWake,
    "handlers_outlive_their_listener": CloseEndsHandlers,
    "a_closed_listener_refuses": GoesOnListening,
    "a_closed_listener_does_not_serve": ServesAfterClose,
    "close_ends_connections_that_nobody_accepted": KeepsTheBacklog,
    "close_can_be_repeated": ClosesOnce,
    "a_cancelled_close_closes": YieldsBeforeItCloses,
    "typed_attributes": HasABrokenAttribute,
}
