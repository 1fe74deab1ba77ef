"""What a test leaves behind fails it, and only it."""

from __future__ import annotations

import re

import pytest
from blackbox import RunPytest

LEAKS = """
    import anyio, asyncio, gc, pytest, socket, subprocess, sys, threading
    from harness import open_harness

    kept = []

    def spawn(func):
        if "trio" in sys.modules and anyio.get_cancelled_exc_class().__module__.startswith("trio"):
            import trio
            trio.lowlevel.spawn_system_task(func)
        else:
            kept.append(asyncio.ensure_future(func()))

    def listen():
        kept.append(socket.create_server(("127.0.0.1", 0)))
"""


def run(run_pytest: RunPytest, backend: str, *arguments: str) -> pytest.RunResult:
    return run_pytest(
        f"--harness-backends={backend}", "--harness-transports=memory", "-rA", *arguments
    )


def test_a_leak_is_the_error_of_its_own_test(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        test_it=LEAKS
        + """
    async def test_before(harness): ...

    async def test_task(harness):
        spawn(anyio.sleep_forever)

    async def test_socket(harness):
        listen()

    async def test_stream(harness):
        kept.append(anyio.create_memory_object_stream(1))

    async def test_thread(harness):
        stop = threading.Event()
        kept.append(stop)
        threading.Thread(target=stop.wait, name="waits", daemon=True).start()

    async def test_process(harness):
        kept.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]))

    async def test_coroutine(harness):
        anyio.sleep(1)

    async def test_after(harness): ...

    def test_the_process_is_gone():
        assert kept.pop().wait() != 0
        kept[-1].set()
    """
    )
    result = run(run_pytest, backend)
    result.assert_outcomes(passed=9, errors=6)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_task*",
            "leaked task, made at test_it.py:*",
            "leaked task: *",
            "*created at test_it.py:* in spawn: *",
            '(if it is meant to: @pytest.mark.harness(allow_leaks=[[]"task"[]]))',
            "*ERROR at teardown of test_socket*",
            "leaked socket, made at test_it.py:*",
            "leaked socket: AF_INET SOCK_STREAM 127.0.0.1:* listening, descriptor *",
            "*created at test_it.py:* in listen: kept.append(socket.create_server*",
            "leaked memory stream: *",
            "leaked thread: *waits*",
            "leaked process: *",
            "leaked coroutine: sleep() was never awaited",
        ]
    )


def test_a_clean_test_is_not_looked_at_in_its_event_loop(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        test_it=LEAKS
        + """
    from harness.leaks import LeakCheck

    find, entered = LeakCheck.find, []

    async def recorded(check, **arguments):
        entered.append(find)
        return await find(check, **arguments)

    LeakCheck.find = recorded

    async def echo(stream):
        async with stream:
            async for data in stream:
                await stream.send(data)

    async def test_clean(harness):
        server = await harness.serve(echo)
        async with await server.connect() as client:
            await client.send(b"x")
            assert await client.receive() == b"x"

    async def test_also_clean(harness): ...

    async def test_not_clean(harness):
        listen()

    def test_entered():
        assert len(entered) == EXPECTED
    """
    )
    find = pytester.path / "test_it.py"
    text = find.read_text()
    find.write_text(text.replace("EXPECTED", "1"))
    run(run_pytest, backend, "-p", "no:randomly").assert_outcomes(passed=4, errors=1)
    find.write_text(text.replace("EXPECTED", "0"))
    only = run(run_pytest, backend, "-p", "no:randomly", "-k", "not not_clean")
    only.assert_outcomes(passed=3, deselected=1)


def test_what_is_still_to_run_is_waited_for(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    """After the last fixture, two turns from now, a task is made."""
    pytester.makepyfile(
        test_it=LEAKS
        + """
    @pytest.fixture
    async def late(anyio_backend):
        yield
        if anyio_backend == "trio":
            import trio
            soon = trio.lowlevel.current_trio_token().run_sync_soon
        else:
            soon = asyncio.get_running_loop().call_soon
        soon(soon, spawn, anyio.sleep_forever)

    async def test_late(late, harness): ...
    """
    )
    result = run(run_pytest, backend)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["leaked task, made at test_it.py:*"])


