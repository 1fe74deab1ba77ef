"""Which failure a test reports when a body, a fixture and a handler fail together."""

from __future__ import annotations

import re

import pytest
from blackbox import RunPytest

PRELUDE = """
    import anyio, pytest
    from anyio.streams.buffered import BufferedByteReceiveStream

    async def crashing(stream):
        await stream.receive()
        raise LookupError("the handler crashed")

    async def wants_more(stream):
        await BufferedByteReceiveStream(stream).receive_exactly(4)

    async def echo(stream):
        async for chunk in stream:
            await stream.send(chunk)
"""

TRANSPORTS = "--harness-transports=tcp,unix,tls,memory"


def test_a_failed_assertion_stays_the_failure_when_leaving_makes_a_handler_crash(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        PRELUDE
        + """
    @pytest.mark.xfail(raises=AssertionError, strict=True)
    async def test_it(harness):
        server = await harness.serve(wants_more)
        async with await server.connect() as client:
            await client.send(b"ab")
            await harness.settle()
            assert 1 == 2
    """
    )
    run_pytest(f"--harness-backends={backend}", TRANSPORTS).assert_outcomes(xfailed=4)


def test_a_crash_is_not_lost_when_the_body_skips(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        PRELUDE
        + """
    @pytest.mark.xfail(raises=LookupError, strict=True)
    async def test_it(harness):
        client = await (await harness.serve(crashing)).connect()
        await client.send(b"x")
        try:
            await client.receive()
        finally:
            pytest.skip("never mind")
    """
    )
    run_pytest(f"--harness-backends={backend}", TRANSPORTS).assert_outcomes(xfailed=4)


@pytest.mark.parametrize("when", ["setup", "teardown", "setup of a coroutine"])
def test_a_crash_ends_a_fixture_that_waits(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, when: str
) -> None:
    steps = {
        "setup": "await waiting(harness); yield",
        "teardown": "yield; await waiting(harness)",
        "setup of a coroutine": "await waiting(harness)",
    }
    pytester.makepyfile(
        PRELUDE
        + f"""
    async def waiting(harness):
        client = await (await harness.serve(crashing)).connect()
        await client.send(b"x")
        await anyio.sleep_forever()

    @pytest.fixture
    async def ready(harness):
        async with anyio.create_task_group() as held_over_the_yield:
            {steps[when]}

    async def test_it(ready): ...

    async def test_next(harness): ...
    """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=tcp,memory")
    result.assert_outcomes(passed=4 if when == "teardown" else 2, errors=2)
    result.stdout.fnmatch_lines(["E *LookupError: the handler crashed"])


def test_the_report_begins_in_the_users_code_and_says_where_the_test_was(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        handlers="""
        async def crashing(stream):
            await stream.receive()
            raise LookupError("the handler crashed")
        """,
        test_it="""
        from handlers import crashing

        async def test_it(harness):
            client = await (await harness.serve(crashing)).connect()
            await client.send(b"x")
            await client.receive(1)
        """,
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            '>*raise LookupError("the handler crashed")',
            "E * LookupError: the handler crashed",
            "E * (raised in connection 1 of server 'crashing')",
        ]
    )
    result.stdout.no_fnmatch_line("*anyio/pytest_plugin.py*")
    result.stdout.re_match_lines([r".*\(the test.*client\.receive\(1\)|.*EndOfStream"])


