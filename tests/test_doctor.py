"""``python -m harness doctor``: what it finds, what it says to do, and what it ends with."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import pytest
from blackbox import BOUND

from harness import backends, transports
from harness.backends import Backend
from harness.cli import doctor, main
from harness.cli.doctor import CHECKS, NOTE, OK, PROBLEM, Finding

ROOT = Path(__file__).parent.parent

Report = Callable[..., dict[str, Any]]

#: Runs the doctor as under `ulimit -S -n 64`.
FEW_DESCRIPTORS = """
import resource, sys
from harness.cli import main
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
sys.exit(main(["doctor"]))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without anything, and none of this one's settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Report:
    def run(*arguments: str, only: str | None = None) -> dict[str, Any]:
        """What ``--json`` prints; of one check alone, if it is named."""
        with monkeypatch.context() as patch:
            if only is not None:
                patch.setattr(doctor, "CHECKS", {only: CHECKS[only]})
            code = main(["doctor", "--json", *arguments])
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert code == (0 if found["ok"] else 1)
        assert found["ok"] is (found["problems"] == 0)
        return found

    return run


def the(found: dict[str, Any], name: str, check: str | None = None) -> dict[str, Any]:
    """The finding of that name; uvloop, say, is a package and a backend."""
    (finding,) = (
        each
        for each in found["findings"]
        if each["name"] == name and check in (None, each["check"])
    )
    return finding


def test_this_machine(report: Report) -> None:
    found = report()
    assert list(found) == [
        *("format", "ok", "problems", "notes", "folder", "harness", "python", "platform"),
        "findings",
    ]
    assert found["format"] == 1
    assert found["ok"], [each for each in found["findings"] if each["status"] == PROBLEM]
    for finding in found["findings"]:
        assert list(finding) == ["check", "name", "status", "found", "advice"]
        assert finding["status"] in (OK, NOTE, PROBLEM)
    assert list(dict.fromkeys(each["check"] for each in found["findings"])) == [
        check for check in CHECKS if check != "system" or sys.platform != "win32"
    ]
    for name, backend in backends.BUILT_IN.items():
        assert the(found, name, "backends")["status"] == (NOTE if backend.missing() else OK)
    for name in transports.DEFAULT:
        missing = transports.make_transport(name).missing()
        assert the(found, name)["status"] == (NOTE if missing else OK)
    assert the(found, "pytest")["found"].startswith(metadata.version("pytest"))


def test_in_columns() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "harness", "doctor"], capture_output=True, text=True, timeout=BOUND
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    first, empty, *lines, _, last = ran.stdout.splitlines()
    assert first.startswith("anyio-harness ")
    assert empty == ""
    assert all(len(line) <= 100 for line in ran.stdout.splitlines())
    (status,) = {line.index(" ok ") for line in lines if " ok " in line}
    assert all(line[status - 1] == " " for line in lines if line)
    assert last.startswith("no problems, ")
    assert ran.stderr == ""


