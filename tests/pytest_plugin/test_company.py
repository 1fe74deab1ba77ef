"""The harness in company: other plugins, other ways to write tests, projects that exist already."""

from __future__ import annotations

import pytest
from blackbox import BOUND, NO_RIVALS, RunPytest

ECHO = """
    import anyio, pytest

    async def echo(stream):
        async with stream:
            async for chunk in stream:
                await stream.send(chunk)
"""

CELLS = ("--harness-backends=asyncio,uvloop,trio", "--harness-transports=tcp,memory")


def test_async_fixtures_of_the_user_compose(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makepyfile(
        ECHO
        + """
    log = []

    @pytest.fixture
    async def server(harness):
        server = await harness.serve(echo)
        yield server
        log.append(len(server.connections))

    @pytest.fixture
    async def client(server):
        async with await server.connect() as client:
            yield client
            await client.send(b"still served during teardown")
            assert await client.receive() == b"still served during teardown"

    async def test_client(client):
        await client.send(b"x")
        assert await client.receive() == b"x"

    async def test_log(harness):
        # Nothing was torn down before its user.
        assert log and set(log) <= {0, 1}
    """
    )
    run_pytest(*CELLS, "-W", "error").assert_outcomes(passed=12)


def test_a_harness_can_be_held_by_a_wider_scope(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makepyfile(
        ECHO
        + """
    from harness import open_harness

    @pytest.fixture(scope="module")
    async def shared(anyio_backend):
        async with open_harness(transport="unix") as harness:
            yield await harness.serve(echo)

    @pytest.mark.parametrize("n", [1, 2])
    async def test_both(shared, harness, n):
        own = await harness.serve(echo)
        for server in (shared, own):
            async with await server.connect() as client:
                await client.send(b"x")
                assert await client.receive() == b"x"
        await shared.wait_connections(0)
        assert shared.accepted == n
        assert own.accepted == 1
    """
    )
    run_pytest("--harness-transports=memory", "-W", "error").assert_outcomes(passed=6)


def test_every_test_gets_a_clean_event_loop(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makepyfile(
        """
        import pytest
        from anyio.lowlevel import current_token

        seen = []

        @pytest.mark.parametrize("n", range(4))
        async def test_it(harness, n):
            token = current_token()
            assert token not in seen
            seen.append(token)
        """
    )
    run_pytest("--harness-transports=memory").assert_outcomes(passed=12)


def test_a_test_on_another_backend_than_its_own_is_an_error(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="session")
        def anyio_backend():
            return "asyncio"

        @pytest.fixture(scope="session")
        async def held(anyio_backend):
            yield

        @pytest.mark.anyio
        async def test_holds(held): ...

        @pytest.mark.harness(backends=["trio"])
        async def test_trio(): ...

        @pytest.mark.harness(backends=["uvloop"])
        async def test_uvloop(): ...
        """
    )
    result = run_pytest()
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines_random(
        [
            "E *WrongBackend: this test was made for the backend 'trio' but runs on asyncio with*",
            "E *WrongBackend: this test was made for the backend 'uvloop' but runs on asyncio*",
        ]
    )


EXISTING = """
    import pytest, anyio, sniffio

    @pytest.mark.anyio
    async def test_marked(anyio_backend_name):
        assert sniffio.current_async_library() == anyio_backend_name

    @pytest.mark.anyio
    @pytest.mark.parametrize("n", [1, 2])
    async def test_parametrized(n): ...

    def test_sync(): ...
"""

OWN_BACKEND = """
    import pytest

    @pytest.fixture(params=[("asyncio", {"debug": True}), ("trio", {})], ids=["a", "t"])
    def anyio_backend(request):
        return request.param
"""


@pytest.mark.parametrize("project", ["marker", "own fixture", "auto mode"])
def test_an_existing_project_keeps_its_behaviour(
    pytester: pytest.Pytester, run_pytest: RunPytest, project: str
) -> None:
    pytester.makepyfile(
        EXISTING if project != "auto mode" else EXISTING.replace("@pytest.mark.anyio", "")
    )
    if project == "own fixture":
        pytester.makeconftest(OWN_BACKEND)
    if project == "auto mode":
        pytester.makeini("[pytest]\nanyio_mode = auto")
    without = pytester.runpytest_subprocess(
        *("-p", "no:harness.pytest_plugin", "-p", "no:cacheprovider", "-p", "no:randomly", "-v"),
        *NO_RIVALS,
    )
    result = run_pytest("-v", mode="autoload")
    result.assert_outcomes(passed=7)

    def tests_of(run: pytest.RunResult) -> list[str]:
        return [line for line in run.outlines if "::" in line]

    assert tests_of(result) == tests_of(without)
    result.stdout.no_fnmatch_line("*backends x transports*")


def test_the_harness_runs_on_a_projects_own_backends(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makeconftest(OWN_BACKEND)
    pytester.makepyfile(
        ECHO
        + """
    async def test_echo(harness):
        client = await (await harness.serve(echo)).connect()
        await client.send(b"x")
        assert await client.receive() == b"x"
        assert harness.backend in ("asyncio+debug", "trio")
    """
    )
    result = run_pytest("-v", "--harness-transports=memory")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines_random(["*test_echo[[]*a*PASSED*", "*test_echo[[]*t*PASSED*"])


def test_a_projects_own_transport_fixture_is_used(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(params=["tcp", "memory"])
        def transport(request):
            return request.param

        async def test_it(harness):
            assert harness.transport.name in ("tcp", "memory")
        """
    )
    run_pytest("--harness-backends=trio").assert_outcomes(passed=2)


def test_a_projects_transport_fixture_that_is_for_something_else(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture
        def transport():
            return 5
        """
    )
    pytester.makepyfile("async def test_it(harness): ...")
    result = run_pytest("--harness-backends=trio")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "E *TypeError: the fixture 'transport' (conftest.py:3) stands in the place of the "
            "harness's: * and gives 5; if it is for something else, it needs another name"
        ]
    )
    result.stdout.no_fnmatch_line("*core.py*")


def test_hypothesis(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """Each example has a harness of its own; what one served is gone in the next."""
    pytest.importorskip("hypothesis")
    pytester.makepyfile(
        ECHO
        + """
    from hypothesis import HealthCheck, given, settings, strategies as st

    harnesses = []

    @settings(
        max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(data=st.binary(min_size=1))
    async def test_echo(harness, data):
        assert harness not in harnesses
        harnesses.append(harness)
        server = await harness.serve(echo)
        client = await server.connect()
        await client.send(data)
        assert await client.receive() == data
        assert all(not h._servers[0]._running for h in harnesses[:-1])

    @settings(
        max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(n=st.integers(0, 100))
    async def test_falsified(harness, n):
        async def handler(stream):
            assert n < 50

        client = await (await harness.serve(handler)).connect()
        await anyio.sleep_forever() if n >= 50 else None
    """
    )
    result = run_pytest(*CELLS, "-W", "error", mode="autoload")
    result.assert_outcomes(passed=6, failed=6)
    result.stdout.fnmatch_lines(["*n=50,*"])


def test_classes_and_xunit_setup(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytester.makepyfile(
        ECHO
        + """
    class TestEcho:
        def setup_method(self):
            self.data = b"x"

        @pytest.fixture
        async def client(self, harness):
            async with await (await harness.serve(echo)).connect() as client:
                yield client

        async def test_echo(self, client):
            await client.send(self.data)
            assert await client.receive() == b"x"
    """
    )
    run_pytest(*CELLS, "-W", "error").assert_outcomes(passed=6)


def test_unittest_test_cases(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """``unittest`` brings its own event loop and its own tasks; ``open_harness`` works in them."""
    pytester.makepyfile(
        ECHO
        + """
    import unittest
    from contextlib import AsyncExitStack
    from harness import open_harness

    class EchoTestCase(unittest.IsolatedAsyncioTestCase):
        async def asyncSetUp(self):
            self.stack = AsyncExitStack()
            self.harness = await self.stack.enter_async_context(open_harness(transport="tcp"))
            self.addAsyncCleanup(self.stack.aclose)
            self.server = await self.harness.serve(echo)

        async def test_echo(self):
            client = await self.server.connect()
            await client.send(b"x")
            self.assertEqual(await client.receive(), b"x")

    class CrashTestCase(unittest.IsolatedAsyncioTestCase):
        async def test_crash(self):
            async def crash(stream):
                raise LookupError("crashed")

            with self.assertRaisesRegex(LookupError, "crashed"):
                async with open_harness() as harness:
                    await (await harness.serve(crash)).connect()
                    await anyio.sleep_forever()
    """
    )
    run_pytest("-W", "error").assert_outcomes(passed=2)


def test_subtests(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytest.importorskip("_pytest.subtests", reason="subtests came with pytest 9")
    pytester.makepyfile(
        ECHO
        + """
    async def test_echo(harness, subtests):
        server = await harness.serve(echo)
        for n in range(3):
            with subtests.test(n=n):
                client = await server.connect()
                await client.send(b"%d" % n)
                assert await client.receive() == (b"%d" % n if n != 1 else b"no")
    """
    )
    result = run_pytest("--harness-backends=trio", "--harness-transports=memory")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["SUBFAILED*test_echo*"])
    result.stdout.fnmatch_lines(["trio*1 failed*"])


def test_xdist_and_random_order(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytest.importorskip("xdist")
    pytest.importorskip("pytest_randomly")
    pytester.makepyfile(
        ECHO
        + """
    @pytest.mark.parametrize("n", range(5))
    async def test_echo(harness, n):
        server = await harness.serve(echo)
        client = await server.connect()
        await client.send(b"x")
        assert await client.receive() == b"x"
    """
    )
    for seed in range(3):
        result = pytester.runpytest_subprocess(
            *CELLS,
            *NO_RIVALS,
            "-n",
            "2",
            "-W",
            "error",
            "-p",
            "no:cacheprovider",
            f"--randomly-seed={seed}",
            timeout=BOUND,
        )
        result.assert_outcomes(passed=30)
        result.stdout.fnmatch_lines(
            ["*harness: backends x transports*", "*tcp *memory*", "trio * 5 passed *5 passed*"]
        )


def test_a_projects_own_backend_may_have_a_wider_scope(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(scope="session", params=["asyncio", "trio"])
        def anyio_backend(request):
            return request.param

        @pytest.fixture(scope="session")
        async def shared(anyio_backend):
            yield 5
        """
    )
    pytester.makepyfile("async def test_it(harness, shared): assert shared == 5")
    for option in ([], ["--harness-backends=asyncio,trio"]):
        run_pytest("--harness-transports=memory", *option).assert_outcomes(passed=2)


def test_what_runs_tests_is_loaded_with_the_first_one(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makeconftest(
        """
        import sys

        ROOMS = {"core", "leaks", "adapters", "virtualtime", "diagnostics", "supervisor", "watch"}

        def pytest_report_header(config):
            return f"before: {loaded()}"

        def pytest_unconfigure(config):
            print(f"after: {loaded()}")

        def loaded():
            return sorted(room for room in ROOMS if f"harness.{room}" in sys.modules)
        """
    )
    run_pytest().stdout.fnmatch_lines(["before: []", "after: []"])
    pytester.makepyfile("def test_it(): pass")
    result = run_pytest()
    result.stdout.fnmatch_lines(["before: []", "after: *'core'*"])
    result.assert_outcomes(passed=1)