@pytest.mark.parametrize("where", ["body", "setup", "two teardowns"])
def test_several_failures_are_shown_without_the_frames_that_put_them_together(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, where: str
) -> None:
    crash = "group = harness.task_group; group.start_soon(one); group.start_soon(other)"
    pytester.makepyfile(
        test_it=f"""
        import pytest

        async def one():
            raise LookupError("one")

        async def other():
            raise OSError("other")

        @pytest.fixture
        async def crashing(harness):
            {crash if where == "setup" else "pass"}
            yield
            {"await one()" if where == "two teardowns" else ""}

        @pytest.fixture
        async def crashing_too(harness):
            yield
            {"await other()" if where == "two teardowns" else ""}

        async def test_it(crashing, crashing_too, harness):
            {crash if where == "body" else "pass"}
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory")
    header = f"_*test_it[[]{backend}-memory[]] _*"
    said = "errors while tearing down" if where == "two teardowns" else "several things went wrong"
    result.stdout.fnmatch_lines([header, f"  | *ExceptionGroup: {said} *"], consecutive=True)
    output = result.stdout.str()
    assert output.count('raise LookupError("one")') == output.count('raise OSError("other")') == 1
    for frame in ("unrun.py", "anyio", "harness/", "entries are hidden"):
        assert frame not in output.partition("ExceptionGroup")[2]


def test_a_group_of_the_users_own_ends_at_the_line_of_its_task_group(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        test_it="""
        import anyio

        async def crash():
            raise LookupError("in a child")

        async def test_it(harness):
            async with anyio.create_task_group() as group:
                group.start_soon(crash)
        """
    )
    cell = (f"--harness-backends={backend}", "--harness-transports=memory")
    result = run_pytest(*cell)
    result.stdout.fnmatch_lines(
        [
            "  + Exception Group Traceback (most recent call last):",
            '  |   File "*test_it.py", line 7, in test_it',
            "  |     async with anyio.create_task_group() as group:",
            "  | *ExceptionGroup: * (1 sub-exception)",
            "  +-+---------------- 1 ----------------",
            "    | Traceback (most recent call last):",
            '    |   File "*test_it.py", line 4, in crash',
        ]
    )
    result.stdout.no_fnmatch_line("*in __aexit__")
    run_pytest(*cell, "--full-trace").stdout.fnmatch_lines(["*in __aexit__"])


def test_background_clients_end_with_the_test(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        PRELUDE
        + """
    async def test_it(harness):
        server = await harness.serve(echo)

        async def reconnect_for_ever():
            while True:
                async with await server.connect() as client:
                    await client.send(b"x")
                    await client.receive()

        harness.task_group.start_soon(reconnect_for_ever)
        while server.accepted < 5:
            await anyio.lowlevel.checkpoint()
    """
    )
    run_pytest(f"--harness-backends={backend}", TRANSPORTS).assert_outcomes(passed=4)


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit"])
@pytest.mark.parametrize("where", ["body", "handler"])
def test_an_interrupt_in_the_code_tears_down_and_ends_the_run(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, where: str, error: str
) -> None:
    raising = f"raise {error}()"
    pytester.makepyfile(
        PRELUDE
        + f"""
    @pytest.fixture
    async def outer():
        yield
        print("the fixture's teardown ran")

    async def handler(stream):
        try:
            await stream.receive()
            {raising if where == "handler" else "await anyio.sleep_forever()"}
        finally:
            print("the handler ended")

    async def test_it(outer, harness):
        client = await (await harness.serve(handler)).connect()
        await client.send(b"x")
        await harness.settle()
        {raising if where == "body" else "await anyio.sleep_forever()"}
    """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=tcp", "-s")
    result.stdout.fnmatch_lines(["*the handler ended*", "*the fixture's teardown ran*"])
    if error == "KeyboardInterrupt":
        assert result.ret == pytest.ExitCode.INTERRUPTED


def test_a_handler_that_swallows_every_cancellation_ends_the_process_with_a_report(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makeini("[pytest]\nharness_cancel_timeout = 0.05\nharness_grace = 0")
    pytester.makepyfile(
        PRELUDE
        + """
    async def swallows(stream):
        while True:
            try:
                await anyio.sleep(1)
            except BaseException:
                pass

    async def test_it(harness):
        server = await harness.serve(swallows)
        await server.connect()
        await server.wait_connections(1)
    """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory")
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    result.stdout.fnmatch_lines(
        [
            "still running 0.05 s after being cancelled (harness_cancel_timeout):",
            "  a handler of server 'swallows'",
            "    *in swallows: await anyio.sleep(1)",
            "    not shielded: it swallows the cancellation, *",
            "nor without its shields: it swallows every cancellation",
        ]
    )
    result.stderr.fnmatch_lines(
        ["*::test_it*: still running 0.05 s after being cancelled*", "*the process stops here.*"]
    )


def test_a_fixtures_of_the_same_name_is_left_alone(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(params=["http", "ws"])
        def transport(request):
            return request.param

        @pytest.mark.anyio
        async def test_mine(transport): ...

        @pytest.mark.anyio
        @pytest.mark.parametrize("harness", ["x"])
        async def test_parametrized(harness): ...
        """
    )
    result = run_pytest("-v")
    result.assert_outcomes(passed=6)
    assert not [line for line in result.outlines if "::" in line and "[uvloop" in line]
    result.stdout.no_fnmatch_line("*backends x transports*")


