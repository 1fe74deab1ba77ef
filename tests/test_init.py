"""``python -m harness init``: what it writes and leaves alone, and that the result is green."""

from __future__ import annotations

import errno
import importlib.util
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from blackbox import BOUND, skip_without

from harness.cli import init, main, new_files
from harness.cli.pytest_settings import find_settings

ROOT = Path(__file__).parent.parent

FILES = [
    "pyproject.toml",
    "tests/conftest.py",
    "tests/test_echo_server.py",
    "noxfile.py",
    ".github/workflows/tests.yml",
]

Init = Callable[..., str]
RunProject = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in an environment with nothing but the harness, from an index."""
    plugins = [Plugin("anyio"), Plugin("harness.pytest_plugin")]
    monkeypatch.setattr(metadata, "entry_points", lambda group: plugins)
    monkeypatch.setattr(init, "harness_requirement", lambda: "anyio-harness")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    project = tmp_path / "project"
    project.mkdir()
    (project / ".git").mkdir()
    monkeypatch.chdir(project)
    return project


class Plugin:
    def __init__(self, name: str) -> None:
        self.name = name
        self.dist = None


@pytest.fixture
def run_init(capsys: pytest.CaptureFixture[str]) -> Init:
    def run(*arguments: str, code: int = 0) -> str:
        assert main(["init", *arguments]) == code
        captured = capsys.readouterr()
        return captured.err if code else captured.out

    return run


def put(folder: Path, files: Mapping[str, str | bytes]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def actions(shown: str) -> dict[str, str]:
    """What becomes of each file, as it is shown."""
    found = re.findall(r"^(create|change|replace|keep|same) +(\S+)", shown, re.MULTILINE)
    return {path: action for action, path in found}


def in_one_line(shown: str) -> str:
    return " ".join(shown.split())


# What it shows and writes


def test_a_new_project(project: Path, run_init: Init) -> None:
    shown = run_init()
    assert actions(shown) == dict.fromkeys(FILES, "create")
    assert sorted(files_in(project)) == sorted(FILES)
    assert shown.splitlines()[0] == f"in {project}"
    assert "note:" not in shown
    assert shown.endswith(
        "written. Next:\n"
        "  python -m pytest\n"
        "  python -m pip install nox && python -m nox\n"
        "  python -m harness doctor  # what works here, and what is missing\n"
    )


def test_who_stops_reading_has_not_said_no(project: Path) -> None:
    """As ``python -m harness init | head -1`` does."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as nobody_reads:
        done = subprocess.run(
            [sys.executable, "-m", "harness", "init", "--yes"],
            stdout=nobody_reads,
            stderr=subprocess.PIPE,
            text=True,
            timeout=BOUND,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert set(FILES) <= set(files_in(project))


def test_a_folder_that_is_not_there_yet(project: Path, run_init: Init) -> None:
    assert "  cd a/b\n" in run_init("a/b")
    assert sorted(files_in(project / "a/b")) == sorted(FILES)


def test_a_second_time_there_is_nothing_to_write(project: Path, run_init: Init) -> None:
    run_init()
    before = files_in(project)
    for arguments in ((), ("--force",)):
        shown = run_init(*arguments)
        assert actions(shown) == dict.fromkeys(FILES, "same")
        assert shown.endswith("\nnothing to write\n")
        assert files_in(project) == before


@pytest.mark.parametrize("folder", [".", "new"])
def test_a_dry_run(project: Path, run_init: Init, folder: str) -> None:
    shown = run_init("--dry-run", folder)
    assert actions(shown) == dict.fromkeys(FILES, "create")
    assert shown.endswith("\nnothing is written: --dry-run\n")
    assert files_in(project) == {}
    assert not (project / "new").exists()


def test_what_is_there_is_kept_unless_it_is_forced(project: Path, run_init: Init) -> None:
    own = {"tests/conftest.py": "OWN = 1\n", ".github/workflows/tests.yml": "on: push\n"}
    put(project, own)
    (project / "tests/conftest.py").chmod(0o600)
    expected = {**dict.fromkeys(FILES, "create"), **dict.fromkeys(own, "keep")}
    assert actions(run_init("--dry-run")) == expected
    run_init()
    assert {name: files_in(project)[name].decode() for name in own} == own
    expected = {**dict.fromkeys(FILES, "same"), **dict.fromkeys(own, "replace")}
    assert actions(run_init("--force")) == expected
    assert (project / "tests/conftest.py").read_text() == new_files.CONFTEST
    assert (project / "tests/conftest.py").stat().st_mode & 0o777 == 0o600
    assert actions(run_init()) == dict.fromkeys(FILES, "same")


def test_a_link_is_written_through(project: Path, run_init: Init) -> None:
    put(project, {"elsewhere.toml": "# mine\n"})
    (project / "pyproject.toml").symlink_to("elsewhere.toml")
    run_init()
    assert (project / "pyproject.toml").is_symlink()
    assert (project / "elsewhere.toml").read_text().startswith("# mine\n\n[tool.pytest")


# pytest's settings


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"# a comment\n[project]\nname = 'x'  # mine\nversion = '1'\n",
        b"[project]\nname = 'x'\nversion = '1'",
        b"[project]\r\nname = 'x'\r\nversion = '1'\r\n",
        b"\xef\xbb\xbf[tool.other]\nx = 1\n",
        b"[tool.pytest]\n",
    ],
)
def test_a_table_is_added_to_pyproject_and_nothing_else(
    project: Path, run_init: Init, before: bytes
) -> None:
    put(project, {"pyproject.toml": before})
    shown = run_init()
    assert actions(shown)["pyproject.toml"] == "change"
    after = (project / "pyproject.toml").read_bytes()
    assert after.startswith(before)
    assert (b"\r" in after.replace(b"\r\n", b"")) is False
    assert (b"\r\n" in after) is (b"\r\n" in before)
    assert (b"\n" in after.replace(b"\r\n", b"")) is (b"\r\n" not in before)
    assert after.count(b"[tool.pytest.ini_options]") == 1
    assert actions(run_init())["pyproject.toml"] == "same"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("pyproject.toml", "[tool.pytest.ini_options]\naddopts = '-q'\n"),
        ("pyproject.toml", "[tool.pytest]\naddopts = ['-q']\n"),
        ("pyproject.toml", "tool = {pytest = {ini_options = {addopts = '-q'}}}\n"),
        ("pytest.ini", ""),
        ("pytest.toml", ""),
        ("tox.ini", "[pytest]\naddopts = -q\n"),
        ("setup.cfg", "[tool:pytest]\naddopts = -q\n"),
    ],
)
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_settings_that_are_there_stay(
    project: Path, run_init: Init, file: str, text: str, force: list[str]
) -> None:
    """Wherever pytest has them from: those of another file would no longer count."""
    put(project, {file: text})
    shown = run_init(*force)
    assert actions(shown)[file] == "keep"
    assert "they stay as they are" in shown
    assert (project / file).read_text() == text
    assert file == "pyproject.toml" or "pyproject.toml" not in files_in(project)


