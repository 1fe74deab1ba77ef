"""The snippets of the documentation run, and the README says what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from blackbox import RunPytest

import harness
from harness import backends, transports
from harness.leaks import ALL
from harness.pytest_plugin import options

ROOT = Path(__file__).parent.parent
OWN_BACKEND = re.compile(r"^def anyio_backend\(", re.MULTILINE)
#: In a file of its own: it has no other test's names, and no other fixture holds its event loop.
OF_ITS_OWN = re.compile(r"^from harness\.conformance import", re.MULTILINE)
HOOK = re.compile(r"^def pytest_harness_", re.MULTILINE)


def snippets(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def test_the_guides_snippets_run(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytest.importorskip("hypothesis")
    parts = [part for part in snippets("docs/guide.md") if not OWN_BACKEND.search(part)]
    hooks = [part for part in parts if HOOK.search(part)]
    apart = [part for part in parts if OF_ITS_OWN.search(part)]
    tests = [part for part in parts if not HOOK.search(part) and part not in apart]
    assert len(hooks) == 2
    assert len(apart) == 1
    pytester.makepyfile("\n".join(tests), test_apart=apart[0])
    pytester.makeconftest("\n".join(hooks))
    result = run_pytest("-W", "error", mode="autoload")
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] > 50
    added = ("--harness-backends=slow-callbacks", "--harness-transports=chopped")
    result = run_pytest(*added, "-k", "test_the_handler_gives_up", mode="autoload")
    assert result.parseoutcomes()["passed"] == 1


def test_the_guides_server_of_the_session_serves(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    """A project's own ``anyio_backend`` is everybody's in its file, so it has one of its own."""
    (part,) = (part for part in snippets("docs/guide.md") if OWN_BACKEND.search(part))
    pytester.makepyfile(test_it=part)
    run_pytest("-W", "error").assert_outcomes(passed=2)
    params = part.replace(
        'scope="session")\ndef', 'scope="session", params=["asyncio", "trio"])\ndef'
    )
    params = params.replace(
        'anyio_backend():\n    return "asyncio"',
        "anyio_backend(request):\n    return request.param",
    )
    assert params.count("param") == 2
    pytester.makepyfile(test_it=params)
    result = run_pytest("-W", "error", "-v")
    result.assert_outcomes(passed=4)
    names = re.findall(r"^test_it\.py::(\S+) PASSED", result.stdout.str(), re.MULTILINE)
    assert names == [
        "test_one[asyncio]",
        "test_other[asyncio]",
        "test_one[trio]",
        "test_other[trio]",
    ]


def test_the_harness_is_no_fixture_of_a_module(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module")
        async def server(harness): ...

        @pytest.mark.harness(backends=["asyncio"], transports=["memory"])
        async def test_it(server): ...
        """
    )
    run_pytest().stdout.fnmatch_lines(["*ScopeMismatch*"])


class Options:
    """Stands for pytest's parser, and takes a note of what is added to it."""

    def __init__(self) -> None:
        self.ini: dict[str, Any] = {}
        self.command_line: set[str] = set()

    def getgroup(self, *_: str) -> Options:
        return self

    def addoption(self, name: str, **_: Any) -> None:
        self.command_line.add(name)

    def addini(self, name: str, *, default: Any, **_: Any) -> None:
        self.ini[name] = default


def test_the_guides_table_of_settings_is_complete() -> None:
    added = Options()
    options.pytest_addoption(added)  # type: ignore[arg-type]
    table = (ROOT / "docs/guide.md").read_text().partition("## All settings\n")[2]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.partition("\n## ")[0].splitlines()
        if line.startswith("| ") and not line.startswith(("| ---", "| marker"))
    ]
    columns = [[cell.strip("`") for cell in column] for column in zip(*rows, strict=True)]
    markers, ini, command_line, default, _ = columns
    named = {marker.partition("=")[0] for marker in markers if marker}
    assert named == set(options.Marked.__dataclass_fields__)
    assert all(
        f"{marker.partition('=')[0]}=" in options.MARKER_HELP for marker in markers if marker
    )
    assert {name for name in ini if name} == set(added.ini)
    assert {name for name in command_line if name} == added.command_line
    told = dict(zip(ini, default, strict=True))
    for name, value in added.ini.items():
        match value:
            case []:
                module = backends if name == "harness_backends" else transports
                assert told[name].split() == list(module.DEFAULT)
            case bool():
                assert told[name] == str(value).lower()
            case "":
                assert told[name].startswith("error")
            case str():
                assert told[name] == value or float(told[name]) == float(value)


def test_the_guides_kinds_of_leak_are_all_there_are() -> None:
    guide = (ROOT / "docs/guide.md").read_text()
    table = guide.partition("| kind | what is left |\n")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `([\w ]+)` \|", table, re.MULTILINE) == list(ALL)


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
