"""Random sequences of operations on two byte streams, against a model of what they promise.

Hypothesis makes the sequences and shrinks the one that fails; this module runs them. Hypothesis is
not async, so its state machine runs in a worker thread, and calls back into the event loop for each
step. Which steps it takes follows from the seed alone, never from what the streams do: the same
seed is the same sequence of operations on every stream and backend, until one fails.

All that may happen at the same time happens within one step, in the event loop. A step ends when
every task is blocked, so how long the thread takes between two of them makes no difference.
"""

from __future__ import annotations

import functools
import socket
import time
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from anyio import (
    CancelScope,
    TypedAttributeLookupError,
    aclose_forcefully,
    create_task_group,
    from_thread,
    get_cancelled_exc_class,
    move_on_after,
    sleep_forever,
    to_thread,
)
from anyio.abc import ByteStream, SocketAttribute, TaskGroup
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from ..seeds import checked_seed, fresh
from ..settling import settle
from .byte_stream import (
    a_deadline_that_is_now,
    cancelled_operations_do_not_keep_it_open,
    what_waits_does_not_keep_the_loop_busy,
)
from .contract import (
    MakePair,
    PairCheck,
    PromiseBroken,
    Waiting,
    checked_maker,
    checked_timeout,
    made_pair,
    tasks,
)
from .exchange import MORE_THAN_FITS, stop_reading_ahead
from .model import Aclose, Model, Operation, Receive, Send, SendEof

if TYPE_CHECKING:
    from hypothesis.stateful import RuleBasedStateMachine

#: Steps of one sequence, and how many sequences, if nothing else is said.
OPERATIONS = 20
EXAMPLES = 100

#: How many sequences are made at once. From ten on, Hypothesis would go on with small changes of
#: each one, which find little here.
BATCH = 9

#: Steps of a sequence that are taken when both sides are closed: there is not much left to happen.
STEPS_AFTER_CLOSE = 2

#: Turns of the event loop after which what still runs is taken for something that never blocks.
MANY_TURNS = 100_000

#: Sequences that are tried, to make one shorter that has failed.
SHRINKING = 200

#: Real seconds after which no more are tried that hang.
HANGING = 10.0

#: Seconds that an operation gets once one has hung for all of the time-out.
SOON = 1.0

#: In the place of the size of a message: more than fits between the streams.
LARGE = -1

#: How much that is where everything fits.
LARGE_ANYWAY = 200_000

#: How much a ``receive`` is asked for that takes what there is.
PIECE = 65536

#: More than that is too much to be sent and received again and again.
MUCH = 4 * 1024 * 1024

#: Bytes that a kernel may keep for a socket then. It would make room for megabytes each time; with
#: less than a few segments of loopback (64 KiB each), TCP waits on timers for more room.
KERNEL_BUFFER = 256 * 1024


async def fuzz_byte_stream(
    make_pair: MakePair[ByteStream],
    *,
    seed: int | str | None,
    operations: int | None,
    examples: int | None,
    half_close: bool,
    timeout: float,
    except_for: Collection[str],
) -> None:
    """See :func:`~harness.conformance.check_byte_stream`."""
    __tracebackhide__ = True
    checked_maker(make_pair, "make_pair")
    checked_timeout(timeout)
    seed = fresh().use() if seed is None else checked_seed(seed)
    operations = _checked_count(operations, OPERATIONS, "operations")
    examples = _checked_count(examples, EXAMPLES, "examples")
    runner = Runner(make_pair, timeout, except_for)
    run_in_thread = _machine(runner, seed, operations, examples, half_close)
    async with create_task_group() as group:
        group.start_soon(runner.watch, name="the end of fuzzing")
        try:
            await runner.measure()
            runner.group = group
            with suppress(_Stopped):
                await to_thread.run_sync(run_in_thread)
        finally:
            with CancelScope(shield=True):
                await runner.close()
        await checkpoint_if_cancelled()
        group.cancel_scope.cancel()
    if runner.error is not None:
        raise runner.error
    if runner.failure is not None:
        failure = runner.failure
        failure.seed, failure.replay = seed, f"with operations={operations}, examples={examples}"
        raise failure