def test_what_a_socket_brings_after_the_last_step_is_of_that_test(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    """A fixture that is not async ends a connection, and the event loop is not run after it."""
    if backend == "trio":
        pytest.skip("asyncio's")
    pytester.makepyfile(
        test_it="""
    import asyncio, pytest, socket

    class Protocol(asyncio.Protocol):
        def connection_lost(self, error):
            raise ValueError("of the server")

    @pytest.fixture(scope="module")
    async def port(anyio_backend):
        server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[1]
        server.close()

    @pytest.fixture
    def client(port):
        with socket.create_connection(("127.0.0.1", port)) as client:
            yield client

    @pytest.mark.harness
    async def test_one(client, harness):
        await harness.settle()

    @pytest.mark.harness
    async def test_two(port, harness):
        await harness.settle()
    """
    )
    result = run(run_pytest, backend, "-p", "no:randomly")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["ERROR test_it.py::test_one*ValueError: of the server"])


def test_what_a_loop_of_the_projects_own_has_opened_in_c_is_its_own(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makeconftest(
        """
        import asyncio, ctypes, os, socket

        class Loop(asyncio.SelectorEventLoop):
            def __init__(self):
                super().__init__()
                self.pair = (ctypes.c_int * 2)()
                ctypes.CDLL(None).socketpair(socket.AF_UNIX, socket.SOCK_STREAM, 0, self.pair)

            def close(self):
                if not self.is_closed():
                    for descriptor in self.pair:
                        os.close(descriptor)
                super().close()

        def pytest_harness_backends(config):
            return {"own": ("asyncio", {"loop_factory": Loop})}
        """
    )
    pytester.makepyfile(test_it="async def test_it(harness): ...")
    run(run_pytest, "own").assert_outcomes(passed=1)


def test_it_can_be_a_warning_or_nothing_or_allowed(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        test_it=LEAKS
        + """
    async def test_by_ini(harness):
        listen()

    @pytest.mark.harness(leaks="warn")
    async def test_warned(harness):
        listen()

    @pytest.mark.harness(leaks="off")
    async def test_off(harness):
        listen()

    @pytest.mark.harness(leaks="error", allow_leaks=["socket"])
    async def test_kind(harness):
        listen()

    @pytest.mark.harness(leaks="error", allow_leaks=["socket:*127.0.0.1*listening*"])
    async def test_name(harness):
        listen()

    @pytest.mark.harness(leaks="error", allow_leaks=["task", "socket:*10.0.0.1*"])
    async def test_other_name(harness):
        listen()
    """
    )
    result = run(run_pytest, backend, "-o", "harness_leaks=warn")
    result.assert_outcomes(passed=6, errors=1, warnings=2)
    result.stdout.fnmatch_lines(["ERROR test_it.py::test_other_name*"])
    result.stdout.fnmatch_lines(["*LeakWarning: test_it.py::test_by_ini* left behind:"])


@pytest.mark.parametrize("every", ["", ":*"])
def test_what_is_allowed_is_not_noticed_in_a_later_test(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, every: str
) -> None:
    """A kind alone is watched and put away like one that is allowed by a pattern."""
    pytester.makepyfile(
        test_it=LEAKS
        + f"    EVERY = {every!r}"
        + """
    @pytest.fixture(autouse=True)
    def collected():
        yield
        gc.collect()  # what is a cycle goes in its own test, or it is not known in which

    @pytest.mark.harness(allow_leaks=["coroutine" + EVERY])
    async def test_coroutine(harness):
        own = [anyio.sleep(1)]
        own.append(own)

    @pytest.mark.harness(allow_leaks=["memory stream" + EVERY])
    async def test_memory_stream(harness):
        own = [anyio.create_memory_object_stream(1)]
        own.append(own)

    @pytest.mark.harness(allow_leaks=["task" + EVERY])
    async def test_task(harness):
        spawn(anyio.sleep_forever)
        await harness.settle()

    @pytest.mark.harness(allow_leaks=["process" + EVERY])
    async def test_process(harness):
        kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))

    async def test_innocent(harness):
        gc.collect()
        await harness.settle()

    def test_the_process_was_killed():
        process = kept.pop()
        process.communicate()
        assert process.returncode < 0
    """
    )
    result = run(run_pytest, backend, "-W", "error")
    result.assert_outcomes(passed=6)


def test_what_a_wider_fixture_holds_is_no_leak(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        test_it=LEAKS
        + """
    @pytest.fixture(scope="module")
    def listening():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield listener

    @pytest.fixture(scope="module")
    async def server(anyio_backend, listening):
        async def answer(stream):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.sleep_forever)
                async for chunk in stream:
                    await stream.send(chunk)
                tasks.cancel_scope.cancel()

        async with open_harness(transport="tcp") as opened:
            yield await opened.serve(answer)

    clients = []

    async def test_first(server, harness):
        client = await harness.connect(server)
        await client.send(b"x")
        assert await client.receive() == b"x"

    @pytest.mark.harness(allow_leaks=["socket"])
    async def test_left_open(server, harness):
        clients.append(await anyio.connect_tcp(server.host, server.port))
        await server.wait_connections(1)

    async def test_second(server, harness):
        assert len(server.connections) == 1
    """
    )
    result = run(run_pytest, backend)
    result.assert_outcomes(passed=3)


def test_a_test_that_fails_has_one_cause(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    """What it leaves behind is told beside, and does not disturb the next one."""
    pytester.makepyfile(
        test_it=LEAKS
        + """
    async def test_fails(harness):
        spawn(anyio.sleep_forever)
        assert 1 == 2

    async def test_next(harness): ...
    """
    )
    result = run(run_pytest, backend)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["E *assert 1 == 2", "*Captured leaks teardown*", "leaked task:*"])


def test_a_test_that_fails_is_told_what_a_module_keeps(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    """And not what only its traceback refers to, which it would have closed in its next line."""
    pytester.makepyfile(
        test_it=LEAKS
        + """
    class Client:
        current = None

    async def numbers():
        yield 1
        yield 2

    async def test_socket(harness):
        listen()
        assert 1 == 2

    async def test_stream(harness):
        Client.current = {"streams": anyio.create_memory_object_stream(1)}
        assert 1 == 2

    async def test_file(harness):
        kept.append(await anyio.open_file(__file__))
        assert 1 == 2

    async def test_generator(harness):
        kept.append(numbers())
        await kept[-1].__anext__()
        assert 1 == 2

    async def test_connection(harness):
        async def handler(stream):
            await stream.receive()

        server = await harness.serve(handler, transport="tcp")
        Client.current = await anyio.connect_tcp(server.host, server.port)
        await server.wait_connections(1)
        assert 1 == 2

    async def test_of_the_traceback(harness):
        listener = socket.create_server(("127.0.0.1", 0))
        client = await anyio.connect_tcp(*listener.getsockname())
        streams = anyio.create_memory_object_stream(1)
        file = open(__file__)
        generator = numbers()
        await generator.__anext__()
        assert 1 == 2
        listener.close()
    """
    )
    result = run(run_pytest, backend)
    result.assert_outcomes(failed=6)
    reports = re.split(r"^_+ test_(\w+)\[.*\] _+$", result.stdout.str(), flags=re.MULTILINE)
    kinds = {
        name: re.findall(r"^leaked ([\w ]+): ", report, re.MULTILINE)
        for name, report in zip(reports[1::2], reports[2::2], strict=True)
    }
    assert kinds == {
        "socket": ["socket"],
        "stream": ["memory stream", "memory stream"],
        "file": ["file"],
        "generator": ["async generator"],
        "connection": ["socket"],
        "of_the_traceback": [],
    }


FORGOTTEN = """
    import anyio, gc, pytest

    async def echo(stream): ...

    async def work(): ...
"""


def test_a_failure_names_the_coroutines_that_it_keeps(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        test_it=FORGOTTEN
        + """
    @pytest.fixture
    async def forgetful(harness):
        server = harness.serve(echo)
        return server.address

    async def test_in_a_local(harness):
        server = harness.serve(echo)  # in a local
        await server.connect()

    async def test_in_the_exception(harness):
        await harness.serve(echo).connect()  # in the exception

    async def test_in_a_closure(harness):
        server = harness.serve(echo)  # in a closure

        async def connect():
            await server.connect()

        async with anyio.create_task_group() as group:
            group.start_soon(connect)

    async def test_in_a_fixture(forgetful): ...

    async def test_after(harness):
        gc.collect()

    def test_last():
        gc.collect()
    """
    )
    result = run(run_pytest, backend, "-W", "error")
    result.assert_outcomes(passed=2, failed=3, errors=1)
    for where in ("test_in_a_local", "test_in_the_exception", "test_in_a_closure", "forgetful"):
        said = rf".*\(Harness\.serve\(\) was never awaited: test_it\.py:\d+ in {where}: .*serve\("
        result.stdout.re_match_lines([said])
    assert "leaked coroutine" not in result.stdout.str()


def test_a_coroutine_that_is_still_wanted_is_not_closed(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        test_it=FORGOTTEN
        + """
    done = []

    async def clean_up():
        done.append(True)

    @pytest.fixture
    async def at_the_end():
        wanted = []
        yield wanted
        for each in wanted:
            await each

    async def test_fails(harness, at_the_end):
        later = clean_up()
        at_the_end.append(later)
        assert not later

    def test_after():
        assert done == [True]
    """
    )
    result = run(run_pytest, backend)
    result.assert_outcomes(passed=1, failed=1)
    assert "never awaited" not in result.stdout.str()


def test_what_a_failed_test_keeps_elsewhere_fails_no_other(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        test_it=FORGOTTEN
        + """
    kept = []

    def forget():
        kept.append(work())

    async def test_fails(harness):
        forget()
        assert False

    async def test_after(harness):
        kept.clear()

    async def test_its_own(harness):
        work()
    """
    )
    result = run(run_pytest, backend)
    result.assert_outcomes(passed=2, failed=1, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_its_own*"])


def test_what_another_test_has_kept_is_a_warning(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        test_it=FORGOTTEN
        + """
    kept = []

    async def test_keeps(harness):
        kept.append(work())

    async def test_after(harness):
        kept.clear()
    """
    )
    result = run(run_pytest, backend, "-W", "error")
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(
        [
            "*during test_it.py::test_after* has shown what another test left:",
            "*leaked coroutine: work() was never awaited",
            "*created at test_it.py:* in test_keeps: *",
        ]
    )


def test_other_tests_of_anyio_are_warned(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        test_it=LEAKS
        + """
    from harness.backends import BUILT_IN

    pytestmark = [
        pytest.mark.anyio,
        pytest.mark.parametrize("anyio_backend", [BUILT_IN[BACKEND].anyio_backend]),
    ]

    @pytest.fixture
    async def group(anyio_backend):
        async with anyio.create_task_group() as tasks:
            yield tasks
            tasks.cancel_scope.cancel()

    async def test_leaks(anyio_backend, group):
        listen()

    async def test_clean(anyio_backend, group):
        group.start_soon(anyio.sleep_forever)

    @pytest.mark.skip
    async def test_skipped(anyio_backend): ...
    """.replace("BACKEND", repr(backend))
    )
    result = run_pytest()
    result.assert_outcomes(passed=2, skipped=1, warnings=1)
    result.stdout.fnmatch_lines(
        ["*LeakWarning: test_it.py::test_leaks* left behind:", "* leaked socket: *"]
    )
    run_pytest("-o", "harness_leaks=off").assert_outcomes(passed=2, skipped=1)


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("leaks='loud'", "expected one of off, warn, error, not 'loud'"),
        ("allow_leaks='task'", "takes a list of kinds of leak, not 'task'"),
        ("allow_leaks=['sokcet']", "unknown kind of leak 'sokcet'; valid are task, *"),
    ],
)
def test_a_bad_argument(
    pytester: pytest.Pytester, run_pytest: RunPytest, mark: str, message: str
) -> None:
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.harness({mark})
        async def test_it(harness): ...
        """
    )
    run_pytest().stdout.fnmatch_lines([f"*test_it: @pytest.mark.harness(*=...)*{message}*"])