def test_a_table_that_cannot_be_added_to(project: Path, run_init: Init) -> None:
    text = "tool = {other = {x = 1}}\n"
    put(project, {"pyproject.toml": text})
    shown = run_init()
    assert actions(shown)["pyproject.toml"] == "keep"
    assert "add by hand: [tool.pytest.ini_options]" in shown
    assert (project / "pyproject.toml").read_text() == text


def test_settings_of_a_folder_above(project: Path, run_init: Init) -> None:
    """They are somebody else's for a new project, and its own for one that has tests."""
    put(project, {"tox.ini": "[pytest]\n", "old/tests/test_it.py": "def test_it(): pass\n"})
    assert actions(run_init("new"))["pyproject.toml"] == "create"
    assert actions(run_init("old"))[str(project / "tox.ini")] == "keep"


def test_settings_do_not_break_or_hide_tests_that_are_there(
    project: Path, run_init: Init, monkeypatch: pytest.MonkeyPatch
) -> None:
    # There may be some above the temporary directory.
    monkeypatch.setattr(
        init, "find_settings", lambda folder, parents: find_settings(folder, parents=False)
    )
    put(
        project,
        {"tests/test_it.py": "", ".venv/test_x.py": "", "v/pyvenv.cfg": "", "v/test.py": ""},
    )
    run_init()
    text = (project / "pyproject.toml").read_text()
    assert "testpaths" in text
    assert "strict" not in text
    (project / "pyproject.toml").unlink()
    put(project, {"package/test_it.py": ""})
    run_init()
    assert "testpaths" not in (project / "pyproject.toml").read_text()


def test_the_folder_of_the_tests(project: Path, run_init: Init) -> None:
    (project / "test").mkdir()
    assert "test/conftest.py" in actions(run_init("--dry-run"))
    put(project, {"pytest.ini": "[pytest]\ntestpaths =\n    src/*/tests\n    spec/unit\n"})
    assert "spec/unit/conftest.py" in actions(run_init("--dry-run"))


