"""Temporary files of the harness itself that are not removed."""

from __future__ import annotations

import os
import sys

import pytest
from blackbox import RunPytest
from leak_driver import leaks_of, line_of, the_one

from harness import open_harness
from harness.transports import temporary
from harness.transports.temporary import make_directory, remove_directory

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no unix-domain sockets")


async def echo(stream):
    async for chunk in stream:
        await stream.send(chunk)


def test_a_directory_that_is_not_removed(backend):
    async def leak():
        nonlocal directory
        directory = make_directory("this test")  # made here

    directory = ""
    leaks = leaks_of(backend, leak)
    what = f"{directory}, for this test"
    the_one(leaks, "temporary file", what, line_of(leak, "# made here"))
    assert not os.path.exists(directory)  # told, and then put away


def test_a_directory_that_cannot_be_removed(backend, monkeypatch):
    async def leak():
        nonlocal directory
        directory = make_directory("this test")  # made here
        remove_directory(directory)

    directory = ""
    with monkeypatch.context() as patch:
        patch.setattr(temporary.shutil, "rmtree", lambda path, ignore_errors: None)
        leaks = leaks_of(backend, leak)
    the_one(leaks, "temporary file", directory, line_of(leak, "# made here"))
    assert os.path.isdir(directory)
    remove_directory(directory)
    assert temporary.purpose_of(directory) is None


def test_servers_that_end_leave_nothing(backend):
    async def twin():
        async with open_harness(transport="unix") as harness:
            await (await harness.serve(echo)).restart()

    before = list(temporary.listeners)  # the watchdog of processes is one, once it is needed
    assert leaks_of(backend, twin) == []
    assert temporary.listeners == before


def test_the_directory_of_a_wider_fixture(backend):
    async def before():
        nonlocal opened
        opened = open_harness(transport="unix")
        await (await opened.__aenter__()).serve(echo)

    async def nothing():
        pass

    opened = None
    leaks = leaks_of(
        backend, nothing, before=before, after=lambda: opened.__aexit__(None, None, None)
    )
    assert leaks == []


def test_an_endpoint_that_is_not_released_fails_its_test(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest
        from harness.transports.unix import UnixEndpoint

        @pytest.fixture
        def never_released(monkeypatch):
            monkeypatch.setattr(UnixEndpoint, "release", lambda endpoint: None)

        async def echo(stream):
            await stream.send(await stream.receive())

        async def test_leaks(never_released, harness):
            await harness.serve(echo)

        @pytest.mark.harness(allow_leaks=["temporary file"])
        async def test_is_allowed(never_released, harness):
            await harness.serve(echo)

        async def test_next(harness):
            await harness.serve(echo)
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=unix")
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(
        [
            "leaked temporary file, made at test_it.py:12",
            "leaked temporary file: *anyio-harness-*, for the socket of a server",
            "    created at test_it.py:12 in test_leaks: await harness.serve(echo)",
        ],
        consecutive=True,
    )
