"""``harness.nox``: what a noxfile gets from it, and that it needs nothing where nox runs."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import pytest
from blackbox import BOUND, skip_without

from harness import nox as harness_nox
from harness.nox import backend_sessions, harness_requirement

ROOT = Path(__file__).parent.parent

#: Runs nox in an environment that has nothing but nox.
NOTHING_BUT_NOX = """
import sys
for name in ("anyio", "harness", "pytest", "trio", "uvloop"):
    sys.modules[name] = None
import nox
sys.exit(nox.main())
"""


def run_python(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    # `python` is this one in a session without an environment of its own, too.
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PATH": path, **env},
        capture_output=True,
        text=True,
        timeout=BOUND,
    )


def sessions_in(listed: str) -> dict[str, tuple[str, str]]:
    """The sessions of `nox --list`: whether they are run by default, and what they say."""
    found = re.findall(r"^([*-]) (\S+)(?: -> (.*))?$", listed, re.MULTILINE)
    return {name: (selected, doc) for selected, name, doc in found}


class Quit(Exception):
    """A session has ended itself."""


class Session:
    """Stands for nox's, and takes a note of what is done with it."""

    def __init__(self, python: str | None = None, posargs: tuple[str, ...] = ()) -> None:
        self.python = python
        self.posargs = posargs
        self.installed: list[tuple[str, ...]] = []
        self.ran: list[tuple[str, ...]] = []
        self.env: dict[str, str | None] = {}

    def install(self, *arguments: str) -> None:
        self.installed.append(arguments)

    def run(self, *arguments: str, env: dict[str, str | None]) -> None:
        self.ran.append(arguments)
        self.env = env

    def skip(self, reason: str) -> NoReturn:
        raise Quit(reason)

    error = skip


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The sessions that a test registers, in an empty folder, and none of another's."""
    skip_without("nox")
    import nox.registry

    nox.registry.reset()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(harness_nox, "harness_requirement", lambda: "HARNESS")
    yield nox.registry
    nox.registry.reset()


def run_session(registry: Any, session: Session, backend: str = "trio") -> Session:
    (function,) = registry.get().values()
    function(session, backend=backend)
    return session


