"""The matrix at the end of a run."""

from __future__ import annotations

import pytest
from blackbox import RunPytest

TESTS = """
    import pytest

    async def test_passes(harness): ...

    async def test_tells_apart(harness):
        assert harness.backend != "uvloop"

    @pytest.mark.skip(reason="no")
    async def test_skipped(harness): ...

    @pytest.mark.xfail(reason="known")
    async def test_xfailed(harness):
        assert False

    @pytest.fixture
    async def broken_at_the_end(harness):
        yield
        raise OSError("teardown")

    @pytest.mark.harness(transports=["memory"], backends=["trio"])
    async def test_teardown_error(broken_at_the_end): ...

    @pytest.mark.harness()
    async def test_without_transport(): ...
"""


def test_the_matrix_counts_each_test_once(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytester.makepyfile(TESTS)
    result = run_pytest("--harness-transports=tcp,memory")
    usual = "1 skipped, 1 xfailed"
    result.stdout.fnmatch_lines(
        [
            "*= harness: backends x transports =*",
            "         tcp * memory * (none)",
            f"asyncio  2 passed, {usual} * 2 passed, {usual} * 1 passed",
            f"uvloop   1 passed, 1 failed, {usual}  1 passed, 1 failed, {usual}  1 passed",
            f"trio     2 passed, {usual} * 2 passed, 1 failed, {usual}  1 passed",
            "passed on one backend and failed on another:",
            "  *::test_tells_apart[[]tcp[]]: passed on asyncio, trio; failed on uvloop",
            "  *::test_tells_apart[[]memory[]]: passed on asyncio, trio; failed on uvloop",
        ]
    )


def test_backends_are_not_compared_by_the_end_of_a_wider_fixture(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module")
        async def server(anyio_backend):
            yield
            raise OSError("of the server")

        async def test_uses_it(server, harness): ...

        async def test_does_not(harness): ...

        async def test_tells_apart(harness):
            assert harness.backend != "trio"
        """
    )
    result = run_pytest("--harness-transports=memory")
    output = result.stdout.str()
    assert output.count("(from the teardown of the module-scoped fixture 'server'") == 2
    assert "failed on trio" in output.partition("passed on one backend")[2]
    result.stdout.fnmatch_lines(["  *::test_tells_apart[[]memory[]]: *"])
    result.stdout.no_fnmatch_line("  *::test_uses_it[[]memory[]]: *")
    result.stdout.no_fnmatch_line("  *::test_does_not[[]memory[]]: *")


def test_the_matrix_is_off_when_asked(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytester.makepyfile(TESTS)
    cells = ("--harness-transports=memory", "--harness-backends=trio")
    run_pytest(*cells, "-q").stdout.fnmatch_lines(["*backends x transports*"])
    for arguments in (("-q", "-q"), ("-o", "harness_summary=false")):
        run_pytest(*cells, *arguments).stdout.no_fnmatch_line("*backends x transports*")


def test_no_matrix_without_the_harness(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytester.makepyfile("def test_it(): ...")
    run_pytest().stdout.no_fnmatch_line("*backends x transports*")
