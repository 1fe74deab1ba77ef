"""The failures that AnyIO's plugin alone loses or hangs on: one test each, and all told right.

They run in one process, so that what one of them leaves behind would disturb the next.
"""

from __future__ import annotations

import re

import pytest
from blackbox import RunPytest

TESTS = """
    import anyio, asyncio, pytest, socket, sys, threading, time

    kept = []
    on_trio = lambda: anyio.get_cancelled_exc_class().__module__.startswith("trio")
    not_on_trio = pytest.mark.harness(backends=[BACKEND] if BACKEND != "trio" else ["asyncio"])

    class Crash(Exception): ...

    async def crash(*arguments):
        raise Crash

    async def settle():
        for _ in range(20):
            await anyio.lowlevel.checkpoint()

    @pytest.fixture
    async def group(anyio_backend):
        async with anyio.create_task_group() as tasks:
            yield tasks

    @pytest.fixture
    async def outer(anyio_backend):
        yield
        print("torn down")

    pytestmark = [pytest.mark.harness(timeout=1.5), pytest.mark.usefixtures("outer")]

    async def test_handler_of_a_listener_in_a_fixtures_group(group):
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
        group.start_soon(listener.serve, crash)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with await anyio.connect_tcp("127.0.0.1", port), listener:
            await anyio.sleep_forever()

    async def test_child_just_after_the_body(group):
        group.start_soon(crash)

    async def test_child_that_sleeps_for_ever(group):
        group.start_soon(anyio.sleep_forever)

    async def test_leaked_task():
        if on_trio():
            import trio
            trio.lowlevel.spawn_system_task(anyio.sleep_forever)
        else:
            kept.append(asyncio.create_task(anyio.sleep_forever()))

    @not_on_trio
    async def test_crashed_task_that_somebody_holds():
        kept.append(asyncio.create_task(crash()))
        await settle()

    async def test_socket():
        kept.append(socket.create_server(("127.0.0.1", 0)))

    async def test_stream():
        kept.append(anyio.create_memory_object_stream(1))

    async def test_generator():
        async def numbers():
            yield 1

        kept.append(numbers())
        await kept[-1].__anext__()

    async def test_scope():
        kept.append(anyio.CancelScope())
        kept[-1].__enter__()

    async def test_thread():
        kept.append(threading.Event())
        threading.Thread(target=kept[-1].wait, daemon=True).start()

    @not_on_trio
    async def test_start_server():
        kept.append(await asyncio.start_server(crash, "127.0.0.1", 0))

    async def test_hang():
        await anyio.sleep_forever()

    async def test_blocked():
        time.sleep(1000)

    def test_next():
        pass
"""

#: The end of a test's name -> what its failure says.
FAILURES = {
    "test_handler_of_a_listener_in_a_fixtures_group": "Crash",
    "test_child_just_after_the_body": "Crash",
    "test_child_that_sleeps_for_ever": "the teardown did not end within 1.5 s",
    "test_leaked_task": "leaked task: .*sleep_forever",
    "test_crashed_task_that_somebody_holds": "leaked task exception: .*Crash",
    "test_socket": "leaked socket: AF_INET SOCK_STREAM 127.0.0.1:.* listening",
    "test_stream": "leaked memory stream: ",
    "test_generator": "leaked async generator: .*numbers",
    "test_scope": "a cancel scope or task group was entered and never left",
    "test_thread": "leaked thread: ",
    "test_start_server": "leaked socket: AF_INET SOCK_STREAM 127.0.0.1:.* listening",
    "test_hang": "the body did not end within 1.5 s",
    "test_blocked": "the body did not end within 1.5 s",
}


def test_each_failure_is_the_failure_of_its_test(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makeini("[pytest]\nharness_cancel_timeout = 0.2")
    pytester.makepyfile(test_it=TESTS.replace("BACKEND", repr(backend)))
    result = run_pytest(f"--harness-backends={backend}", "-s", "-W", "error")
    output = result.stdout.str()
    reports = {
        match[1]: match[2]
        for match in re.finditer(
            r"^_+ (?:ERROR at \w+ of )?(test_\w+)\[\w+\] _+\n(.*?)(?=^_+ |^=+ )",
            output,
            re.MULTILINE | re.DOTALL,
        )
    }
    assert set(reports) == set(FAILURES), output
    for name, said in FAILURES.items():
        assert re.search(said, reports[name]), (name, reports[name])
        assert "CancelledError" not in reports[name]
    assert output.count("torn down") == len(FAILURES) + 1  # and after the next test
    assert "Task was destroyed" not in output + result.stderr.str()


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit"])
def test_what_ends_the_run_tears_down_first(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, error: str
) -> None:
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.fixture
        async def outer(anyio_backend):
            yield
            print("torn down")

        @pytest.mark.harness
        async def test_it(outer):
            raise {error}
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "-s", "-W", "error")
    result.stdout.fnmatch_lines(["*torn down*"])
    assert result.ret != pytest.ExitCode.OK