def test_a_projects_own_backend_gives_way_to_one_that_is_asked_for(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makeconftest("import pytest\n@pytest.fixture\ndef anyio_backend(): return 'asyncio'")
    pytester.makepyfile("async def test_it(harness): assert harness.backend in ('asyncio', 'trio')")
    result = run_pytest("--harness-transports=memory")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["asyncio  1 passed"])
    result = run_pytest("--harness-transports=memory", "--harness-backends=trio")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["trio  1 passed"])


def test_a_harness_that_comes_too_late_says_so(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.harness(backends=["trio"])
        async def test_it(late): ...

        @pytest.fixture
        def late(request):
            return request.getfixturevalue("harness")
        """
    )
    result = run_pytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*'transport' has no transport to be: the test has to name*"])


def test_what_was_caught_is_no_second_failure(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    """A TLS stream waits inside of ``except SSLWantReadError``, for one."""
    pytester.makepyfile(
        PRELUDE
        + """
    pytestmark = pytest.mark.xfail(raises=LookupError, strict=True)

    async def test_receive(harness):
        client = await (await harness.serve(crashing)).connect()
        await client.send(b"x")
        await client.receive()

    async def test_handler(harness):
        client = await (await harness.serve(crashing)).connect()
        try:
            raise OSError
        except OSError:
            await client.send(b"x")
            await anyio.sleep_forever()

    async def test_handler_further_out(harness):
        client = await (await harness.serve(crashing)).connect()
        with pytest.raises(OSError):
            try:
                raise OSError
            finally:
                await client.send(b"x")
                await anyio.sleep_forever()
    """
    )
    run_pytest(f"--harness-backends={backend}", TRANSPORTS).assert_outcomes(xfailed=12)


def test_what_was_on_its_way_out_is_a_second_failure(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        PRELUDE
        + """
    from contextlib import asynccontextmanager

    class Closing:
        def __init__(self, client):
            self.client = client
        async def __aenter__(self): ...
        async def __aexit__(self, *exc_info):
            await self.client.send(b"x")
            await self.client.receive()

    @asynccontextmanager
    async def closing(client):
        try:
            yield
        finally:
            await client.send(b"x")
            await client.receive()

    @pytest.mark.parametrize("close", [Closing, closing])
    async def test_exit(harness, close):
        async with await (await harness.serve(crashing)).connect() as client, close(client):
            assert "this" == "that"

    async def test_finally(harness):
        client = await (await harness.serve(crashing)).connect()
        try:
            assert "this" == "that"
        finally:
            await client.send(b"x")
            await client.receive()
    """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory,tls")
    result.assert_outcomes(failed=6)
    for error in ("LookupError: the handler crashed", "AssertionError: assert 'this' == 'that'"):
        lines = [line for line in result.stdout.lines if line.strip().endswith(f"| {error}")]
        assert len(lines) == 6, result.stdout.str()
    result.stdout.no_fnmatch_line("*SSLWantReadError*")


def test_what_was_caught_is_not_told_beside_an_interrupt(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        PRELUDE
        + """
    async def interrupting(stream):
        await stream.receive()
        raise KeyboardInterrupt

    async def test_it(harness):
        client = await (await harness.serve(interrupting)).connect()
        await client.send(b"x")
        await client.receive()
    """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=tls", "--full-trace")
    result.stdout.fnmatch_lines(["*KeyboardInterrupt*"])
    result.stdout.no_fnmatch_line("*besides*")


def test_a_crash_in_the_task_group_of_a_background_task_is_told_once(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        """
    import anyio, pytest

    class Queue:
        async def run(self, *, task_status):
            self.jobs, received = anyio.create_memory_object_stream(8)
            async with self.jobs, received, anyio.create_task_group() as pool:
                for _ in range(2):
                    pool.start_soon(self.work, received.clone())
                task_status.started()
                await anyio.sleep_forever()

        async def work(self, received):
            async with received:
                async for job in received:
                    raise IndexError(f"no such {job}")

        async def handle(self, stream):
            await self.jobs.send((await stream.receive()).decode())
            await stream.receive()

    async def test_pool(harness):
        queue = Queue()
        await harness.start(queue.run)
        client = await (await harness.serve(queue)).connect()
        await client.send(b"job")
        await client.receive()

    async def test_seen_twice(harness):
        error = IndexError("no such job")

        async def fail():
            raise error

        async def fail_in_a_group():
            async with anyio.create_task_group() as group:
                group.start_soon(fail)

        harness.task_group.start_soon(fail)
        harness.task_group.start_soon(fail_in_a_group)
        await anyio.sleep_forever()
    """
    )
    result = run_pytest(f"--harness-backends={backend}", TRANSPORTS)
    result.assert_outcomes(failed=8)
    lines = [
        line for line in result.stdout.lines if re.search("(E|[|]) +IndexError: no such", line)
    ]
    assert len(lines) == 8, result.stdout.str()


def test_a_crash_that_is_not_the_expected_one_says_what_was_expected(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        """
    import pytest

    async def crashing(stream):
        await stream.receive()
        raise ValueError("the handler crashed")

    @pytest.mark.parametrize("expect", [KeyError, (KeyError, OSError), ()])
    async def test_it(harness, expect):
        client = await (await harness.serve(crashing, expect=expect)).connect()
        await client.send(b"x")
        await client.receive()
    """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=tcp")
    result.assert_outcomes(failed=3)
    notes = [line[1:].strip() for line in result.stdout.lines if "(serve expects" in line]
    assert notes == ["(serve expects KeyError)", "(serve expects KeyError or OSError)"]


def test_a_crash_says_what_was_where(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        PRELUDE
        + """
    async def test_with(harness):
        async with await (await harness.serve(crashing)).connect() as client:
            await client.send(b"x")
            await client.receive()  # the test

    async def test_task_group(harness):
        server = await harness.serve(crashing)
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            async with await server.connect() as client:
                with anyio.fail_after(60):
                    await client.send(b"x")
                    await client.receive()  # the test

    async def test_except(harness):
        async with await (await harness.serve(crashing)).connect() as client:
            try:
                raise OSError
            except OSError:
                await client.send(b"x")
                await client.receive()  # the test

    @pytest.fixture
    async def held(harness):
        async with await (await harness.serve(crashing)).connect() as client:
            await client.send(b"x")
            await client.receive()  # the fixture 'held'
        yield

    async def test_held(held): pass

    @pytest.fixture
    async def returned(harness):
        async with await (await harness.serve(crashing)).connect() as client:
            await client.send(b"x")
            await client.receive()  # the fixture 'returned'

    async def test_returned(returned): pass
    """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=tcp,tls")
    result.assert_outcomes(failed=6, errors=4)
    notes = [line for line in result.stdout.lines if " was at " in line]
    assert len(notes) == 10, result.stdout.str()
    for note in notes:
        what = re.match(r"E +\((.+) was at \S+ in \w+: await client.receive\(\)  # (.+)\)$", note)
        assert what, note
        assert what[1] == what[2]
