"""The snippets of the documentation run, and the README says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from blackbox import RunPytest

import harness

ROOT = Path(__file__).parent.parent
HOOK = re.compile(r"^def pytest_harness_", re.MULTILINE)


def snippets(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def test_the_guides_snippets_run(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytest.importorskip("hypothesis")
    parts = snippets("docs/guide.md")
    hooks = [part for part in parts if HOOK.search(part)]
    tests = [part for part in parts if not HOOK.search(part)]
    assert len(hooks) == 2
    pytester.makepyfile("\n".join(tests))
    pytester.makeconftest("\n".join(hooks))
    result = run_pytest("-W", "error", mode="autoload")
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] > 50
    added = ("--harness-backends=slow-callbacks", "--harness-transports=chopped")
    result = run_pytest(*added, "-k", "test_the_handler_gives_up", mode="autoload")
    assert result.parseoutcomes()["passed"] == 1


def test_the_readmes_test_runs(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    test, _outline = snippets("README.md")
    pytester.makepyfile(test)
    run_pytest("-W", "error").assert_outcomes(passed=12)


def test_the_readmes_outline_is_the_code() -> None:
    _test, outline = snippets("README.md")
    sections = outline.split("class ")
    for cls, section in ((harness.Harness, sections[1]), (harness.Server, sections[2])):
        for name in re.findall(r"def (\w+)\(", section):
            assert callable(getattr(cls, name)), name
    for name in ("address", "host", "port", "path", "client_ssl_context", "connections"):
        assert isinstance(getattr(harness.Server, name), property)
