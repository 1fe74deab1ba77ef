"""The lines of pytest's short summary name the test once, and its cause."""

from __future__ import annotations

import re

import pytest
from blackbox import RunPytest

TESTS = """
    import anyio, asyncio, contextlib, pytest, socket, threading, time

    kept = []

    @pytest.mark.harness(timeout=0.3)
    async def test_hang(harness):
        await anyio.sleep_forever()

    async def test_leak(harness):
        kept.append(socket.socket())

    async def test_leaks(harness):
        kept.append(socket.socket())
        kept.append(anyio.create_memory_object_stream(1))

    def sleepy(seconds):
        time.sleep(seconds)

    @pytest.mark.harness(blocking="error")
    async def test_blocks(harness):
        sleepy(0.5)  # longer than the threshold: that is the test

    @pytest.mark.harness(forbid_get_event_loop=True, allow_leaks=["socket"])
    async def test_forbidden(harness):
        with contextlib.suppress(RuntimeError):
            asyncio.get_event_loop()
"""

#: The test -> its line, after the node id.
LINES = {
    "test_hang": r"the body did not end within 0\.3 s \(harness_timeout\)",
    "test_leak": r"leaked socket, made at test_it\.py:\d+",
    "test_leaks": r"leaked memory stream, made at test_it\.py:\d+, and 2 more",
    "test_blocks": r"blocked the event loop for 0\.\d+ s in sleepy:",
    "test_forbidden": r"asyncio\.get_event_loop\(\) called at test_it\.py:\d+, and the test .*",
}


def test_a_line_begins_with_the_cause(
    pytester: pytest.Pytester,
    run_pytest: RunPytest,
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    pytester.makepyfile(test_it=TESTS)
    result = run_pytest(
        f"--harness-backends={backend}",
        "--harness-transports=memory",
        *("-W", "ignore::DeprecationWarning"),
    )
    summary = result.stdout.str().partition("short test summary info")[2]
    for name, line in LINES.items():
        node = re.escape(f"test_it.py::{name}[{backend}-memory]")
        assert re.search(rf"^(FAILED|ERROR) {node} - Failed: {line}$", summary, re.MULTILINE), name


def test_what_has_no_header_names_the_test(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(test_it=TESTS)
    result = run_pytest(
        f"--harness-backends={backend}",
        "--harness-transports=memory",
        *("-o", "harness_leaks=warn"),
        *("-k", "test_leak"),
    )
    result.assert_outcomes(passed=2, warnings=2)
    node = f"test_it.py::test_leak[[]{backend}-memory]"
    result.stdout.fnmatch_lines([f"*LeakWarning: {node} left behind:", "* leaked socket: *"])
