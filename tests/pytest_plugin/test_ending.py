"""A process that has to stop in the middle of a run reports first what was run."""

from __future__ import annotations

import xml.etree.ElementTree

import pytest
from blackbox import RunPytest, skip_without

TESTS = """
    import anyio, pytest

    def test_early():
        assert 1 == 2

    @pytest.fixture
    def bad():
        yield
        raise ValueError("in teardown")

    async def test_with_an_error(harness, bad): ...

    async def test_swallows(harness):
        async def swallows(stream):
            while True:
                try:
                    await anyio.sleep(1)
                except BaseException:
                    pass

        server = await harness.serve(swallows)
        await server.connect()
        await server.wait_connections(1)

    def test_next(): ...
"""

SETTINGS = "[pytest]\nharness_cancel_timeout = 0.05\nharness_grace = 0"


def run(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, *arguments: str
) -> pytest.RunResult:
    pytester.makeini(SETTINGS)
    pytester.makepyfile(test_it=TESTS)
    return run_pytest(f"--harness-backends={backend}", "--harness-transports=memory", *arguments)


def test_the_failures_so_far_are_shown(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    result = run(pytester, run_pytest, backend, "--junitxml=report.xml")
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    result.stdout.fnmatch_lines(
        [
            "*_ ERROR at teardown of test_with_an_error*",
            "E *ValueError: in teardown",
            "*_ ERROR at teardown of test_swallows*",
            "still running 0.05 s after being cancelled (harness_cancel_timeout):",
            "*_ test_early _*",
            "E *assert 1 == 2",
            "FAILED test_it.py::test_early - assert 1 == 2",
            "ERROR test_it.py::test_with_an_error*",
            "ERROR test_it.py::test_swallows*",
            "=* 1 failed, 2 passed, 2 errors in *",
        ]
    )
    suite = xml.etree.ElementTree.parse(pytester.path / "report.xml").getroot()[0]
    assert (suite.get("failures"), suite.get("errors")) == ("1", "2")
    said = {case.get("name"): "".join(case.itertext()) for case in suite}
    assert "a handler of server 'swallows'" in said[f"test_swallows[{backend}-memory]"]


@pytest.mark.parametrize("how", ["raises", "exits", "takes the terminal away"])
def test_whatever_a_plugin_does_meanwhile_the_process_ends(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, how: str
) -> None:
    """And the report is on stderr, if it cannot be on stdout."""
    what = {
        "raises": "raise ValueError",
        "exits": "raise SystemExit(0)",
        "takes the terminal away": "terminal.summary_errors = None",
    }
    pytester.makeconftest(
        f"""
        import pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_logreport(report):
            if "swallows" in report.nodeid and report.failed:
                {what[how]}

        def pytest_configure(config):
            global terminal
            terminal = config.pluginmanager.getplugin("terminalreporter")
        """
    )
    result = run(pytester, run_pytest, backend)
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    result.stderr.fnmatch_lines(
        [
            "*::test_swallows*: still running 0.05 s after being cancelled*",
            "  a handler of server 'swallows'",
            "*the process stops here.*",
        ]
    )


def test_with_workers_the_run_goes_on(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    skip_without("xdist")
    result = run(pytester, run_pytest, backend, "-n", "1", "-p", "xdist")
    result.stdout.fnmatch_lines(["*worker 'gw0' crashed while running '*test_swallows*'"])
    result.stdout.fnmatch_lines(["  a handler of server 'swallows'"])
    assert result.parseoutcomes()["passed"] == 3
