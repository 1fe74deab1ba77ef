"""The project's commands. `nox -l` lists them; the README names the two that matter."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any

import nox

nox.options.sessions = ["lint", "types", "tests", "demo"]
nox.options.error_on_missing_interpreters = False

BACKENDS = ["asyncio", "uvloop", "trio"]
PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
PROJECT = nox.project.load_toml("pyproject.toml")


def by_path(name: str, path: str) -> Any:
    """A module of this checkout, alone: nox's environment has nothing that its package needs."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("harness") / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


backend_sessions = by_path("harness_nox", "nox.py").backend_sessions

#: What the tests use beyond the package's own dependencies.
TEST_TOOLS = [
    "anycorn",
    "hatchling>=1.27",
    "httpcore",
    "httpx",
    "hypercorn",
    "hypothesis",
    "nox",
    "pytest-asyncio",
    "pytest-randomly",
    "pytest-trio",
    "pytest-xdist",
    "python-socks[anyio]",
    "starlette",
    "time-machine",
    "uvicorn",
]
#: A loop that nobody here wrote; it has wheels for CPython 3.10 and later on Linux and macOS.
FOREIGN_LOOP = "rloop; sys_platform != 'win32' and python_version < '3.14'"
#: What the examples are made of: real libraries, as a downstream project would depend on.
EXAMPLE_TOOLS = ["coredis>=6", "h11", "httpx"]

#: What the benchmarks are beside.
PEERS = [
    *("aiomisc", "aiomisc-pytest", "aiotools", "async-solipsism", "looptime"),
    *("pytest-asyncio", "pytest-trio"),
]

#: Software that nobody here wrote; tests/downstream has tests of each of them.
DOWNSTREAM = [
    "aiohttp",
    "aiosmtpd",
    "anycorn",
    "coredis>=6",
    "h11",
    "httpcore",
    "httpx",
    "httpx-ws",
    "httpx2",
    "hypercorn",
    "mcp>=2",
    "pycrdt-websocket",
    "python-socks[anyio]",
    "smtpproto",
    "starlette",
    "tiny-proxy",
    "trio-websocket",
    "uvicorn",
]


def install_wheel(session: nox.Session, *more: str) -> None:
    """Build the wheel and install that, so that what is tested is what is shipped."""
    out = Path(session.create_tmp()) / "dist"
    shutil.rmtree(out, ignore_errors=True)
    session.install("build")
    session.run("python", "-m", "build", "--wheel", "--outdir", str(out), ".", silent=True)
    (wheel,) = out.glob("*.whl")
    session.install("--force-reinstall", str(wheel), *more)


#: Hundreds of tests start a pytest of their own, which rewrites the plugin's modules.
TEST_ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": ""}
#: Fewer moments at which a run is interrupted: these tests take the longest.
FEWER_MOMENTS = {"HARNESS_TEST_MOMENTS": "9"}


#: Two cores are busy with three: many tests wait. A few take long, and nobody waits behind those.
WORKERS = ["-n", "3", "--dist", "worksteal"]


def install_for_tests(session: nox.Session) -> None:
    install_wheel(session, *TEST_TOOLS, FOREIGN_LOOP)


def run_tests(session: nox.Session, backend: str, *which: str, **env: str) -> None:
    session.run(
        "python",
        "-m",
        "pytest",
        *WORKERS,
        f"--harness-backends={backend}",
        *(session.posargs or which or ["tests"]),
        env={**TEST_ENVIRONMENT, **env},
    )


backend_sessions(
    "tests",
    backends=BACKENDS,
    options=WORKERS,
    installer=install_for_tests,
    env=TEST_ENVIRONMENT,
    doc="All tests on one backend, in random order, on three workers.",
)
backend_sessions(
    "matrix",
    backends=BACKENDS,
    pythons=PYTHONS,
    options=WORKERS,
    installer=install_for_tests,
    env={**TEST_ENVIRONMENT, **FEWER_MOMENTS},
    doc="All tests on every CPython that is installed; a missing one is skipped by name.",
)