def _checked_count(value: int | None, default: int, name: str) -> int:
    if value is None:
        return default
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ValueError(f"{name} has to be a whole number, 1 or more, not {value!r}")


class _Stopped(BaseException):
    """Ends the thread: what it does is not wanted any more."""


class _Failed(Exception):
    """What Hypothesis is told of every broken promise, so that it takes them for one."""


class Runner:
    """Runs the steps of a sequence in the event loop, and asks the model about what came of them.

    :ivar failure: what the shortest sequence has broken so far
    :ivar error: what `make_pair` has raised
    """

    def __init__(
        self, make_pair: MakePair[ByteStream], timeout: float, except_for: Collection[str]
    ) -> None:
        self.group: TaskGroup | None = None
        self.failure: PromiseBroken | None = None
        self.error: Exception | None = None
        self._make_pair = make_pair
        self._patience = timeout
        self._except_for = except_for
        self._model = Model()
        self._streams: tuple[ByteStream, ByteStream] | None = None
        self._lines: list[str] = []
        self._begun: list[tuple[Operation, int]] = []
        self._large = LARGE_ANYWAY
        self._keeps_little = False
        self._left = STEPS_AFTER_CLOSE
        self._shrinking = 0
        self._hung = 0.0
        self._stopped = False

    # Called in the thread

    @property
    def stopped(self) -> bool:
        """Nothing more is wanted."""
        return self._stopped

    def begin(self) -> None:
        """Another sequence begins."""
        if self.failure is not None:
            self._shrinking += 1
            if self._shrinking > SHRINKING or self._hung > HANGING:
                return
        self._call(self._begin)

    def step(self, function: Callable[..., Coroutine[Any, Any, None]], *args: object) -> None:
        if self._streams is not None and self._left:
            if all(self._model.closed):
                self._left -= 1
            self._call(self._guarded, functools.partial(function, self, *args))

    def end(self) -> None:
        """The sequence is over: all that was sent arrives, and both sides close."""
        if self._streams is not None:
            try:
                self._call(self._guarded, self.finish)
            finally:
                self._call(self.close)

    def _call(self, function: Callable[..., Coroutine[Any, Any, bool | None]], *args: Any) -> None:
        failed: bool | None = None
        if not self._stopped:
            try:
                failed = from_thread.run(function, *args)
            except BaseException:
                if not self._stopped:
                    raise
        if self._stopped:
            raise _Stopped
        if failed:
            raise _Failed

    # Called in the event loop

    async def watch(self) -> None:
        """Tell the thread when all of this is cancelled; what it waits for ends then."""
        try:
            await sleep_forever()
        finally:
            self._stopped = True

    async def measure(self) -> None:
        """Find out how much fits between two streams. What fails here will fail later."""
        await self._measure()
        if self._large > MUCH:
            self._keeps_little = True
            await self._measure()

    async def _measure(self) -> None:
        pair = await self._make()
        if pair is None:
            return
        async with tasks() as group:
            fill = functools.partial(self._fill, pair)
            filling = await Waiting.begin(group, fill, "finding out what fits")
            with move_on_after(self._patience):
                await filling.end()
            await self.close()

    async def _fill(self, pair: tuple[ByteStream, ByteStream]) -> None:
        await stop_reading_ahead(pair)
        async with tasks() as group:
            size = 1
            while size < MORE_THAN_FITS:
                send = functools.partial(pair[0].send, bytes(size))
                sending = await Waiting.begin(group, send, "send()")
                size *= 2
                if not sending.over:
                    # All that was sent is less than `size`. A kernel's buffers may still grow.
                    self._large = min(4 * size, MORE_THAN_FITS)
                    await aclose_forcefully(pair[0])
                    return

    async def close(self) -> None:
        """Close what is open, whatever it is at."""
        for operation in self._model.under_way:
            operation.scope.cancel()
        streams, self._streams = self._streams, None
        for stream in streams or ():
            with suppress(Exception):
                await aclose_forcefully(stream)
        await settle(turns=MANY_TURNS)

    async def _make(self) -> tuple[ByteStream, ByteStream] | None:
        with move_on_after(self._patience):
            try:
                self._streams = await made_pair(self._make_pair, "make_pair")
            except Exception as exc:
                self.error = exc
        if self._streams is None:
            self._stopped = True
            if self.error is None:
                seen = f"after {self._patience:g} s it still waits"
                self.failure = PromiseBroken("make_pair() comes to an end", seen)
        elif self._keeps_little:
            for stream in self._streams:
                _keep_little(stream)
        return self._streams

    async def _begin(self) -> None:
        with CancelScope(shield=True):
            await self._make()
        self._model = Model()
        self._lines, self._begun, self._left = [], [], STEPS_AFTER_CLOSE

    async def _guarded(self, function: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Do a step; tell whether it has broken a promise."""
        try:
            with CancelScope(shield=True):
                await function()
        except PromiseBroken as exc:
            if self._stopped:
                return False
            if self._is_excused(exc):
                await self.close()  # what comes after a broken promise is no surprise
                return False
            self._note_outcomes()
            exc.steps = tuple(self._lines)
            if self.failure is None or len(exc.steps) <= len(self.failure.steps):
                self.failure = exc
            await self.close()
            return True
        return False

    # The steps

    async def send(self, side: int, size: int) -> None:
        await self._do(Send(self._model.rather(side, Send), self._size(size)))

    async def receive(self, side: int, max_bytes: int) -> None:
        await self._do(Receive(self._model.rather(side, Receive), max_bytes))

    async def cancel(self, side: int, kind: type[Operation]) -> None:
        """Cancel what is blocked; nothing if that is nothing."""
        for operation in list(self._model.under_way):
            if operation.side == side and isinstance(operation, kind):
                self._lines.append(f"cancel {operation}")
                await self._cancel(operation)
        await self._quiet()

    async def receive_and_cancel(self, side: int, max_bytes: int, turns: int) -> None:
        await self._do(Receive(self._model.rather(side, Receive), max_bytes), turns)

    async def send_and_cancel(self, side: int, size: int, turns: int) -> None:
        await self._do(Send(self._model.rather(side, Send), self._size(size)), turns)

    async def cancel_as_bytes_arrive(
        self, side: int, max_bytes: int, size: int, turns: int
    ) -> None:
        """A ``receive`` that is blocked is cancelled just when the peer sends."""
        side = self._model.rather(side, Receive)
        receive = Receive(side, max_bytes)
        await self._do(receive)
        if receive.over:
            return
        self._begin_operation(Send(1 - side, self._size(size)))
        for _ in range(turns):
            await checkpoint()
        self._lines.append(f"cancel {receive} {_turns(turns)} later")
        await self._cancel(receive)
        await self._quiet()

    async def receive_all(self, side: int) -> None:
        """Receive until nothing more has to come."""
        while self._model.has_something_for(side):
            await self._do(Receive(side, PIECE))

    async def send_eof(self, side: int) -> None:
        await self._do_if_it_can(SendEof(side))  # it may wait for a `send`

    async def aclose(self, side: int, forcefully: bool) -> None:
        await self._do_if_it_can(Aclose(side, forcefully=forcefully))  # it may wait for the peer

    async def finish(self) -> None:
        for side in (0, 1):
            await self.receive_all(side)
        for side in (0, 1):
            await self._do(Aclose(side, forcefully=False))  # the first may wait for the second
        for operation in self._model.under_way:
            if isinstance(operation, Aclose):
                check = cancelled_operations_do_not_keep_it_open
                raise self._hangs(check, f"{operation} returns, now that both sides close")
        for side in (0, 1):
            await self._do(Receive(side, 1))
            await self._do(Send(side, 1))

    # What steps are made of

    def _size(self, size: int) -> int:
        return self._large if size == LARGE else size

    async def _do(self, operation: Operation, turns: int | None = None) -> None:
        """Begin it and cancel it ``turns`` turns later, or do not, and see what comes of it."""
        self._begin_operation(operation)
        if turns is not None:
            for _ in range(turns):
                await checkpoint()
            if not operation.over:
                self._lines[-1] += f", cancelled after {_turns(turns)}"
                await self._cancel(operation)
        await self._quiet()

    async def _do_if_it_can(self, operation: Operation) -> None:
        """Begin it, and cancel it if it waits."""
        await self._do(operation)
        if not operation.over:
            self._lines.append(f"cancel {operation}")
            await self._cancel(operation)
            await self._quiet()

    def _begin_operation(self, operation: Operation) -> None:
        assert self.group is not None
        self._model.begin(operation)
        self._begun.append((operation, len(self._lines)))
        self._lines.append(str(operation))
        self.group.start_soon(self._perform, operation, name=str(operation))

    async def _perform(self, operation: Operation) -> None:
        assert self._streams is not None
        stream = self._streams[operation.side]
        try:
            with operation.scope:
                operation.result = await operation.call(stream)
            operation.cancelled = operation.scope.cancelled_caught
        except get_cancelled_exc_class():
            raise
        except Exception as exc:
            operation.error = exc
        finally:
            operation.ended.set()

    async def _cancel(self, operation: Operation) -> None:
        operation.scope.cancel()
        if not await self._ends(operation):
            raise self._hangs(a_deadline_that_is_now, f"{operation} ends when it is cancelled")

    async def _ends(self, operation: Operation) -> bool:
        """Whether it does, within the time that there is."""
        blocked = await settle(turns=MANY_TURNS)
        if blocked and not operation.over:  # no time passes, in virtual time, for what never blocks
            since = time.perf_counter()
            with move_on_after(self._patience):
                await operation.ended.wait()
            self._hung += time.perf_counter() - since
        if not operation.over:
            self._patience = min(self._patience, SOON)
        return operation.over

    async def _quiet(self) -> None:
        """Wait until all is blocked, and judge what is over; what may not wait has to be."""
        waits = True
        while waits:
            if not await settle(turns=MANY_TURNS):
                doing = " and ".join(str(each) for each in self._model.under_way if not each.over)
                broken = PromiseBroken(
                    f"{doing or 'what is over'} waits, or ends",
                    f"after {MANY_TURNS} turns of the event loop something still runs",
                )
                broken.check = what_waits_does_not_keep_the_loop_busy
                raise broken
            waits = False
            for kind in (Send, SendEof, Aclose, Receive):
                for operation in list(self._model.under_way):
                    if isinstance(operation, kind) and operation.over:
                        self._model.judge(operation)
            for operation in list(self._model.under_way):
                broken_if_it_hangs = self._model.has_to_end(operation)
                if broken_if_it_hangs is not None:
                    # What is known to be broken may well hang, each time.
                    if self._is_excused(broken_if_it_hangs) or not await self._ends(operation):
                        raise broken_if_it_hangs
                    waits = True
        self._note_outcomes()

    def _note_outcomes(self) -> None:
        """Write down what has become of the operations."""
        still: list[tuple[Operation, int]] = []
        for operation, line in self._begun:
            if line < 0:
                if operation.over:
                    self._lines.append(f"  {operation} -> {operation.outcome}")
                else:
                    still.append((operation, line))
            else:
                self._lines[line] += f" -> {operation.outcome}"
                if not operation.over:
                    still.append((operation, -1))
        self._begun = still

    def _is_excused(self, broken: PromiseBroken) -> bool:
        return broken.check is not None and broken.check.name in self._except_for

    def _hangs(self, check: PairCheck[ByteStream], expected: str) -> PromiseBroken:
        broken = PromiseBroken(expected, "it still waits")
        broken.check = check
        return broken


def _keep_little(stream: ByteStream) -> None:
    """Let the kernel keep little for a socket, so that little need be sent to fill it."""
    with suppress(TypedAttributeLookupError, OSError, AttributeError, NotImplementedError):
        raw_socket = stream.extra(SocketAttribute.raw_socket)
        raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER // 2)
        raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BUFFER // 2)


def _turns(number: int) -> str:
    return f"{number} turn{'s'[: number != 1]}"


def _machine(
    runner: Runner, seed: int | str, operations: int, examples: int, half_close: bool
) -> Callable[[], None]:
    """A function that runs Hypothesis's state machine, in a thread."""
    try:
        import hypothesis
        from hypothesis import HealthCheck, Phase, Verbosity, settings
        from hypothesis import strategies as st
        from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

        from . import seed_alone
    except ImportError:
        raise RuntimeError(
            "seed= and operations= need the package hypothesis, which is not installed: "
            'pip install "anyio-harness[fuzz]"'
        ) from None

    every_check: Any = HealthCheck
    sides = st.sampled_from((0, 1))
    sizes = st.sampled_from((1, 2, 10, 0, 1000, LARGE))
    most = st.sampled_from((1, 2, 10, 1000, PIECE, 0))
    turns = st.sampled_from(range(7))

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            runner.begin()

        @rule(side=sides, size=sizes)
        def send(self, side: int, size: int) -> None:
            runner.step(Runner.send, side, size)

        @rule(side=sides, max_bytes=most)
        def receive(self, side: int, max_bytes: int) -> None:
            runner.step(Runner.receive, side, max_bytes)

        @rule(side=sides)
        def receive_all(self, side: int) -> None:
            runner.step(Runner.receive_all, side)

        @rule(side=sides, kind=st.sampled_from((Receive, Send)))
        def cancel(self, side: int, kind: type[Operation]) -> None:
            runner.step(Runner.cancel, side, kind)

        @rule(side=sides, max_bytes=most, turns=turns)
        def receive_and_cancel(self, side: int, max_bytes: int, turns: int) -> None:
            runner.step(Runner.receive_and_cancel, side, max_bytes, turns)

        @rule(side=sides, size=sizes, turns=turns)
        def send_and_cancel(self, side: int, size: int, turns: int) -> None:
            runner.step(Runner.send_and_cancel, side, size, turns)

        @rule(side=sides, max_bytes=most, size=sizes, turns=turns)
        def cancel_as_bytes_arrive(self, side: int, max_bytes: int, size: int, turns: int) -> None:
            runner.step(Runner.cancel_as_bytes_arrive, side, max_bytes, size, turns)

        @rule(side=sides, forcefully=st.booleans())
        def aclose(self, side: int, forcefully: bool) -> None:
            runner.step(Runner.aclose, side, forcefully)

        def teardown(self) -> None:
            runner.end()

    class HalfCloseable(Machine):
        @rule(side=sides)
        def send_eof(self, side: int) -> None:
            runner.step(Runner.send_eof, side)

    machine: type[RuleBasedStateMachine] = HalfCloseable if half_close else Machine
    chosen = settings(
        stateful_step_count=operations,
        database=None,
        deadline=None,
        derandomize=False,
        phases=(Phase.generate, Phase.shrink),
        backend=seed_alone.NAME,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(every_check),
        verbosity=Verbosity.quiet,
    )

    def run() -> None:
        for done in range(0, examples, BATCH):
            seeded: Any = hypothesis.seed(f"{seed} {done}")
            some = settings(chosen, max_examples=min(BATCH, examples - done))
            try:
                run_state_machine_as_test(seeded(machine), settings=some)
            except Exception:
                if runner.failure is None and not runner.stopped:
                    raise
                return

    return run
