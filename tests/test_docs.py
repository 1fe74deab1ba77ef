"""The snippets of the documentation run, and the README says what the code does."""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import images
import pytest
from blackbox import RunPytest, skip_without

import harness
from harness import backends, transports
from harness.leaks import ALL
from harness.pytest_plugin import options

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
OWN_BACKEND = re.compile(r"^def anyio_backend\(", re.MULTILINE)
#: In a file of its own: it has no other test's names, and no other fixture holds its event loop.
OF_ITS_OWN = re.compile(r"^from harness\.conformance import", re.MULTILINE)
HOOK = re.compile(r"^def pytest_harness_", re.MULTILINE)


def snippets(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


#: Pages that have tests of their own, here or in `test_upstream_bugs.py`.
APART = {"guide.md", "upstream-bugs.md"}
#: A block of code, in a content tab too. Without a title it has to run and pass, with "fails" to
#: fail and to print the block "output" after it; `py` is what somebody comes from, with its name.
BLOCK = re.compile(
    r'^( *)```(python|py|text)(?: title="([^"\n]+)")?\n(.*?)^\1```', re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    language: str
    title: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    for _, language, title, text in BLOCK.findall(page.read_text()):
        yield Block(language, title, textwrap.dedent(text))


PAGES = [page for page in sorted(DOCS.rglob("*.md")) if page.name not in APART]


def name_of(page: Path) -> str:
    return re.sub(r"\W", "_", str(page.relative_to(DOCS).with_suffix("")))


def new_blocks(page: Path) -> list[str]:
    return [text for language, title, text in blocks(page) if (language, title) == ("python", "")]


def test_the_pages_snippets_run(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    """One file for each page, whose snippets build on one another; all in one run."""
    for name in ("httpx", "anycorn"):
        pytest.importorskip(name)
    parts = {f"test_{name_of(page)}": "\n".join(new_blocks(page)) for page in PAGES}
    parts = {name: part for name, part in parts.items() if part}
    assert len(parts) > 12
    pytester.makepyfile(**parts)
    result = run_pytest("-W", "error", f"--harness-backends={backend}", mode="autoload")
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] > 50


def as_pattern(line: str) -> str:
    """For `fnmatch_lines`: what differs from run to run may."""
    line = line.replace("[", "[[]")
    line = re.sub(r"\btest_\w+\.py:\d+", "*.py:*", line)
    line = re.sub(r"\b127\.\d\.0\.1:\d+", "127.*", line)
    line = re.sub(r"\bdescriptor \d+", "descriptor *", line)
    return re.sub(r" {2,}", "*", line)


def test_what_fails_on_a_page_fails_as_it_says(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    names, expected = [], []
    for page in PAGES:
        before: list[str] = []
        for language, title, text in blocks(page):
            if (language, title) == ("python", ""):
                before.append(text)
            elif (language, title) == ("python", "fails"):
                name = f"test_fails_{len(names)}"
                pytester.makepyfile(**{name: "\n".join([*before, text])})
                (test,) = re.findall(r"^async def (test_\w+)\(", text, re.MULTILINE)
                names.append(f"{name}.py::{test}")
            elif title == "output":
                expected.append(text)
    assert len(names) == len(expected) > 2
    result = run_pytest("--harness-backends=asyncio", "--harness-transports=memory", *names)
    for name, output in zip(names, expected, strict=True):
        result.stdout.re_match_lines([rf"(FAILED|ERROR) {re.escape(name)}\["])
        result.stdout.fnmatch_lines([as_pattern(line) for line in output.splitlines()])


OLD = [page for page in PAGES if any(block.language == "py" for block in blocks(page))]


@pytest.mark.parametrize("page", OLD, ids=name_of)
def test_what_somebody_comes_from_is_python(page: Path) -> None:
    old = [(title, text) for language, title, text in blocks(page) if language == "py"]
    assert all(title for title, _ in old)
    for title, text in old:
        compile(text, f"{page.name}, {title}", "exec")


@pytest.mark.parametrize("name", ["asyncio", "trio"])
def test_what_somebody_comes_from_runs(
    pytester: pytest.Pytester, run_pytest: RunPytest, name: str
) -> None:
    """Beside the harness, which leaves these tests alone."""
    skip_without(f"pytest_{name}")
    page = DOCS / "coming-from" / f"pytest-{name}.md"
    pytester.makepyfile("\n".join(text for kind, _, text in blocks(page) if kind == "py"))
    if name == "asyncio":
        pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    run_pytest("-p", f"pytest_{name}.plugin").assert_outcomes(passed=3)


@pytest.mark.parametrize("package", ["", "adapters", "conformance", "faults", "virtualtime"])
def test_the_reference_has_every_public_name(package: str) -> None:
    name = f"harness.{package}".rstrip(".")
    page = (DOCS / "reference" / f"{package or 'harness'}.md").read_text()
    told = re.findall(rf"^::: {re.escape(name)}\.(\w+)$", page, re.MULTILINE)
    aliases = {"Handler"}  # a type, which has no docstring
    assert set(told) == set(import_module(name).__all__) - aliases


def test_every_page_is_in_the_navigation() -> None:
    """`mkdocs build --strict` says so too, where it is installed."""
    settings = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    told = re.findall(r"([\w/-]+\.md)$", settings, re.MULTILINE)
    assert sorted(told) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


@pytest.mark.skipif(sys.platform == "win32", reason="the pictures have uvloop and unix sockets")
@pytest.mark.parametrize("name", images.PICTURES)
def test_a_picture_is_what_pytest_prints(name: str) -> None:
    assert images.text_of(name) == images.printed(name), "python tests/images.py draws it anew"


def test_the_guides_snippets_run(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    """On all backends, as in a run of a reader's: one of them has a fixture that keeps its loop."""
    if backend != "asyncio":
        pytest.skip("it runs with those of asyncio")
    for name in ("hypothesis", "httpx", "anycorn"):
        pytest.importorskip(name)
    parts = [part for part in snippets("docs/guide.md") if not OWN_BACKEND.search(part)]
    hooks = [part for part in parts if HOOK.search(part)]
    apart = [part for part in parts if OF_ITS_OWN.search(part)]
    tests = [part for part in parts if not HOOK.search(part) and part not in apart]
    assert len(hooks) == 2
    assert len(apart) == 3
    pytester.makepyfile("\n".join(tests), test_apart="\n".join(apart))
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


def messages() -> Iterator[str]:
    """Every string in the source; what an f-string fills in is an ellipsis."""
    for file in (ROOT / "harness").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "…"
                    for part in node.values
                )


def test_every_error_on_the_page_is_still_in_the_source() -> None:
    page = (DOCS / "faq.md").read_text()
    told = re.findall(r"^### `(.+)`$", page, re.MULTILINE)
    assert len(told) == len(re.findall(r"^### ", page, re.MULTILINE)) > 40
    source = [" ".join(message.split()) for message in messages()]
    for message in told:
        parts = message.split("…")
        near = [each for each in source if all(part in each for part in parts)]
        pattern = ".*".join(map(re.escape, parts))
        assert any(re.search(pattern, each) for each in near), message