def test_long_texts_are_wrapped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A check is a function in a list, and needs nothing else."""
    long = Finding("something", PROBLEM, "it is not as it should be, " * 10, "mend it, " * 20)
    monkeypatch.setattr(doctor, "CHECKS", {"own": lambda place: [long]})
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[2].startswith("own  something  problem  it is not as it should be, it is")
    arrow = next(line for line in lines if "->" in line)
    assert arrow.index("->") == lines[2].index("it is")
    assert lines[-1] == "1 problem, no notes"


# Packages


def version_of(monkeypatch: pytest.MonkeyPatch, package: str, version: str | None) -> None:
    """Have another version of a package installed, or none."""
    real = metadata.version

    def fake(name: str) -> str:
        if name != package:
            return real(name)
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", fake)


@pytest.mark.parametrize(
    ("version", "found"), [("0.9", "0.9 is not >=0.31"), (None, "not installed (>=0.31)")]
)
def test_a_package_that_is_missing_or_too_old(
    monkeypatch: pytest.MonkeyPatch, report: Report, version: str | None, found: str
) -> None:
    version_of(monkeypatch, "trio", version)
    assert the(report(only="packages"), "trio") == {
        "check": "packages",
        "name": "trio",
        "status": PROBLEM,
        "found": found,
        "advice": "pip install 'trio>=0.31'",
    }


def test_a_version_before_a_release_is_a_version(
    monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    version_of(monkeypatch, "trio", "99.0rc1")
    assert the(report(only="packages"), "trio")["status"] == OK


def test_a_harness_that_can_only_be_imported(
    monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    def none(name: str) -> NoReturn:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", none)
    monkeypatch.setattr(metadata, "entry_points", lambda group: ())
    found = report()
    assert found["harness"] is None
    assert the(found, "anyio-harness")["advice"] == "pip install anyio-harness"
    assert the(found, "harness.pytest_plugin")["status"] == PROBLEM


def test_another_python(monkeypatch: pytest.MonkeyPatch, report: Report) -> None:
    monkeypatch.setattr("platform.python_version", lambda: "3.9.1")
    python = the(report(only="packages"), "Python")
    assert (python["status"], python["found"]) == (PROBLEM, "3.9.1 is not >=3.10")


@pytest.mark.parametrize("version", [None, "6.0", "99.0"])
def test_an_extra(monkeypatch: pytest.MonkeyPatch, report: Report, version: str | None) -> None:
    class Metadata(dict[str, str]):
        def get_all(self, name: str) -> list[str]:
            return ["fuzz", "other"]

    extra = "hypothesis>=6.135; extra == 'fuzz'"
    monkeypatch.setattr(metadata, "requires", lambda name: ["anyio>=4", extra])
    monkeypatch.setattr(metadata, "metadata", lambda name: Metadata())
    version_of(monkeypatch, "hypothesis", version)
    found = report(only="extras")
    assert found["ok"]
    hypothesis = the(found, "hypothesis")
    assert hypothesis["status"] == (OK if version == "99.0" else NOTE)
    assert hypothesis["advice"] == (
        None if version == "99.0" else "pip install 'anyio-harness[fuzz]'"
    )


# Backends and transports


def test_a_backend_that_is_missing(monkeypatch: pytest.MonkeyPatch, report: Report) -> None:
    needs = {"own": Backend("own", "asyncio", needs=("not_there",))}
    monkeypatch.setattr(backends, "BUILT_IN", needs)
    found = report(only="backends")
    assert the(found, "own") == {
        "check": "backends",
        "name": "own",
        "status": NOTE,
        "found": "backend 'own' needs 'not_there', which is not installed",
        "advice": "pip install not_there",
    }
    monkeypatch.setattr(metadata, "requires", lambda name: ["not_there>=1"])
    assert the(report(only="backends"), "own")["status"] == PROBLEM
    monkeypatch.setattr(metadata, "requires", lambda name: ["not_there; python_version < '3'"])
    assert the(report(only="backends"), "own")["status"] == NOTE


def test_a_backend_that_does_not_run(monkeypatch: pytest.MonkeyPatch, report: Report) -> None:
    def broken() -> NoReturn:
        raise OSError("no loop today")

    options = {"loop_factory": broken}
    broken_one = {"own": Backend("own", "asyncio", options)}
    monkeypatch.setattr(backends, "BUILT_IN", broken_one)
    found = the(report(only="backends"), "own")
    assert found["status"] == PROBLEM
    assert found["found"] == "does not run: OSError: no loop today"
    assert "harness_backends" in found["advice"]


def test_a_backend_that_is_another_one(monkeypatch: pytest.MonkeyPatch, report: Report) -> None:
    other = {"own": Backend("own", "asyncio", is_running=lambda: False)}
    monkeypatch.setattr(backends, "BUILT_IN", other)
    assert "WrongBackend" in the(report(only="backends"), "own")["found"]


class Broken(transports.Transport):
    name = "tcp"

    def __init__(self, reason: str | None = None) -> None:
        self.reason = reason

    def missing(self) -> str | None:
        return self.reason

    async def listen(self) -> NoReturn:
        raise PermissionError(13, "not in this sandbox")


@pytest.mark.parametrize(("name", "status"), [("tcp", PROBLEM), ("tcp6", NOTE)])
def test_a_transport_that_does_not_work(
    monkeypatch: pytest.MonkeyPatch, report: Report, name: str, status: str
) -> None:
    made = {**transports.BUILT_IN, name: Broken}
    monkeypatch.setattr(transports, "BUILT_IN", made)
    monkeypatch.setattr(transports, "make_transport", lambda each: made[each]())
    found = the(report(only="transports"), name)
    assert found["status"] == status
    assert found["found"] == ("does not work: PermissionError: [Errno 13] not in this sandbox")
    assert ("harness_transports = unix tls memory" in str(found["advice"])) is (name == "tcp")


def test_a_transport_that_a_machine_does_not_have(
    monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    monkeypatch.setattr(transports, "make_transport", lambda each: Broken("there is none"))
    found = report(only="transports")
    assert found["ok"]
    assert {(each["status"], each["found"]) for each in found["findings"]} == {
        (NOTE, "there is none")
    }


# Plugins of pytest


class EntryPoint:
    def __init__(self, name: str, version: str) -> None:
        self.name = name
        self.dist = self
        self.version = version


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Have these plugins installed, beside AnyIO's and the harness's."""
    points = [EntryPoint(each, "1.0") for each in ("anyio", "harness.pytest_plugin", *names)]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points)


SETTINGS = {
    "asyncio_mode": ("asyncio", "pytest.ini", "[pytest]\nasyncio_mode = auto"),
    "--asyncio-mode=": ("asyncio", "tox.ini", "[pytest]\naddopts = -q --asyncio-mode=auto"),
    "--asyncio-mode": ("asyncio", "setup.cfg", "[tool:pytest]\naddopts = --asyncio-mode auto"),
    "pyproject": (
        "asyncio",
        "pyproject.toml",
        '[tool.pytest.ini_options]\nasyncio_mode = "auto"',
    ),
    "native TOML": ("asyncio", "pyproject.toml", '[tool.pytest]\nasyncio_mode = "auto"'),
    "pytest.toml": ("asyncio", "pytest.toml", '[pytest]\naddopts = ["--asyncio-mode=auto"]'),
    "trio_mode": ("trio", "pytest.ini", "[pytest]\ntrio_mode = true"),
    "enable_trio_mode": ("trio", "conftest.py", "from pytest_trio.enable_trio_mode import *"),
}