@pytest.mark.parametrize(
    ("patterns", "name"),
    [
        ("*_test.py", "echo_server_test.py"),
        ("check_*.py", "check_echo_server.py"),
        ("check_*", "check_echo_server.py"),
        ("*Test.py", "EchoServerTest.py"),
        ("Check*.py", "CheckEchoServer.py"),
        ("tests.py\n    *_spec.py\n    check_*.py", "echo_server_spec.py"),
        ("tests/*_test.py", "echo_server_test.py"),
        ("*_test.py\n    test_*.py", "test_echo_server.py"),
        ("tests/test_*.py", "test_echo_server.py"),
        ("test*", "test_echo_server.py"),
    ],
)
def test_the_name_of_the_first_test_is_one_that_pytest_looks_for(
    project: Path, run_init: Init, patterns: str, name: str
) -> None:
    put(project, {"pytest.ini": f"[pytest]\npython_files =\n    {patterns}\n"})
    shown = run_init()
    assert actions(shown)[f"tests/{name}"] == "create"
    assert "note:" not in shown
    assert (project / "tests" / name).read_text() == new_files.TEST
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=BOUND,
        check=True,
    )
    assert f"tests/{name}::test_an_echo" in ran.stdout
    shown = run_init()
    assert set(actions(shown).values()) == {"same", "keep"}
    assert actions(shown)["pytest.ini"] == "keep"


@pytest.mark.parametrize("patterns", ["tests.py", "*_test_*.py", "other/*_test.py", "*_test"])
def test_a_first_test_that_pytest_does_not_look_for(
    project: Path, run_init: Init, patterns: str
) -> None:
    put(project, {"pytest.ini": f"[pytest]\npython_files = {patterns}\n"})
    note = in_one_line(run_init())
    assert f"python_files = {patterns} leaves tests/test_echo_server.py out: rename it" in note
    assert (project / "tests/test_echo_server.py").read_text() == new_files.TEST


def test_settings_of_the_project_do_not_name_a_test_apart(project: Path, run_init: Init) -> None:
    settings = "[pytest]\npython_files = *_test.py\nasyncio_mode = auto\n"
    put(project, {"pytest.ini": settings})
    shown = run_init()
    assert actions(shown)["tests/harness_tests/test_echo_server.py"] == "create"
    assert "python_files" not in shown


# noxfile and workflow


@pytest.mark.parametrize(
    ("files", "arguments", "installs"),
    [
        ({}, "", ""),
        ({"setup.py": ""}, "", "-e . "),
        ({"pyproject.toml": "[build-system]\nrequires = []"}, "", "-e . "),
        (
            {"pyproject.toml": "[project.optional-dependencies]\ndev = []\ntest = []"},
            ', extras=["test"]',
            '-e ".[test]" ',
        ),
        (
            {"pyproject.toml": "[dependency-groups]\ntests = []\ndocs = []"},
            ', groups=["tests"]',
            "--group tests ",
        ),
        (
            {"requirements-dev.txt": ""},
            ', install=["-r", "requirements-dev.txt"]',
            "-r requirements-dev.txt ",
        ),
    ],
)
def test_what_the_tests_need_is_installed(
    project: Path, run_init: Init, files: dict[str, str], arguments: str, installs: str
) -> None:
    put(project, files)
    run_init()
    sessions = f'backend_sessions(tests=["tests"]{arguments})'
    assert sessions in (project / "noxfile.py").read_text()
    workflow = project / ".github/workflows/tests.yml"
    assert "- run: python -m nox -s \"tests(backend='${{ matrix.backend }}')\"\n" in (
        workflow.read_text()
    )
    # A noxfile without these sessions is kept, and the workflow does without them.
    workflow.unlink()
    put(project, {"noxfile.py": "import nox\n"})
    shown = run_init()
    assert sessions in in_one_line(shown)
    assert f"- run: python -m pip install {installs}anyio-harness\n" in workflow.read_text()
    assert "nox" not in workflow.read_text()
    assert ("--upgrade pip" in workflow.read_text()) is ("--group" in installs)


