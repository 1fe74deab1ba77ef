"""AnyIO's runner, held until after a test's last fixture, whatever becomes of it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable

import pytest
from anyio import pytest_plugin as anyio_plugin
from blackbox import RunPytest

from harness.backends import BUILT_IN
from harness.pytest_plugin import guard, lease
from harness.pytest_plugin.lease import Lease


def test_a_runner_that_cannot_be_closed_is_not_the_next_ones(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_backend = BUILT_IN[backend]

    def take() -> Lease:
        return Lease(of_backend.library, dict(of_backend.options), catch_loop_exceptions=True)

    taken = take()
    runner = anyio_plugin._current_runner
    assert runner is not None

    def fail(*exc_info: object) -> None:
        raise OSError("cannot be closed")

    # The context manager's exit is looked up on the class, when it is entered.
    stack = anyio_plugin._runner_stack
    assert stack is not None
    stack.callback(fail)
    with pytest.raises(OSError, match="cannot be closed"):
        taken.give_back()
    assert anyio_plugin._current_runner is None
    take().give_back()


def test_a_loop_goes_with_its_test(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    """And does not wait for the garbage collector, as they would by the hundred."""
    if backend == "trio":
        pytest.skip("trio has no object that is its event loop")
    pytester.makepyfile(
        """
        import asyncio, gc, pytest, weakref

        gc.disable()
        loops = []

        @pytest.mark.harness
        async def test_of_the_harness():
            loops.append(weakref.ref(asyncio.get_running_loop()))

        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", [BACKEND])
        async def test_of_anyios_plugin(anyio_backend):
            loops.append(weakref.ref(asyncio.get_running_loop()))

        def test_they_are_gone():
            assert [loop() for loop in loops] == [None, None]
        """.replace("BACKEND", repr(BUILT_IN[backend].anyio_backend))
    )
    run_pytest(f"--harness-backends={backend}").assert_outcomes(passed=3)


@pytest.mark.parametrize(
    "last",
    [
        "async def test_the_last(harness, connection)",
        "def test_the_last()",  # without a lease: the runner is the fixture's alone
    ],
    ids=["ours", "sync"],
)
def test_a_connection_that_a_module_leaves_open(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, last: str
) -> None:
    """With warnings as errors, uvloop's own ``close()`` does not return."""
    if backend != "uvloop":
        pytest.skip("only uvloop's loop looks at what is open")
    pytester.makepyfile(
        """
        import asyncio, socket, pytest

        @pytest.fixture(scope="module")
        async def connection(pytestconfig):
            ours, theirs = socket.socketpair()
            pytestconfig.add_cleanup(theirs.close)
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            yield transport

        async def test_it(harness, connection):
            pass

        LAST:
            pass
        """.replace("LAST", last)
    )
    result = run_pytest(
        "-W", "error", f"--harness-backends={backend}", "--harness-transports=memory"
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["E *ResourceWarning: unclosed resource <UnixTransport *"])


def test_the_event_loop_outlives_the_fixtures(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    """A sync fixture that is torn down last can still look at what the loop held."""
    pytester.makepyfile(
        """
        import anyio, pytest

        @pytest.fixture
        def outermost():
            kept = []
            yield kept
            assert not kept[0].is_set()
            kept[0].set()

        async def test_it(outermost, harness):
            outermost.append(anyio.Event())
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory")
    result.assert_outcomes(passed=1)


SPECIAL = """
    import anyio, asyncio, os, pytest, signal

    @pytest.fixture(scope="module")
    async def shared(anyio_backend):
        yield
        print("shared is torn down")

    def raise_it(*arguments):
        RAISE

    async def raise_it_in_a_task(*arguments):
        raise_it()

    class Protocol(asyncio.Protocol):
        def data_received(self, data):
            raise_it()

    async def in_a_task():
        asyncio.create_task(raise_it_in_a_task())

    async def in_a_callback():
        asyncio.get_running_loop().call_soon(raise_it)

    async def in_a_done_callback():
        future = asyncio.get_running_loop().create_future()
        future.add_done_callback(raise_it)
        future.set_result(None)

    async def in_a_protocol():
        server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            async with await anyio.connect_tcp("127.0.0.1", port) as client:
                await client.send(b"x")
                await anyio.sleep_forever()

    async def in_a_signal_handler():
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, raise_it)
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            await anyio.sleep_forever()
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)

    @pytest.mark.harness
    @pytest.mark.parametrize("function", FUNCTIONS)
    async def test_it(shared, function):
        await globals()[function]()
        await anyio.sleep_forever()

    def test_next():
        pass
