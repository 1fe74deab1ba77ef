"""Whose event loop it was: objects of another loop, fixtures that hold one, the wrong library."""

from __future__ import annotations

import sys

import pytest
from blackbox import RunPytest

from harness.backends import BUILT_IN

#: The first test keeps something in `state`; the second has an event loop of its own.
KEEPS = """
    import asyncio, anyio, pytest, state

    @pytest.mark.{marker}
    async def test_first():
        state.kept = await state.make()

    @pytest.mark.{marker}
    async def test_second():
        await state.use()
"""

USES = {
    "future": (
        "asyncio.get_running_loop().create_future()",
        "await kept",
        "attached to a different loop",
        "`kept`, of type *Future,",
    ),
    "loop": (
        "Client(asyncio.get_running_loop())",
        "kept.loop.call_soon(print)",
        "Event loop is closed",
        "`kept`, of type state.Client,",
    ),
    "lock": (
        "Client(await contended())",
        "await asyncio.gather(hold(kept.loop), hold(kept.loop))",
        "is bound to a different event loop",
        "`kept.loop`, of type asyncio.locks.Lock,",
    ),
}

STATE = """
    import asyncio

    kept = None

    class Client:
        def __init__(self, loop):
            self.loop = loop

    async def hold(lock):
        async with lock:
            await asyncio.sleep(0)

    async def contended():
        lock = asyncio.Lock()
        await asyncio.gather(hold(lock), hold(lock))
        return lock

    async def make():
        return {make}

    async def use():
        {use}
"""


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("marker", ["harness", "anyio"])
def test_an_object_of_the_loop_of_another_test_is_named(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, use: str, marker: str
) -> None:
    """AnyIO's own tests too: the loop is the one of the backend of the moment."""
    if backend == "trio":
        pytest.skip("trio's objects belong to no loop; its tokens do, see below")
    make, code, message, named = USES[use]
    pytester.makepyfile(
        state=STATE.format(make=make, use=code), test_it=KEEPS.format(marker=marker)
    )
    if marker == "anyio":
        options = f"('asyncio', {{'use_uvloop': {backend == 'uvloop'}}})"
        pytester.makeconftest(
            f"import pytest\n@pytest.fixture(params=[pytest.param({options}, id='{backend}')])\n"
            "def anyio_backend(request): return request.param"
        )
    result = run_pytest(f"--harness-backends={backend}" if marker == "harness" else "-q")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            f"E *RuntimeError: *{message}*",
            f"E *({named} was made in the event loop of the test "
            f"test_it.py::test_first[[]{backend}], and used at *state.py:* in use: *",
            "E *Every test has an event loop of its own: make it in the test that uses it or in an "
            "async fixture of function scope; keep it in no global, class or cache)",
        ]
    )


def test_a_token_of_a_run_that_has_finished_is_named(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        state="""
        import anyio

        kept = None

        async def make():
            return anyio.lowlevel.current_token()

        async def use():
            await anyio.to_thread.run_sync(
                lambda: anyio.from_thread.run_sync(print, token=kept)
            )
        """,
        test_it=KEEPS.format(marker="harness"),
    )
    result = run_pytest(f"--harness-backends={backend}")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *RunFinishedError: *",
            "E *(`kept`, of type anyio.lowlevel.EventLoopToken, was made in the event loop of "
            f"the test test_it.py::test_first[[]{backend}], and used at *",
        ]
    )


@pytest.mark.parametrize("scope", ["function", "module"])
def test_a_token_of_trio_is_named(
    pytester: pytest.Pytester, run_pytest: RunPytest, scope: str
) -> None:
    pytester.makepyfile(
        test_it=f"""
        import pytest, trio

        kept = []

        @pytest.fixture(scope="module")
        def anyio_backend(): return "trio"

        @pytest.fixture(scope="{scope}")
        async def token(anyio_backend):
            kept.append(trio.lowlevel.current_trio_token())

        @pytest.mark.anyio
        async def test_first(token): ...
        """,
        test_later="""
        import test_it

        def test_second():
            test_it.kept[0].run_sync_soon(print)
        """,
    )
    result = run_pytest()
    result.assert_outcomes(passed=1, failed=1)
    owner = {
        "function": "the fixture 'token' (test_it.py:8) of the test test_it.py::test_first",
        "module": "the module-scoped fixture 'token' (test_it.py:8), set up for "
        "test_it.py::test_first",
    }[scope]
    cure = {
        "function": "Every test has an event loop of its own: make it in the test",
        "module": "Let this test use the fixture 'token', or make it in the test",
    }[scope]
    result.stdout.fnmatch_lines(
        [
            "E *trio.RunFinishedError*",
            "E *(`test_it.kept[[]0]`, of type trio*TrioToken, was made in the event loop of "
            f"{owner}, and used at *test_later.py:4 in test_second: *",
            f"E *{cure} that uses it*",
        ]
    )