@nox.session(python=PYTHONS)
def whole(session: nox.Session) -> None:
    """All tests on all backends: `matrix` in less time."""
    install_for_tests(session)
    run_tests(session, ",".join(BACKENDS), **FEWER_MOMENTS)


@nox.session(python=PYTHONS)
def brief(session: nox.Session) -> None:
    """`whole`, but without the longest rooms where they are much the same on two backends."""
    install_for_tests(session)
    run_tests(session, "trio", **FEWER_MOMENTS)
    on_asyncio = ["tests", "--ignore=tests/conformance", "--ignore=tests/faults"]
    run_tests(session, "asyncio", *on_asyncio, **FEWER_MOMENTS)
    on_uvloop = [*on_asyncio, "--ignore=tests/pytest_plugin", "--ignore=tests/zoo"]
    run_tests(session, "uvloop", *on_uvloop, **FEWER_MOMENTS)


@nox.session
def demo(session: nox.Session) -> None:
    """The main job: the examples' suites on every backend and transport, from the built wheel."""
    install_wheel(session, *EXAMPLE_TOOLS)
    session.run("python", "-m", "pytest", "-W", "error", "-q", "examples", *session.posargs)


@nox.session
def downstream(session: nox.Session) -> None:
    """Servers and clients of other projects, as their users would test them, from the wheel."""
    install_wheel(session, "pytest-xdist", *DOWNSTREAM)
    # AnyIO's run with all tests; which of the others need what only this session has, they say.
    session.run("python", "-m", "pytest", "tests/test_upstream_bugs.py", "-k", "not AnyIO")
    session.run("python", "-m", "pytest", "-n", "2", *(session.posargs or ["tests/downstream"]))


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks, beside peers: long, on a quiet machine. With `-- --brief`, that they work."""
    install_wheel(session, "matplotlib", "pytest-xdist", *EXAMPLE_TOOLS, *PEERS)
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def zero(session: nox.Session) -> None:
    """From zero: `python -m harness init` in an empty folder, pytest, and nox, from the wheel."""
    install_wheel(session, "nox")
    project = Path(session.create_tmp()) / "project"
    shutil.rmtree(project, ignore_errors=True)
    session.run("python", "-m", "harness", "doctor")
    session.run("python", "-m", "harness", "init", str(project))
    with session.chdir(project):
        session.run("python", "-m", "pytest")
        session.run("python", "-m", "nox", *session.posargs)


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
    session.run("python", "-m", "pytest", *WORKERS, *(session.posargs or ["tests"]))


@nox.session
def differences(session: nox.Session) -> None:
    """Write docs/backend-differences.md anew, after a change of what the tests know of AnyIO."""
    install_wheel(session)
    session.run("python", "tests/conformance/differences.py")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Random operations on the transports' streams, with seeds that are new each time."""
    install_wheel(session, *TEST_TOOLS)
    run_tests(
        session, ",".join(BACKENDS), "tests/conformance/test_fuzz.py", HARNESS_TEST_ANY_SEED="1"
    )


@nox.session
def docs(session: nox.Session) -> None:
    """The site of the documentation, into site/: no broken link, every page in the navigation."""
    # ruff formats the signatures of the reference.
    session.install("mkdocs>=1.6,<2", "mkdocs-material>=9.7", "mkdocstrings[python]>=1", "ruff")
    session.run(
        *("mkdocs", "build", "--strict", *session.posargs), env={"NO_MKDOCS_2_WARNING": "1"}
    )


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
    libraries = ["hypothesis", "time-machine", "anycorn", "httpx", "hypercorn", "uvicorn"]
    install_wheel(session, "mypy", "nox", "pyright", "exceptiongroup", *libraries)
    session.run("mypy", "--strict", "harness")
    session.run("pyright", "harness")
    # From another folder, so that the installed package is looked at and not this one.
    session.chdir(session.create_tmp())
    session.run("pyright", "--verifytypes", "harness", "--ignoreexternal")