"""

IN_THE_LOOP = (
    "in_a_task",
    "in_a_callback",
    "in_a_done_callback",
    "in_a_protocol",
    "in_a_signal_handler",
)


def _raised_in(functions: tuple[str, ...], error: str) -> str:
    return SPECIAL.replace("RAISE", error).replace("FUNCTIONS", repr(functions))


@pytest.mark.skipif(sys.platform == "win32", reason="signal handlers of POSIX event loops")
@pytest.mark.parametrize("outcome", ["fail", "skip", "xfail"])
def test_pytests_outcomes_in_the_event_loop_are_those_of_the_test(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, outcome: str
) -> None:
    if backend == "trio":
        pytest.skip("asyncio's tasks and callbacks")
    pytester.makepyfile(_raised_in(IN_THE_LOOP, f"pytest.{outcome}('because of this')"))
    result = run_pytest(f"--harness-backends={backend}", "-s", "-rsxX", "-W", "error")
    outcomes = {"fail": "failed", "skip": "skipped", "xfail": "xfailed"}
    result.assert_outcomes(passed=1, **{outcomes[outcome]: len(IN_THE_LOOP)})
    result.stdout.fnmatch_lines_random(["*because of this*", "*shared is torn down*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stderr.no_fnmatch_line("*")


@pytest.mark.parametrize("where", ["in_a_task", "in_a_callback"])
def test_exit_in_the_event_loop_ends_the_run(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, where: str
) -> None:
    if backend == "trio":
        pytest.skip("asyncio's tasks and callbacks")
    pytester.makepyfile(_raised_in((where,), "pytest.exit('enough', returncode=7)"))
    result = run_pytest(f"--harness-backends={backend}", "-s")
    assert result.ret == 7
    result.stdout.fnmatch_lines(["*shared is torn down*", "*Exit: enough*"])


def test_an_outcome_in_a_task_that_somebody_holds_is_told(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    if backend == "trio":
        pytest.skip("asyncio's tasks")
    pytester.makepyfile(
        """
        import asyncio, pytest

        kept = []

        async def check():
            pytest.fail("because of this")

        async def test_it(harness):
            kept.append(asyncio.create_task(check()))
            await harness.settle()
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*leaked task exception: *because of this*"])


def test_only_a_signal_handler_ends_the_loop_between_two_things_that_it_runs() -> None:
    assert getattr(guard, "Guard").__module__ == lease.signal_handlers  # noqa: B009
    loop = asyncio.new_event_loop()

    def end() -> None:
        raise KeyboardInterrupt

    try:
        loop.call_soon(end)
        with pytest.raises(KeyboardInterrupt) as caught:
            loop.run_forever()
        assert not lease._is_of_machinery(caught.value)
        traceback = caught.value.__traceback__
        assert traceback is not None
        assert traceback.tb_frame.f_code is end.__code__
        loop.call_soon(signal.default_int_handler, signal.SIGINT, None)
        with pytest.raises(KeyboardInterrupt) as caught:
            loop.run_forever()
        assert lease._is_of_machinery(caught.value)
    finally:
        loop.close()


def test_callbacks_of_trio_that_raise_end_its_whole_run_and_are_caught_if_held() -> None:
    """When this fails in its first half, trio has got a handler, and ours may go."""
    trio = pytest.importorskip("trio")
    callback = lease.CaughtCallback(_raise, catch=False)
    assert callback == lease.CaughtCallback(_raise, catch=False)
    assert len({callback, lease.CaughtCallback(_raise, catch=False)}) == 1

    async def main(function: Callable[[], None]) -> str:
        trio.lowlevel.current_trio_token().run_sync_soon(function, idempotent=True)
        await trio.sleep(0)
        await trio.sleep(0)
        return "went on"

    with pytest.raises(trio.TrioInternalError):
        trio.run(main, _raise)
    assert trio.run(main, callback) == "went on"


def _raise() -> None:
    raise LookupError("in a callback")


def test_trios_callbacks_are_caught_in_held_runs_only(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytest.importorskip("trio")
    pytester.makepyfile(
        """
        import anyio, pytest, trio

        original = trio.lowlevel.TrioToken.run_sync_soon

        def callback(text):
            raise LookupError(text)

        async def other_run():
            trio.lowlevel.current_trio_token().run_sync_soon(callback, "of another run")
            await trio.sleep_forever()

        async def test_other_run(harness):
            assert trio.lowlevel.TrioToken.run_sync_soon is not original
            with pytest.raises(trio.TrioInternalError):
                await anyio.to_thread.run_sync(trio.run, other_run)

        async def test_from_a_thread(harness):
            token = trio.lowlevel.current_trio_token()
            await anyio.to_thread.run_sync(token.run_sync_soon, callback, "of this run")
            await anyio.sleep_forever()

        async def test_outcome(harness):
            token = trio.lowlevel.current_trio_token()
            token.run_sync_soon(pytest.xfail, "of this run")
            await anyio.sleep_forever()

        def test_no_held_run():
            with pytest.raises(trio.TrioInternalError):
                trio.run(other_run)
        """
    )
    result = run_pytest("--harness-backends=trio", "--harness-transports=memory")
    result.assert_outcomes(passed=2, failed=1, xfailed=1)
    result.stdout.fnmatch_lines(["E *LookupError: of this run"])