def test_a_loop_that_no_test_runs_on(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytester.makepyfile(
        test_it="""
        import asyncio

        loop = asyncio.new_event_loop()
        future = loop.create_future()
        loop.close()

        async def test_it(harness):
            await future
        """
    )
    result = run_pytest("--harness-backends=asyncio", "--harness-transports=memory")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E *(`future`, of type *Future, was made in an event loop that no test or async fixture *"]
    )


def test_a_loop_of_a_fixture_that_makes_loops(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    """pytest-asyncio's runners are such fixtures, and a project may have its own."""
    pytester.makepyfile(
        test_it="""
        import asyncio, pytest

        @pytest.fixture(scope="session")
        def loop():
            loop = asyncio.new_event_loop()
            yield loop
            loop.close()

        @pytest.mark.harness(backends=["asyncio"])
        async def test_it(loop):
            future = loop.create_future()
            await future
        """
    )
    result = run_pytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E *(`future`, * was made in the event loop of the session-scoped fixture 'loop' (*:3)*"]
    )


def test_the_loop_of_the_test_itself_has_ended(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    if backend == "trio":
        pytest.skip("asyncio's loops")
    pytester.makepyfile(
        """
        import asyncio, pytest

        kept = []

        @pytest.fixture
        def late():
            yield
            kept[-1].call_soon(print)

        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", [BACKEND])
        async def test_it(anyio_backend, late):
            kept.append(asyncio.get_running_loop())
        """.replace("BACKEND", repr(BUILT_IN[backend].anyio_backend))
    )
    result = run_pytest("-o", "harness_leaks=off")  # or the loop would live until after `late`
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "E *Event loop is closed",
            "E *(`kept[[]0]`, of type *Loop, belongs to the event loop of this test, which had *",
            "E *Finish with it before that*",
        ]
    )


@pytest.mark.parametrize(
    ("called", "code"),
    [
        ("asyncio", "await asyncio.to_thread(int)"),
        ("asyncio", "asyncio.get_running_loop()"),
        # As if one had been made and taken away: else it makes one, before Python 3.14.
        ("asyncio", "asyncio.set_event_loop(None); asyncio.get_event_loop()"),
        ("trio", "await trio.sleep(0)"),
        ("trio", "trio.lowlevel.current_task()"),
    ],
)
def test_calls_of_the_wrong_library_are_told(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, called: str, code: str
) -> None:
    pytester.makepyfile(
        test_it=f"""
        import asyncio, pytest, trio

        @pytest.mark.harness
        async def test_it():
            {code}

        def test_sync():
            {code if "await" not in code else f"{called}.nothing"}
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "-W", "ignore::RuntimeWarning")
    library = "trio" if backend == "trio" else "asyncio"
    if library == called:
        result.assert_outcomes(passed=1, failed=1)
    else:
        result.assert_outcomes(failed=2)
        names = "trio" if called == "trio" else "*uvloop"
        result.stdout.fnmatch_lines(
            [
                f"E *(this test runs on {backend}, and calls {called} at *test_it.py:5 in test_it: "
                f"*AnyIO's counterpart* or keep the test on {called}: "
                f'@pytest.mark.harness(backends=[[]"{names}"]))'
            ]
        )
    if "await" not in code:
        result.stdout.fnmatch_lines(
            [f"E *({called} is called outside of its event loop at *test_it.py:8 in test_sync: *"]
        )


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="makes no event loop any more")
def test_the_loop_that_a_call_of_asyncio_makes_on_trio_has_a_place(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makepyfile(
        test_it="""
        import asyncio

        def ask():
            return asyncio.get_event_loop()

        async def test_it(harness):
            async def handler(stream):
                ask()
                await stream.send(b"x")

            client = await (await harness.serve(handler)).connect()
            await client.receive()
        """
    )
    result = run_pytest(
        "--harness-backends=trio",
        "--harness-transports=memory",
        *("-W", "ignore::DeprecationWarning"),
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "leaked event loop, made at test_it.py:4",
            "leaked event loop: asyncio.* was not closed",
            "    created at test_it.py:4 in ask: return asyncio.get_event_loop()",
        ]
    )


def test_an_object_without_a_name_or_with_hostile_attributes(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    """Looking for the object must not break the report."""
    pytester.makepyfile(
        """
        import asyncio, pytest

        class Hostile:
            __slots__ = ("unset",)

            @property
            def __class__(self):
                raise LookupError("hostile")

            @property
            def __dict__(self):
                raise LookupError("hostile")

            def __getattr__(self, name):
                raise LookupError("hostile")

            def __eq__(self, other):
                raise LookupError("hostile")

            __hash__ = None

        cycle = {}
        cycle["cycle"] = [cycle, Hostile()]

        @pytest.mark.harness(backends=["asyncio"])
        async def test_it():
            cycle
            raise RuntimeError("Event loop is closed")
        """
    )
    result = run_pytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *RuntimeError: Event loop is closed"])
    result.stdout.no_fnmatch_line("*INTERNAL*")


def test_the_fixtures_that_hold_the_wrong_backend_are_named(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    other = "asyncio" if backend == "trio" else "trio"
    pytester.makeconftest(
        f"""
        import pytest

        @pytest.fixture(scope="session")
        def anyio_backend():
            return "{other}"

        @pytest.fixture(scope="session")
        async def database(anyio_backend):
            yield

        @pytest.fixture(scope="module")
        async def cache(anyio_backend):
            return 1

        @pytest.fixture
        async def own(anyio_backend): ...
        """
    )
    pytester.makepyfile(
        test_it=f"""
        import pytest

        @pytest.mark.anyio
        async def test_holds(database, cache): ...

        @pytest.mark.harness(backends=["{backend}"])
        async def test_wrong(own): ...
        """,
        test_other=f"""
        import pytest

        @pytest.mark.harness(backends=["{backend}"])
        async def test_still_wrong(): ...
        """,
    )
    result = run_pytest()
    result.assert_outcomes(passed=1, failed=2)
    database = (
        "he session-scoped fixture 'database' (conftest.py:7), set up for test_it.py::test_holds"
    )
    cache = "the module-scoped fixture 'cache' (conftest.py:11), set up for test_it.py::test_holds"
    begin = f"E *WrongBackend: this test was made for the backend '{backend}' but runs on {other}*"
    end = (
        " an event loop of another backend; give that fixture the same backend "
        "(let it use `anyio_backend`), or a function scope"
    )
    result.stdout.fnmatch_lines(
        [f"{begin}. T{database} and {cache} hold{end}", f"{begin}. T{database} holds{end}"]
    )


def test_one_test_after_another_holds_nothing(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    """What AnyIO's own plugin is asked for is still there: one way to a runner, and its names."""
    import anyio.pytest_plugin
    from anyio._backends import _asyncio

    assert callable(anyio.pytest_plugin.get_runner)
    assert callable(_asyncio.TestRunner.get_loop)
    pytester.makeconftest(
        """
        import pytest
        from harness.pytest_plugin.loops import loops_key

        def pytest_sessionfinish(session):
            loops = session.config.stash[loops_key]
            assert not loops._leases and not loops.holders()
            print("made for", len(loops._made_for), loops._last[0])
        """
    )
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module")
        async def shared(anyio_backend):
            yield

        @pytest.fixture
        async def fails(anyio_backend):
            raise LookupError

        @pytest.mark.anyio
        async def test_passes(shared): ...

        @pytest.mark.anyio
        async def test_fails(fails): ...
        """
    )
    result = run_pytest("-s")
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines(["*made for *test_fails*"])
