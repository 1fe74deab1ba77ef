"""pytest-asyncio and pytest-trio, beside the harness and in its way."""

from __future__ import annotations

import pytest
from blackbox import RunPytest, skip_without

PROJECT = """
    import pytest, sniffio

    {marker}
    async def test_harness({fixture}request):
        real = sniffio.current_async_library()
        print(request.node.name, "really runs on", real)

    async def test_own():
        assert sniffio.current_async_library() == "{plugin}"
"""

PLUGINS = {
    "asyncio": (
        ("-p", "pytest_asyncio.plugin", "-W", "ignore:The configuration option:Warning"),
        ("-o", "asyncio_mode=auto"),
    ),
    "trio": (("-p", "pytest_trio.plugin"), ("-o", "trio_mode=true")),
}
REASONS = {
    "asyncio": "pytest-asyncio is in auto mode: *runs*on asyncio's default event loop*"
    "Set `asyncio_mode = strict`*`-p no:asyncio`*",
    "trio": "pytest-trio's `trio_mode` is on: *on trio, whatever backend is in its name*"
    "Take `trio_mode` out*`-p no:trio`*",
}
REASONS["asyncio"] = REASONS["asyncio"].replace("*runs*", "*")

each_plugin = pytest.mark.parametrize("plugin", PLUGINS)


@pytest.fixture
def project(pytester: pytest.Pytester, plugin: str) -> None:
    skip_without(f"pytest_{plugin}")
    pytester.makepyfile(test_it=PROJECT.format(plugin=plugin, marker="", fixture="harness, "))


@each_plugin
@pytest.mark.usefixtures("project")
def test_a_plugin_that_takes_every_test_is_refused(
    run_pytest: RunPytest, plugin: str, backend: str
) -> None:
    loaded, mode = PLUGINS[plugin]
    cells = (f"--harness-backends={backend}", "--harness-transports=memory")
    result = run_pytest(*loaded, *mode, *cells)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"ERROR: test_it.py::test_harness[[]{backend}-memory] is a test of the harness, but "
         f"{REASONS[plugin]}"]
    )  # fmt: skip


@each_plugin
@pytest.mark.usefixtures("project")
def test_a_project_that_does_not_use_the_harness_yet_is_left_alone(
    pytester: pytest.Pytester, run_pytest: RunPytest, plugin: str
) -> None:
    loaded, mode = PLUGINS[plugin]
    run_pytest(*loaded, *mode, "-k", "own", "-W", "error::RuntimeWarning").assert_outcomes(
        passed=1, deselected=12
    )


@each_plugin
def test_why_it_is_refused(pytester: pytest.Pytester, run_pytest: RunPytest, plugin: str) -> None:
    """When this fails, the plugin may have learnt to leave other plugins' tests alone."""
    skip_without(f"pytest_{plugin}")
    pytester.makepyfile(PROJECT.format(plugin=plugin, marker="@pytest.mark.harness", fixture=""))
    loaded, mode = PLUGINS[plugin]
    result = run_pytest(*loaded, *mode, "-s", "-p", "no:harness.pytest_plugin.rivals")
    result.assert_outcomes(passed=4)
    for backend in ("asyncio", "uvloop", "trio"):
        result.stdout.fnmatch_lines([f"*test_harness[[]{backend}] really runs on {plugin}*"])


@each_plugin
@pytest.mark.usefixtures("project")
def test_strict_mode_runs_each_test_where_it_belongs(
    pytester: pytest.Pytester, run_pytest: RunPytest, plugin: str, backend: str
) -> None:
    loaded, _ = PLUGINS[plugin]
    path = pytester.path / "test_it.py"
    path.write_text(
        path.read_text().replace("async def test_own", f"@pytest.mark.{plugin}\nasync def test_own")
    )
    library = "trio" if backend == "trio" else "asyncio"
    cells = (f"--harness-backends={backend}", "--harness-transports=tcp")
    result = run_pytest(*loaded, *cells, "-s")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines([f"*test_harness[[]{backend}-tcp] really runs on {library}*"])


@each_plugin
@pytest.mark.parametrize("where", ["test", "module"])
def test_a_marker_of_the_plugin_on_a_harness_test_is_refused(
    pytester: pytest.Pytester, run_pytest: RunPytest, plugin: str, where: str
) -> None:
    skip_without(f"pytest_{plugin}")
    marker = f"{'pytestmark = ' if where == 'module' else '@'}pytest.mark.{plugin}"
    pytester.makepyfile(test_it=PROJECT.format(plugin=plugin, marker=marker, fixture="harness, "))
    loaded, _ = PLUGINS[plugin]
    result = run_pytest(*loaded)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"ERROR: test_it.py::test_harness*, but it has @pytest.mark.{plugin}: *"
         f'Take that marker away*@pytest.mark.harness(backends=[[]"{plugin}"])']
    )  # fmt: skip


def test_enable_trio_mode_in_a_conftest_is_refused(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    skip_without("pytest_trio")
    pytester.makepyfile("async def test_it(harness): ...")
    pytester.makeconftest("from pytest_trio.enable_trio_mode import *")
    result = run_pytest("-p", "pytest_trio.plugin")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *`pytest_trio.enable_trio_mode` out of conftest.py*"])


@each_plugin
@pytest.mark.usefixtures("project")
def test_workers_of_xdist_say_it_too(run_pytest: RunPytest, plugin: str) -> None:
    pytest.importorskip("xdist")
    loaded, mode = PLUGINS[plugin]
    cells = ("--harness-backends=trio", "--harness-transports=memory")
    result = run_pytest(*loaded, *mode, *cells, "-p", "xdist.plugin", "-n", "1")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([f"test_it.py::test_harness* harness, but {REASONS[plugin]}"])
