"""Which cells a test gets, from ini, command line, marker and hooks; and what is refused."""

from __future__ import annotations

import pytest
from blackbox import MODES, RunPytest

ECHO = """
    async def echo(stream):
        async with stream:
            async for chunk in stream:
                await stream.send(chunk)

    async def test_echo(harness):
        server = await harness.serve(echo)
        client = await server.connect()
        await client.send(b"hello")
        assert await client.receive() == b"hello"
"""


def ids(result: pytest.RunResult) -> list[str]:
    """The ids in the output of ``--collect-only -q``, in order."""
    return [line.partition("::")[2] for line in result.outlines if "::" in line]


@pytest.mark.parametrize("mode", MODES)
def test_one_test_runs_in_every_cell(
    pytester: pytest.Pytester, run_pytest: RunPytest, mode: str
) -> None:
    pytester.makepyfile(ECHO)
    result = run_pytest("-v", mode=mode)
    result.assert_outcomes(passed=12)
    for backend in ("asyncio", "uvloop", "trio"):
        for transport in ("tcp", "unix", "tls", "memory"):
            result.stdout.fnmatch_lines([f"*::test_echo[[]{backend}-{transport}[]] PASSED*"])


def test_without_anyios_plugin_the_error_says_what_to_add(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makepyfile(ECHO)
    result = run_pytest("-p", "no:anyio", mode="autoload")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *needs AnyIO's pytest plugin*add `-p anyio`*"])


def test_k_selects_a_backend(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytester.makepyfile(ECHO)
    assert len(ids(run_pytest("--collect-only", "-q", "-k", "trio"))) == 4


def test_selected_on_the_command_line(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytester.makepyfile(ECHO)
    pytester.makeini("[pytest]\nharness_backends = uvloop\nharness_transports = tls")
    result = run_pytest(
        "--collect-only", "-q", "--harness-backends=asyncio,trio", "--harness-transports=memory"
    )
    assert ids(result) == ["test_echo[asyncio-memory]", "test_echo[trio-memory]"]


def test_selected_in_the_ini_file(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytester.makepyfile(ECHO)
    pytester.makeini("[pytest]\nharness_backends = uvloop\nharness_transports = tls unix")
    result = run_pytest("--collect-only", "-q")
    assert ids(result) == ["test_echo[uvloop-tls]", "test_echo[uvloop-unix]"]


def test_selected_by_the_nearest_marker(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytester.makepyfile(
        """
        import pytest
        pytestmark = pytest.mark.harness(backends=["trio"], transports=["tcp"])

        async def test_module(harness): ...

        @pytest.mark.harness(transports=["tcp6", "memory"])
        class TestClass:
            async def test_class(self, harness): ...

            @pytest.mark.harness(backends=["uvloop"])
            async def test_method(self, harness): ...
        """
    )
    assert ids(run_pytest("--collect-only", "-q")) == [
        "test_module[trio-tcp]",
        "TestClass::test_class[trio-tcp6]",
        "TestClass::test_class[trio-memory]",
        "TestClass::test_method[uvloop-tcp6]",
        "TestClass::test_method[uvloop-memory]",
    ]


def test_the_marker_alone_runs_a_test_on_every_backend(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makepyfile(
        """
        import anyio, pytest
        from harness.backends import running_backend_name

        @pytest.mark.harness()
        async def test_marked(anyio_backend_name, request):
            await anyio.sleep(0)
            assert f"[{running_backend_name()}]" in request.node.name

        @pytest.mark.harness()
        @pytest.mark.parametrize("n", [1, 2])
        async def test_parametrized(n):
            assert n in (1, 2)
        """
    )
    run_pytest().assert_outcomes(passed=9)


def test_a_tests_own_parameters_are_kept(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(params=["x", "y"])
        def letter(request):
            return request.param

        @pytest.mark.harness(backends=["trio"], transports=["memory"])
        @pytest.mark.parametrize("n", [1, 2])
        async def test_it(harness, n): ...

        @pytest.mark.harness(backends=["trio"], transports=["memory"])
        async def test_with_fixture(harness, letter): ...
        """
    )
    result = run_pytest("--collect-only", "-q")
    assert ids(result) == [
        "test_it[trio-memory-1]",
        "test_it[trio-memory-2]",
        "test_with_fixture[x-trio-memory]",
        "test_with_fixture[y-trio-memory]",
    ]


def test_debug_and_eager_can_be_asked_for(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytester.makepyfile(
        """
        import asyncio, sys, pytest

        names = ["asyncio+debug"] + (["asyncio+eager"] if sys.version_info >= (3, 12) else [])

        @pytest.mark.harness(backends=names, transports=["tcp", "memory"])
        async def test_it(harness):
            async def echo(stream):
                await stream.send(await stream.receive())

            client = await (await harness.serve(echo)).connect()
            await client.send(b"x")
            assert await client.receive() == b"x"
            loop = asyncio.get_running_loop()
            if harness.backend == "asyncio+debug":
                assert loop.get_debug()
            else:
                assert loop.get_task_factory() is asyncio.eager_task_factory
        """
    )
    result = run_pytest()
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] in (2, 4)


def test_eager_before_python_3_12_is_an_error_that_says_so(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makepyfile(ECHO)
    pytester.makeconftest(
        """
        import dataclasses
        from harness import backends
        # Stands in for an older Python.
        eager = dataclasses.replace(backends.BUILT_IN["asyncio+eager"], python=(9, 9))
        backends.BUILT_IN["asyncio+eager"] = eager
        """
    )
    result = run_pytest("--harness-backends=asyncio+eager")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: backend 'asyncio+eager' needs Python 9.9 or later*"])


NO_UVLOOP = """
    import sys
    sys.modules["uvloop"] = None
"""


def test_a_default_backend_that_is_missing_is_skipped_with_what_to_install(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makeconftest(NO_UVLOOP)
    pytester.makepyfile(ECHO)
    result = run_pytest("-rs")
    result.assert_outcomes(passed=8, skipped=4)
    result.stdout.fnmatch_lines(["SKIPPED*backend 'uvloop' needs 'uvloop'*pip install uvloop"])


@pytest.mark.parametrize("how", ["command line", "ini", "marker"])
def test_a_missing_backend_that_was_asked_for_is_an_error(
    pytester: pytest.Pytester, run_pytest: RunPytest, how: str
) -> None:
    pytester.makeconftest(NO_UVLOOP)
    pytester.makepyfile(ECHO)
    arguments = []
    if how == "command line":
        arguments = ["--harness-backends=uvloop"]
    elif how == "ini":
        pytester.makeini("[pytest]\nharness_backends = uvloop")
    else:
        pytester.makepyfile(
            """
            import pytest

            @pytest.mark.harness(backends=["uvloop"])
            async def test_it(harness): ...
            """
        )
    result = run_pytest(*arguments)
    assert result.ret in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERRUPTED)
    output = result.stdout.str() + result.stderr.str()
    assert "backend 'uvloop' needs 'uvloop', which is not installed: pip install uvloop" in output


def test_a_project_adds_a_backend_that_no_one_here_wrote(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytest.importorskip("rloop", reason="rloop has no wheel for this Python")
    pytester.makepyfile(ECHO)
    pytester.makeconftest(
        """
        def pytest_harness_backends(config):
            import rloop
            return {"rloop": ("asyncio", {"loop_factory": rloop.new_event_loop})}
        """
    )
    result = run_pytest("--harness-backends=rloop,trio", "--harness-transports=memory", "-v")
    result.stdout.fnmatch_lines(["*test_echo[[]rloop-memory[]] PASSED*"])
    result.assert_outcomes(passed=2)


def test_a_project_adds_a_transport(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytester.makepyfile(
        ECHO,
        test_by_name="""
        async def test_by_name(harness):
            async def handler(stream):
                await stream.send(b"x")

            server = await harness.serve(handler, transport="tiny")
            assert await (await server.connect()).receive() == b"x"
            assert server.transport.name == "tiny"
        """,
    )
    pytester.makeconftest(
        """
        from harness.transports.memory import MemoryTransport

        class Tiny(MemoryTransport):
            name = "tiny"
            def __init__(self):
                super().__init__(capacity=1, chunking_seed=3)

        def pytest_harness_transports(config):
            return {"tiny": Tiny}
        """
    )
    result = run_pytest("--harness-transports=tiny", "--harness-backends=trio", "-k", "by_name")
    result.assert_outcomes(passed=1)
    assert ids(
        run_pytest("--collect-only", "-q", "--harness-transports=tiny,tcp", "-k", "echo")
    ) == [
        f"test_echo[{backend}-{transport}]"
        for backend in ("asyncio", "uvloop", "trio")
        for transport in ("tiny", "tcp")
    ]


@pytest.mark.parametrize(
    ("arguments", "ini", "message"),
    [
        (
            ["--harness-backends=trioo"],
            "",
            "unknown backend 'trioo'; valid are asyncio, uvloop, trio",
        ),
        (["--harness-backends=,"], "", "no backend named; valid are asyncio"),
        (["--harness-backends=trio,trio"], "", "a backend is named twice"),
        (["--harness-transports=udp"], "", "unknown transport 'udp'; valid are tcp, unix, tls"),
        ([], "harness_backends = curio", "harness_backends: unknown backend 'curio'"),
        ([], "harness_transports = x", "harness_transports: unknown transport 'x'; valid are"),
        ([], "harness_grace = -1", "harness_grace: expected a number of seconds, zero or more"),
        ([], "harness_grace = soon", "harness_grace: expected a number of seconds.*'soon'"),
        ([], "harness_cancel_timeout = x", "harness_cancel_timeout: expected a number"),
    ],
)
def test_bad_settings_are_usage_errors_that_list_the_valid_ones(
    pytester: pytest.Pytester,
    run_pytest: RunPytest,
    arguments: list[str],
    ini: str,
    message: str,
) -> None:
    pytester.makepyfile(ECHO)
    pytester.makeini(f"[pytest]\n{ini}")
    result = run_pytest(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.re_match_lines([f"ERROR: .*{message}"])


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("backends=['trioo']", r"unknown backend 'trioo'; valid are asyncio, uvloop, trio"),
        ("backends='trio'", r"takes a list of names, not 'trio'"),
        ("backends=[]", r"no backend named; valid are"),
        ("transports=['udp']", r"unknown transport 'udp'; valid are tcp, unix, tls, memory"),
        ("grace=-1", r"grace must be a number of seconds, zero or more, not -1"),
        ("colour='red'", r"has no argument 'colour'; valid are backends, transports, grace"),
        ("'trio'", r"takes keyword arguments only, not \('trio',\); valid are backends"),
    ],
)
def test_bad_markers_are_usage_errors_that_list_the_valid_ones(
    pytester: pytest.Pytester, run_pytest: RunPytest, marker: str, message: str
) -> None:
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.harness({marker})
        async def test_marked(harness): ...
        """
    )
    result = run_pytest()
    result.assert_outcomes(errors=1)
    result.stdout.re_match_lines([rf".*::test_marked: @pytest.mark.harness.*{message}"])


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (
            "def pytest_harness_backends(config): return {'trio': ('trio', {})}",
            "pytest_harness_backends: the name 'trio' is taken",
        ),
        (
            'def pytest_harness_backends(config): return {"c": ("curio", {})}',
            "backend 'c': the AnyIO backend must be 'asyncio' or 'trio', not 'curio'",
        ),
        (
            "def pytest_harness_transports(config): return {'tcp': object}",
            "pytest_harness_transports: the name 'tcp' is taken",
        ),
    ],
)
def test_bad_hooks_are_usage_errors(
    pytester: pytest.Pytester, run_pytest: RunPytest, hook: str, message: str
) -> None:
    pytester.makepyfile(ECHO)
    pytester.makeconftest(hook)
    result = run_pytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()


@pytest.mark.parametrize("where", ["conftest", "module", "class", "plugin"])
def test_parameters_of_a_projects_own_hook_count(
    pytester: pytest.Pytester, run_pytest: RunPytest, where: str
) -> None:
    hook = """
def pytest_generate_tests({self}metafunc):
    if "transport" in metafunc.fixturenames:
        metafunc.parametrize("transport", ["memory"], indirect=True)
    if "anyio_backend" in metafunc.fixturenames:
        metafunc.parametrize("anyio_backend", ["trio"])
"""
    test = "async def test_it({self}harness): assert harness.backend == 'trio'\n"
    arguments = []
    if where == "conftest":
        pytester.makeconftest(hook.format(self=""))
    elif where == "plugin":
        pytester.makepyfile(plugin=hook.format(self=""))
        pytester.syspathinsert()
        arguments = ["-p", "plugin"]
    if where == "class":
        lines = (hook.format(self="self, ") + test.format(self="self, ")).splitlines()
        pytester.makepyfile("\n".join(["class TestIt:", *(f"    {line}" for line in lines)]))
    else:
        pytester.makepyfile(
            (hook.format(self="") if where == "module" else "") + test.format(self="")
        )
    result = run_pytest(*arguments, "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*test_it[[]memory-trio] PASSED*", "trio  1 passed"])


def test_a_hook_may_give_one_of_the_two(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytester.makeconftest(
        """
        def pytest_generate_tests(metafunc):
            if "transport" in metafunc.fixturenames:
                metafunc.parametrize("transport", ["tcp", "memory"], indirect=True)
        """
    )
    pytester.makepyfile(
        """
        import pytest

        async def test_it(harness): ...

        @pytest.mark.parametrize("n", [1, 2])
        @pytest.mark.harness(backends=["trio"])
        async def test_own(n): ...
        """
    )
    collected = ids(run_pytest("--collect-only", "-q", "--harness-backends=uvloop,trio"))
    assert sorted(collected) == [
        "test_it[memory-trio]",
        "test_it[memory-uvloop]",
        "test_it[tcp-trio]",
        "test_it[tcp-uvloop]",
        "test_own[trio-1]",
        "test_own[trio-2]",
    ]


def test_a_hook_that_comes_too_late_is_told(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makeconftest(
        """
        import pytest

        @pytest.hookimpl(trylast=True)
        def pytest_generate_tests(metafunc):
            metafunc.parametrize("transport", ["memory"], indirect=True)
        """
    )
    pytester.makepyfile("async def test_it(harness): ...")
    result = run_pytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*::test_it: a pytest_generate_tests parametrizes 'transport' when the harness has done*"]
    )
    result.stdout.fnmatch_lines(["*take `trylast` away from the hook*"])


def test_the_marker_of_a_class_stays_with_it(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    """A test that another class inherits has no backend there, whichever is collected first."""
    pytester.makepyfile(
        """
        import pytest

        class Shared:
            async def test_it(self): ...

        @pytest.mark.harness(backends=["trio"])
        class TestMarked(Shared): ...

        class TestDerived(TestMarked): ...

        class TestOther(Shared): ...
        """
    )
    result = run_pytest("-v")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*TestMarked::test_it[[]trio] PASSED*",
            "*TestDerived::test_it[[]trio] PASSED*",
            "*TestOther::test_it FAILED*",
        ]
    )