def test_the_harness_from_where_it_is(
    project: Path, run_init: Init, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a repository, everybody can have it; from a file, only this machine."""
    repository = "anyio-harness @ git+https://example.com/h@1"
    monkeypatch.setattr(init, "harness_requirement", lambda: repository)
    run_init()
    for file in ("noxfile.py", ".github/workflows/tests.yml"):
        assert f'"{repository}"' in (project / file).read_text()
    monkeypatch.setattr(init, "harness_requirement", lambda: "anyio-harness @ file:///w.whl")
    shown = run_init("new")
    assert "was installed here from file:///w.whl" in in_one_line(shown)
    assert all(b"w.whl" not in text for text in files_in(project).values())


@pytest.mark.parametrize(
    ("wanted", "pythons"),
    [
        (">=3.12", '["3.12", "3.14"]'),
        (">=3.11,<3.13", '["3.11", "3.12"]'),
        (">=3.13.5,<3.14", '["3.13"]'),
        (">=3.99", '["3.14"]'),
        ("nonsense", '["3.10", "3.14"]'),
    ],
)
def test_the_pythons_of_the_workflow(
    project: Path, run_init: Init, wanted: str, pythons: str
) -> None:
    put(project, {"pyproject.toml": f'[project]\nrequires-python = "{wanted}"\n'})
    run_init()
    assert f"python: {pythons}\n" in (project / ".github/workflows/tests.yml").read_text()


def test_a_workflow_below_the_top_of_a_repository(project: Path, run_init: Init) -> None:
    note = in_one_line(run_init("below"))
    assert f"GitHub reads workflows at the top of the repository only, {project}" in note


# Plugins in the way


@pytest.mark.parametrize(
    ("plugin", "settings"), [("asyncio", "asyncio_mode = auto"), ("trio", "trio_mode = true")]
)
def test_a_plugin_that_takes_every_test_keeps_its_own(
    project: Path, run_init: Init, plugin: str, settings: str
) -> None:
    put(project, {"pytest.ini": f"[pytest]\n{settings}\n", "tests/test_own.py": ""})
    before = files_in(project)
    shown = run_init()
    assert sorted(actions(shown)) == sorted(
        [
            *(f"tests/harness_tests/{name}" for name in ("pytest.ini", "conftest.py")),
            "tests/harness_tests/test_echo_server.py",
            *FILES[3:],
        ]
    )
    note = in_one_line(shown)
    assert f"pytest-{plugin} would take the harness's tests for itself: {settings}" in note
    assert "  python -m pytest tests/harness_tests\n" in shown
    assert files_in(project).items() >= before.items()
    apart = (project / "tests/harness_tests/pytest.ini").read_text()
    assert f"-p no:{plugin}" in apart
    assert 'tests=["tests/harness_tests"]' in (project / "noxfile.py").read_text()
    assert set(actions(run_init()).values()) == {"same"}


def test_a_plugin_that_a_new_project_does_without(
    project: Path, run_init: Init, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "entry_points", lambda group: [Plugin("aiomisc")])
    shown = run_init()
    assert "addopts keeps it away, -p no:aiomisc" in in_one_line(shown)
    assert '"-p", "no:aiomisc"' in (project / "pyproject.toml").read_text()


# What is wrong


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"pyproject.toml": "[project]\nname = 'x'\nversion 1\n"},
            "pyproject.toml:3: is not valid TOML: ",
        ),
        ({"pyproject.toml": b"[project]\nname = '\xff'\n"}, "pyproject.toml:2: is not UTF-8"),
        ({"pyproject.toml/x": ""}, f"pyproject.toml: cannot be read: {os.strerror(errno.EISDIR)}"),
        ({"tox.ini": "[pytest]\na = b\nc\n"}, "tox.ini:3: is not valid: unexpected line: 'c'"),
        ({"tests": ""}, "tests: is not a folder, and tests/conftest.py has to be in it"),
        ({"noxfile.py/x": ""}, "noxfile.py: is a folder, and has to be a file"),
        ({".github": ""}, ".github: is not a folder, and .github/workflows/tests.yml has to be"),
    ],
)
def test_what_cannot_be_read(
    project: Path, run_init: Init, files: dict[str, str | bytes], message: str
) -> None:
    put(project, files)
    before = files_in(project)
    error = run_init("--force", code=1)
    start = "python -m harness init: error: "
    assert error.startswith(start)
    assert error.removeprefix(start).removeprefix(f"{project}/").startswith(message)
    assert files_in(project) == before


def test_a_folder_that_is_a_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(project, {"file": ""})
    with pytest.raises(SystemExit) as ended:
        main(["init", "file"])
    assert ended.value.code == 2
    assert "argument FOLDER: 'file' is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize("moment", range(len(FILES)))
@pytest.mark.parametrize("function", ["open", "replace"])
def test_one_that_cannot_be_written_undoes_the_others(
    project: Path,
    run_init: Init,
    monkeypatch: pytest.MonkeyPatch,
    moment: int,
    function: str,
) -> None:
    put(project, {"pyproject.toml": "[project]\n", "noxfile.py": "# mine\n"})
    before = files_in(project)
    calls = 0
    real: Any = open if function == "open" else os.replace

    def failing(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > moment:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    if function == "open":
        monkeypatch.setattr(init, "open", failing, raising=False)
    else:
        monkeypatch.setattr(os, "replace", failing)
    error = run_init("--force", code=1)
    assert error == (
        f"python -m harness init: error: {FILES[moment]}: cannot be written: "
        "No space left on device; everything is as it was\n"
    )
    monkeypatch.undo()
    assert files_in(project) == before
    assert sorted(path.name for path in project.iterdir()) == [
        ".git",
        "noxfile.py",
        "pyproject.toml",
    ]


def test_what_cannot_be_undone_is_named(
    project: Path, run_init: Init, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.replace
    calls = []

    def failing(new: Path, path: Path) -> None:
        calls.append(path)
        if len(calls) > 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(new, path)

    def stubborn(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "replace", failing)
    monkeypatch.setattr(Path, "unlink", stubborn)
    error = run_init(code=1)
    assert "; this is left of it: pyproject.toml, " in error
    assert "as it was" not in error


@pytest.mark.parametrize(
    ("answer", "code", "last"), [("n", 1, "nothing is written"), ("", 0, "harness doctor")]
)
def test_on_a_terminal_it_asks(project: Path, answer: str, code: int, last: str) -> None:
    written, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "init"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    os.close(terminal)
    bound = threading.Timer(BOUND, process.kill)
    bound.start()
    shown = b""
    try:
        while b"[Y/n] " not in shown:
            shown += os.read(written, 4096)
        os.write(written, answer.encode() + b"\n")
        try:
            while chunk := os.read(written, 4096):
                shown += chunk
        except OSError:  # its end, on Linux
            pass
        assert process.wait() == code, shown
    finally:
        process.kill()
        process.wait()
        bound.cancel()
        os.close(written)
    assert last in shown.decode().splitlines()[-1]
    assert bool(files_in(project)) is (code == 0)


def test_the_help_names_what_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["init", "--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in (*FILES, init.APART))
    assert max(map(len, text.splitlines())) <= 100


def test_the_guide_shows_what_it_prints_and_writes(project: Path, run_init: Init) -> None:
    section = (ROOT / "docs/guide.md").read_text().partition("## From zero\n")[2]
    (project / "shop/.git").mkdir(parents=True)
    printed = run_init("shop").replace(str(project), "/home/me")
    assert f"```\n$ python -m harness init shop\n{printed}```\n" in section
    assert f"```py\n{(project / 'shop/noxfile.py').read_text()}```\n" in section


# What comes of it, with the harness from its wheel


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the wheel is installed, alone: its needs are there already."""
    wheels = tmp_path_factory.mktemp("wheels")
    # What builds it need not be fetched where it is installed.
    here = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    site = tmp_path_factory.mktemp("site")
    subprocess.run(
        [*pip, "wheel", "--no-deps", *here, "--wheel-dir", str(wheels), str(ROOT)],
        check=True,
        timeout=BOUND,
    )
    (wheel,) = wheels.glob("anyio_harness-*.whl")
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)],
        check=True,
        timeout=BOUND,
    )
    return site