@pytest.mark.parametrize("how", SETTINGS)
def test_a_plugin_that_takes_every_test(
    folder: Path, monkeypatch: pytest.MonkeyPatch, report: Report, how: str
) -> None:
    plugin, file, text = SETTINGS[how]
    if file != "conftest.py":
        (folder / "pytest.ini").unlink()
    (folder / file).write_text(text)
    name = f"pytest-{plugin}"
    installed(monkeypatch, plugin)
    found = the(report(only="plugins"), name)
    assert found["status"] == PROBLEM
    assert file in found["found"]
    assert f"`addopts = -p no:{plugin}`" in found["advice"]
    monkeypatch.setenv("PYTEST_ADDOPTS", f"-p no:{plugin}")
    assert the(report(only="plugins"), name)["status"] == OK
    monkeypatch.delenv("PYTEST_ADDOPTS")
    installed(monkeypatch)
    assert report(only="plugins")["ok"]


def test_the_last_mode_counts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    installed(monkeypatch, "asyncio")
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--asyncio-mode=strict")
    assert report(only="plugins")["ok"]
    monkeypatch.setenv("PYTEST_ADDOPTS", "--asyncio-mode=strict --asyncio-mode=auto")
    assert "PYTEST_ADDOPTS" in the(report(only="plugins"), "pytest-asyncio")["found"]


@pytest.mark.parametrize(
    ("plugin", "distribution"),
    [("aiomisc", "aiomisc-pytest"), ("aio", "pytest-aio"), ("tornado", "pytest-tornasync")],
)
def test_a_plugin_that_has_no_other_mode(
    folder: Path, monkeypatch: pytest.MonkeyPatch, report: Report, plugin: str, distribution: str
) -> None:
    installed(monkeypatch, plugin)
    assert the(report(only="plugins"), distribution)["status"] == PROBLEM
    for addopts in (f"-p no:{plugin}", f"-pno:{plugin}"):
        (folder / "pytest.ini").write_text(f"[pytest]\naddopts = {addopts}")
        assert the(report(only="plugins"), distribution)["status"] == OK


def test_settings_of_another_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    installed(monkeypatch, "asyncio")
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto")
    (folder / "below").mkdir()
    assert not report("below", only="plugins")["ok"]
    (folder / "below" / "pytest.ini").touch()
    assert report("below", only="plugins")["ok"]


def test_plugins_that_are_not_loaded_by_themselves(
    monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    found = report(only="plugins")
    assert the(found, "harness.pytest_plugin")["advice"] == "-p harness.pytest_plugin"
    assert the(found, "anyio")["status"] == NOTE


@pytest.mark.parametrize(
    ("file", "text", "where"),
    [
        ("pyproject.toml", b"[project]\nname = 'x'\n\nversion 1\n", "pyproject.toml:4: is not"),
        ("pyproject.toml", b"[project]\nname = 'x", "pyproject.toml:2: is not valid TOML"),
        ("pyproject.toml", b"[project]\n# \xff", "pyproject.toml:2: is not UTF-8"),
        ("tox.ini", b"[pytest]\naddopts = -q\nnonsense\n", "tox.ini:3: is not valid"),
    ],
)
def test_settings_that_cannot_be_read(
    folder: Path, report: Report, file: str, text: bytes, where: str
) -> None:
    (folder / "pytest.ini").unlink()
    (folder / file).write_bytes(text)
    found = the(report(only="plugins"), "settings")
    assert found["status"] == PROBLEM
    assert found["found"].startswith(str(folder / where))


# The system, and arguments


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_few_descriptors(folder: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FEW_DESCRIPTORS], capture_output=True, text=True, timeout=BOUND
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (line,) = (line for line in ran.stdout.splitlines() if "descriptors" in line)
    assert " note " in line
    assert " 64 (at most " in line
    assert "`ulimit -n " in ran.stdout


@pytest.mark.parametrize("folder_argument", ["not-there", "pytest.ini"])
def test_a_folder_that_is_none(folder_argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", folder_argument])
    assert ended.value.code == 2
    assert f"argument FOLDER: '{folder_argument}' is not a folder" in capsys.readouterr().err


def test_the_guide_names_what_json_has(report: Report) -> None:
    section = (ROOT / "docs/guide.md").read_text().partition("## From zero\n")[2]
    section = section.partition("\n## ")[0]
    found = report(only="packages")
    for name in (*found, *found["findings"][0], *CHECKS, OK, NOTE, PROBLEM):
        assert f"`{name}`" in section


def test_the_help_names_what_json_has(capsys: pytest.CaptureFixture[str], report: Report) -> None:
    found = report(only="packages")
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    text = capsys.readouterr().out
    for name in (*found, *found["findings"][0]):
        assert name in text
    assert max(map(len, text.splitlines())) <= 100