def test_a_session_for_each_backend(tmp_path: Path) -> None:
    skip_without("nox")
    (tmp_path / "noxfile.py").write_text(
        "from harness.nox import backend_sessions\n"
        "backend_sessions()\n"
        "backend_sessions('all', pythons=['3.10', '3.11'], backends=['trio'], default=False,\n"
        "                 doc='On each Python.')\n"
    )
    listed = run_python("-m", "nox", "--list", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert listed.returncode == 0, listed.stderr
    assert sessions_in(listed.stdout) == {
        "tests(backend='asyncio')": ("*", "The tests on one backend."),
        "tests(backend='uvloop')": ("*", "The tests on one backend."),
        "tests(backend='trio')": ("*", "The tests on one backend."),
        "all-3.10(backend='trio')": ("-", "On each Python."),
        "all-3.11(backend='trio')": ("-", "On each Python."),
    }


def test_nox_runs_the_tests_on_that_backend(tmp_path: Path) -> None:
    skip_without("nox")
    (tmp_path / "noxfile.py").write_text(
        "from harness.nox import backend_sessions\n"
        "backend_sessions(options=['-p', 'no:asyncio', '-p', 'no:trio',\n"
        "                          '--harness-transports=memory'], env={'WHERE': 'nox'})\n"
    )
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(
        "import os\n"
        "async def test_it(harness):\n"
        "    assert harness.backend == 'trio' and os.environ['WHERE'] == 'nox'\n"
    )
    ran = run_python(
        *("-m", "nox", "--no-venv", "--no-install", "--session", "tests(backend='trio')"),
        cwd=tmp_path,
        PYTHONPATH=str(ROOT),
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="",
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 passed" in ran.stdout


def test_what_is_installed(registry: Any, tmp_path: Path) -> None:
    backend_sessions(install=["httpx"])
    session = run_session(registry, Session())
    assert session.installed == [("httpx", "HARNESS")]
    assert session.ran == [("python", "-m", "pytest", "--harness-backends=trio", "tests")]

    (tmp_path / "setup.py").touch()
    assert run_session(registry, Session()).installed == [("-e", ".", "httpx", "HARNESS")]


@pytest.mark.parametrize("table", ['[project]\nname = "x"', "[build-system]\nrequires = []"])
def test_the_project_with_its_extras_and_groups(registry: Any, tmp_path: Path, table: str) -> None:
    groups = '[dependency-groups]\ntest = ["attrs", {include-group = "more"}]\nmore = ["h11"]\n'
    (tmp_path / "pyproject.toml").write_text(f"{table}\n{groups}")
    backend_sessions(extras=["fast", "tls"], groups=["test"])
    (installed,) = run_session(registry, Session()).installed
    assert installed == ("-e", ".[fast,tls]", "attrs", "h11", "HARNESS")


def test_what_is_not_there_to_be_installed(registry: Any, tmp_path: Path) -> None:
    backend_sessions(extras=["fast"])
    with pytest.raises(Quit, match=r"extras=\['fast'\]: there is no project here"):
        run_session(registry, Session())
    registry.reset()
    (tmp_path / "pyproject.toml").write_text("[dependency-groups]\ndev = []")
    backend_sessions(groups=["test"])
    with pytest.raises(Quit, match=r"no 'test' in \[dependency-groups\] .*, only dev"):
        run_session(registry, Session())


def test_an_installer_of_the_noxfile_and_arguments_after_a_dash(registry: Any) -> None:
    backend_sessions(
        "own",
        installer=lambda session: session.install("everything"),
        tests=["a", "b"],
        options=["-x"],
        env={"A": None},
    )
    session = run_session(registry, Session(posargs=("tests/test_one.py",)))
    assert session.installed == [("everything",)]
    assert session.ran[0][4:] == ("-x", "tests/test_one.py")
    assert session.env == {"A": None}
    assert run_session(registry, Session()).ran[0][4:] == ("-x", "a", "b")


def test_uvloop_is_skipped_where_it_cannot_be(
    registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend_sessions()
    with pytest.raises(Quit, match="uvloop does not run on PyPy"):
        run_session(registry, Session(python="pypy3.11"), "uvloop")
    assert run_session(registry, Session(python="pypy3.11"), "trio").ran
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(Quit, match=r'uvloop is winloop: add it, install=\["winloop"\]'):
        run_session(registry, Session(), "uvloop")
    registry.reset()
    backend_sessions(install=["winloop>=0.1"])
    assert run_session(registry, Session(), "uvloop").ran


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backends": []}, r"backends has to be at least one name, each once, not \[\]"),
        ({"backends": ["trio", "trio"]}, "each once"),
        ({"backends": "trio"}, "backends has to be a list of names, not 'trio'"),
        ({"pythons": "3.12"}, "pythons has to be a list of names, not '3.12'"),
        ({"tests": "tests"}, "tests has to be a list of strings, not 'tests'"),
        ({"installer": print, "install": ["h11"]}, "an installer installs everything"),
    ],
)
def test_arguments_that_are_wrong(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backend_sessions(**arguments)


def test_the_guides_table_of_arguments_is_complete() -> None:
    section = (ROOT / "docs/guide.md").read_text().partition("| `backend_sessions(...)` |")[2]
    rows = section.partition("\n\n")[0].splitlines()[2:]
    named = [name for row in rows for name in re.findall(r"`(\w+)=?`", row.split("|")[1])]
    assert sorted(named) == sorted(inspect.signature(backend_sessions).parameters)


def test_without_nox(tmp_path: Path) -> None:
    ran = run_python(
        "-c",
        "import sys; sys.modules['nox'] = None; import harness.nox as n; n.backend_sessions()",
        cwd=tmp_path,
        PYTHONPATH=str(ROOT),
    )
    assert ran.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: harness.nox makes sessions for nox, which is not installed: "
        "pip install nox"
    )


def test_a_module_of_the_users_that_is_called_nox(tmp_path: Path) -> None:
    (tmp_path / "nox.py").touch()
    ran = run_python(
        "-c",
        "import harness.nox as n; n.backend_sessions()",
        cwd=tmp_path,
        PYTHONPATH=str(ROOT),
        PYTHONSAFEPATH="",
    )
    assert ran.stderr.splitlines()[-1].startswith("ImportError: `import nox` gave ")
    assert "nox.py, which is not nox." in ran.stderr


def test_it_does_not_stand_for_nox() -> None:
    ran = run_python("-m", "nox", "--list", cwd=ROOT / "harness", PYTHONSAFEPATH="")
    assert ran.returncode != 0
    assert "is not nox, and must not be found in its place" in ran.stderr


def test_it_needs_nothing_of_its_package(tmp_path: Path) -> None:
    """Loaded by its path, as the noxfile of this project does."""
    code = (
        "import runpy, sys; before = set(sys.modules); "
        f"runpy.run_path({str(ROOT / 'harness' / 'nox.py')!r}, run_name='x'); "
        "print([n for n in sys.modules if n.split('.')[0] in ('harness', 'anyio', 'nox')])"
    )
    ran = run_python("-c", code, cwd=tmp_path)
    assert ran.stdout == "[]\n", ran.stderr


def test_this_projects_noxfile_needs_nothing_but_nox() -> None:
    skip_without("nox")
    ran = run_python("-c", NOTHING_BUT_NOX, "--list", cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    backends = [f"(backend='{name}')" for name in ("asyncio", "uvloop", "trio")]
    assert {
        *(f"tests{backend}" for backend in backends),
        *(f"matrix-3.10{backend}" for backend in backends),
        *("whole-3.10", "demo", "lint", "types", "zero"),
    } <= set(sessions_in(ran.stdout))


def distribution(folder: Path, direct_url: str | None) -> metadata.Distribution:
    made = folder / "anyio_harness-1.dist-info"
    made.mkdir()
    if direct_url is not None:
        (made / "direct_url.json").write_text(direct_url)
    return metadata.PathDistribution(made)


@pytest.mark.parametrize(
    ("origin", "requirement"),
    [
        (None, "anyio-harness"),
        ({"url": "file:///not/there", "dir_info": {}}, "anyio-harness"),
        ({"url": ROOT.as_uri(), "dir_info": {}}, f"anyio-harness @ {ROOT.as_uri()}"),
        (
            {
                "url": "https://example.com/harness.git",
                "vcs_info": {"vcs": "git", "commit_id": "abc"},
                "subdirectory": "sub",
            },
            "anyio-harness @ git+https://example.com/harness.git@abc#subdirectory=sub",
        ),
        ({"url": "https://example.com/h.whl"}, "anyio-harness @ https://example.com/h.whl"),
    ],
)
def test_the_harness_that_noxs_environment_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, origin: Any, requirement: str
) -> None:
    found = distribution(tmp_path, None if origin is None else json.dumps(origin))
    monkeypatch.setattr(metadata, "distribution", lambda name: found)
    assert harness_requirement() == requirement


def test_the_harness_is_asked_for_where_noxs_environment_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none(name: str) -> NoReturn:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", none)
    assert harness_requirement() == "anyio-harness"