@pytest.fixture
def run_project(project: Path, site: Path) -> RunProject:
    """Runs Python in the project, as its user would, with the wheel's harness."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        path = os.pathsep.join([os.path.dirname(sys.executable), env.get("PATH", "")])
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=project,
            env={**env, "PYTHONPATH": str(site), "PATH": path},
            capture_output=True,
            text=True,
            timeout=BOUND,
        )

    return run


def test_a_new_project_is_green(project: Path, run_project: RunProject) -> None:
    made = run_project("-m", "harness", "init")
    assert made.returncode == 0, made.stderr
    ran = run_project("-m", "pytest")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "24 passed" in ran.stdout
    assert "harness: backends x transports" in ran.stdout


def test_its_sessions_are_green(project: Path, run_project: RunProject, backend: str) -> None:
    skip_without("nox")
    run_project("-m", "harness", "init")
    ran = run_project(
        *("-m", "nox", "--no-venv", "--no-install", "--session", f"tests(backend='{backend}')")
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "8 passed" in ran.stdout


AUTO = {
    "pytest.ini": "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    "pythonpath = src\n",
    "src/shop.py": "PRICE = 3\n",
    "tests/test_own.py": "import asyncio\nasync def test_own(): await asyncio.sleep(0)\n",
}


AUTO_MODE = ["-o", "asyncio_mode=auto"]

LEFT_OUT = (
    "tests/harness_tests was left out of this run, which has the plugin asyncio: "
    "pytest tests/harness_tests\n"
)


def test_a_project_with_pytest_asyncio_in_auto_mode_is_green(
    project: Path, run_project: RunProject
) -> None:
    skip_without("pytest_asyncio")
    put(project, AUTO)
    assert run_project("-m", "harness", "init").returncode == 0
    ran = run_project("-m", "pytest")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 passed" in ran.stdout
    assert LEFT_OUT in ran.stdout
    put(project, {"tests/harness_tests/test_shop.py": "from shop import PRICE\ndef test(): ...\n"})
    ran = run_project("-m", "pytest", "tests/harness_tests")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "25 passed" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "left_out"),
    [
        (["tests/test_own.py", "tests/harness_tests"], True),
        (["tests/test_own.py", "tests/harness_tests/test_echo_server.py"], False),
        (["tests/harness_tests", "-p", "asyncio", *AUTO_MODE], True),
        (["tests/harness_tests/test_echo_server.py", "-p", "asyncio"], False),
        (["tests/harness_tests/test_echo_server.py", "-p", "asyncio", *AUTO_MODE], False),
    ],
)
def test_what_is_named_is_not_said_to_be_left_out(
    project: Path, run_project: RunProject, arguments: list[str], left_out: bool
) -> None:
    """pytest collects a file that is an argument without asking whether to leave it out."""
    skip_without("pytest_asyncio")
    put(project, AUTO)
    assert run_project("-m", "harness", "init").returncode == 0
    ran = run_project("-m", "pytest", *arguments, "--harness-transports=memory")
    assert (LEFT_OUT in ran.stdout) is left_out
    assert ("left out" in ran.stdout) is left_out
    mode_is_auto = AUTO_MODE[1] in arguments or "tests/test_own.py" in arguments
    refused = "is a test of the harness, but pytest-asyncio is in auto mode" in ran.stderr
    assert refused is (mode_is_auto and not left_out)
    if not (refused or left_out):
        assert "6 passed" in ran.stdout


CONFTEST = """
import asyncio
import pytest
from harness.transports.memory import MemoryTransport

