"""The project's commands. `nox -l` lists them; the README names the two that matter."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests", "demo"]
nox.options.error_on_missing_interpreters = False

BACKENDS = ["asyncio", "uvloop", "trio"]
PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
PROJECT = nox.project.load_toml("pyproject.toml")

#: What the tests use beyond the package's own dependencies.
TEST_TOOLS = [
    "httpcore",
    "hypothesis",
    "pytest-asyncio",
    "pytest-randomly",
    "pytest-trio",
    "pytest-xdist",
    "python-socks[anyio]",
    "time-machine",
]
#: A loop that nobody here wrote; it has wheels for CPython 3.10 and later on Linux and macOS.
FOREIGN_LOOP = "rloop; sys_platform != 'win32' and python_version < '3.14'"
#: What the examples are made of: real libraries, as a downstream project would depend on.
EXAMPLE_TOOLS = ["coredis>=6", "h11", "httpx"]


def install_wheel(session: nox.Session, *more: str) -> None:
    """Build the wheel and install that, so that what is tested is what is shipped."""
    out = Path(session.create_tmp()) / "dist"
    shutil.rmtree(out, ignore_errors=True)
    session.install("build")
    session.run("python", "-m", "build", "--wheel", "--outdir", str(out), ".", silent=True)
    (wheel,) = out.glob("*.whl")
    session.install("--force-reinstall", str(wheel), *more)


def run_tests(session: nox.Session, backend: str, **env: str) -> None:
    session.run(
        "python",
        "-m",
        "pytest",
        "-n",
        "2",
        f"--harness-backends={backend}",
        *(session.posargs or ["tests"]),
        # Hundreds of tests start a pytest of their own, which rewrites the plugin's modules.
        env={"PYTHONDONTWRITEBYTECODE": "", **env},
    )


@nox.session
@nox.parametrize("backend", BACKENDS)
def tests(session: nox.Session, backend: str) -> None:
    """All tests on one backend, in random order, on two workers."""
    install_wheel(session, *TEST_TOOLS, FOREIGN_LOOP)
    run_tests(session, backend)


@nox.session(python=PYTHONS)
@nox.parametrize("backend", BACKENDS)
def matrix(session: nox.Session, backend: str) -> None:
    """All tests on every CPython that is installed; a missing one is skipped by name."""
    install_wheel(session, *TEST_TOOLS, FOREIGN_LOOP)
    run_tests(session, backend, HARNESS_TEST_MOMENTS="9")


@nox.session(python=PYTHONS)
def whole(session: nox.Session) -> None:
    """All tests on all backends in one run: `matrix` in less time, with one result."""
    install_wheel(session, *TEST_TOOLS, FOREIGN_LOOP)
    run_tests(session, ",".join(BACKENDS), HARNESS_TEST_MOMENTS="9")


@nox.session
def demo(session: nox.Session) -> None:
    """The main job: the examples' suites on every backend and transport, from the built wheel."""
    install_wheel(session, *EXAMPLE_TOOLS)
    session.run("python", "-m", "pytest", "-W", "error", "-q", "examples", *session.posargs)


@nox.session
def lowest(session: nox.Session) -> None:
    """All tests with the lowest versions that pyproject.toml allows."""
    constraints = Path(session.create_tmp()) / "lowest.txt"
    # "anyio>=4.14; marker" -> "anyio==4.14.*; marker"
    lowest_versions = [
        re.sub(r">=([0-9.]+)", r"==\1.*", requirement)
        for requirement in PROJECT["project"]["dependencies"]
    ]
    constraints.write_text("\n".join(lowest_versions))
    install_wheel(session, "-c", str(constraints), *TEST_TOOLS, FOREIGN_LOOP)
    session.run("python", "-m", "pip", "list")
    session.run("python", "-m", "pytest", "-n", "2", *(session.posargs or ["tests"]))


@nox.session
def differences(session: nox.Session) -> None:
    """Write docs/backend-differences.md anew, after a change of what the tests know of AnyIO."""
    install_wheel(session)
    session.run("python", "tests/conformance/differences.py")


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: rules and format."""
    session.install("ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict, pyright, and pyright's account of the public types."""
    # exceptiongroup: pyright looks at the code as Python 3.10 would
    install_wheel(session, "mypy", "pyright", "exceptiongroup", "time-machine")
    session.run("mypy", "--strict", "harness")
    session.run("pyright", "harness")
    # From another folder, so that the installed package is looked at and not this one.
    session.chdir(session.create_tmp())
    session.run("pyright", "--verifytypes", "harness", "--ignoreexternal")