def loop_with_debug():
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    return loop

def pytest_harness_backends(config):
    return {"own-loop": ("asyncio", {"loop_factory": loop_with_debug})}

class Chopped(MemoryTransport):
    name = "chopped"

    def __init__(self):
        super().__init__(chunking_seed=7)

def pytest_harness_transports(config):
    return {"chopped": Chopped}

@pytest.fixture
async def shouting(harness):
    async def shout(stream):
        async for chunk in stream:
            await stream.send(chunk.upper())

    return await harness.serve(shout)
"""

OWN_TEST = """
import asyncio
import harness as package
from anyio.streams.buffered import BufferedByteReceiveStream

async def test_shouting(shouting, harness):
    assert package.__file__.startswith(SITE)
    assert harness.transport.name == "chopped"
    if harness.backend == "own-loop":
        assert asyncio.get_running_loop().get_debug()
    async with await shouting.connect() as client:
        await client.send(b"hello" * 100)
        received = await BufferedByteReceiveStream(client).receive_exactly(500)
    assert received == b"HELLO" * 100
"""


def test_a_project_adds_fixtures_a_backend_and_a_transport(
    project: Path, site: Path, run_project: RunProject
) -> None:
    """With the harness as it is shipped, and the files of `init` around it."""
    put(
        project,
        {
            "pytest.ini": "[pytest]\n",
            "tests/conftest.py": CONFTEST,
            "tests/test_own.py": OWN_TEST.replace("SITE", repr(str(site))),
        },
    )
    shown = run_project("-m", "harness", "init").stdout
    assert actions(shown)["tests/conftest.py"] == "keep"
    ran = run_project(
        *("-m", "pytest", "-p", "no:asyncio", "-p", "no:trio", "-v"),
        *("--harness-backends=own-loop,trio", "--harness-transports=chopped"),
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "6 passed" in ran.stdout
    for backend in ("own-loop", "trio"):
        assert f"test_own.py::test_shouting[{backend}-chopped] PASSED" in ran.stdout
