"""What `python -m harness init` writes: the text of each file, for one :class:`Layout`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

#: What the first test is about, in its name.
SUBJECT = "echo_server"

#: The name of the first test, in the folder of the tests. No other test is likely to have it.
FIRST_TEST = f"test_{SUBJECT}.py"

#: The versions of Python that the workflow may use.
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")

#: The first nox that installs what a noxfile says it depends on.
NOX = "nox>=2025.2.9"


@dataclass(frozen=True)
class Layout:
    """What the files depend on.

    :ivar tests: the folder of the harness's tests, relative, with slashes
    :ivar apart: the plugins that must not see these tests, by pytest's names; the folder then has
        settings of its own
    :ivar away: the plugins that the settings of the whole project keep away
    :ivar strict: whether nothing was there before that strict settings could break
    :ivar testpaths: whether all tests are in that folder
    :ivar pythonpath: pytest's setting in the project, for a folder with settings of its own
    :ivar requirement: what pip installs for the harness, on any machine
    :ivar install: arguments of ``backend_sessions``, for what the tests need besides
    :ivar pip_install: the same as arguments of ``pip install``, the project included
    :ivar nox: whether the sessions of the noxfile are there
    :ivar pythons: versions of Python for the workflow
    """

    tests: str = "tests"
    apart: tuple[str, ...] = ()
    away: tuple[str, ...] = ()
    strict: bool = True
    testpaths: bool = True
    pythonpath: tuple[str, ...] = ()
    requirement: str = "anyio-harness"
    install: tuple[str, ...] = ()
    pip_install: tuple[str, ...] = ()
    nox: bool = True
    pythons: tuple[str, ...] = (PYTHONS[0], PYTHONS[-1])


def settings_table(layout: Layout) -> str:
    """``[tool.pytest.ini_options]`` for a project without settings of pytest."""
    options = ["-ra", "--strict-markers", "--strict-config"] if layout.strict else []
    options += [word for name in layout.away for word in ("-p", f"no:{name}")]
    lines = ["[tool.pytest.ini_options]", 'minversion = "8.4"']
    if layout.testpaths:
        lines.append(f"testpaths = [{json.dumps(layout.tests)}]")
    if options:
        lines.append(f"addopts = {json.dumps(options)}")
    if layout.strict:
        # No `filterwarnings = ["error"]`: some plugins warn of their own settings at the start.
        lines.append("xfail_strict = true")
    return "\n".join(lines) + "\n"


def settings_apart(layout: Layout) -> str:
    """The pytest.ini of a folder with settings of its own."""
    options = ["-ra", "--strict-markers", "--strict-config"]
    options += [f"-p no:{name}" for name in layout.apart]
    lines = [
        "# The project's own settings are not in force here: with them, a plugin that runs every",
        "# async test would take these tests from the harness.",
        "[pytest]",
        f"addopts = {' '.join(options)}",
    ]
    if layout.pythonpath:
        up = "/".join([".."] * len(layout.tests.split("/")))
        lines.append(f"pythonpath = {' '.join(f'{up}/{each}' for each in layout.pythonpath)}")
    return "\n".join(lines) + "\n"


CONFTEST = '''\
"""What the tests in this folder share. The harness needs nothing here: pytest finds it by itself.

Fixtures go here, and backends and transports of your own, which --harness-backends and
--harness-transports then take by name:

    def pytest_harness_backends(config):
        return {"asyncio-debug": ("asyncio", {"debug": True})}

    def pytest_harness_transports(config):
        return {"unix-fixed": lambda: UnixTransport("/run/app.sock")}
"""
'''

CONFTEST_APART = '''
from __future__ import annotations

import pytest

#: Plugins that would run the tests in this folder themselves. Its pytest.ini keeps them away.
RIVALS = @RIVALS@

#: Set if a file of this folder is collected all the same: pytest leaves none out that is named.
NAMED = pytest.StashKey[bool]()


def taken(config: pytest.Config) -> str | None:
    """One of them that is there: pytest was started with the settings of the whole project."""
    return next((name for name in RIVALS if config.pluginmanager.hasplugin(name)), None)


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    return True if taken(config) else None


def pytest_collect_file(parent: pytest.Collector) -> None:
    parent.config.stash[NAMED] = True


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rival = taken(config)
    if rival is not None and not config.stash.get(NAMED, False):
        terminalreporter.write_line(
            f"@TESTS@ was left out of this run, which has the plugin {rival}: "
            "pytest @TESTS@"
        )
'''


def conftest(layout: Layout) -> str:
    """The conftest.py of the folder of the tests."""
    if not layout.apart:
        return CONFTEST
    rivals = json.dumps(list(layout.apart))
    return CONFTEST + CONFTEST_APART.replace("@RIVALS@", rivals).replace("@TESTS@", layout.tests)


TEST = '''\
"""A first test: an echo server, on every backend and over every transport."""

from __future__ import annotations

import pytest
from anyio import create_task_group
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream
from harness import Harness, Server


async def echo(stream: ByteStream) -> None:
    """The server under test: what it does with one connection. Put your own in its place."""
    async for chunk in stream:
        await stream.send(chunk)


@pytest.fixture
async def server(harness: Harness) -> Server:
    """Listens when a test begins; is stopped, and looked at for leaks, when it ends."""
    return await harness.serve(echo)


async def say(server: Server, message: bytes) -> bytes:
    """Send a message, and receive as many bytes, in however many pieces they arrive."""
    async with await server.connect() as client:
        await client.send(message)
        return await BufferedByteReceiveStream(client).receive_exactly(len(message))


async def test_an_echo(server: Server) -> None:
    assert await say(server, b"hello") == b"hello"


async def test_many_clients_at_once(server: Server) -> None:
    async def check(message: bytes) -> None:
        assert await say(server, message) == message

    async with create_task_group() as clients:
        for number in range(10):
            clients.start_soon(check, b"client %d" % number)
    assert server.accepted == 10
'''


NOXFILE = '''\
# /// script
# dependencies = [@NOX@, @REQUIREMENT@]
# ///
"""The tests, once on each backend: `nox`, or `nox -s "tests(backend='trio')"` for one.

nox installs by itself what is named above, if that is missing where it runs. With an older nox:
`pip install nox anyio-harness`.
"""

from harness.nox import backend_sessions

backend_sessions(@ARGUMENTS@)
'''


def noxfile(layout: Layout) -> str:
    """The noxfile.py of the project."""
    arguments = ", ".join([f"tests=[{json.dumps(layout.tests)}]", *layout.install])
    return (
        NOXFILE.replace("@NOX@", json.dumps(NOX))
        .replace("@REQUIREMENT@", json.dumps(layout.requirement))
        .replace("@ARGUMENTS@", arguments)
    )


WORKFLOW = """\
name: tests

on:
  push:
  pull_request:

permissions:
  contents: read

jobs:
  tests:
    name: ${{ matrix.backend }}, Python ${{ matrix.python }}, ${{ matrix.os }}
    runs-on: ${{ matrix.os }}
    strategy:
      fail-fast: false
      matrix:
        os: [ubuntu-latest, macos-latest, windows-latest]
        python: @PYTHONS@
        backend: [asyncio, uvloop, trio]
        exclude:
          # There is no uvloop for Windows.
          - os: windows-latest
            backend: uvloop
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: ${{ matrix.python }}
@RUN@
"""


def workflow(layout: Layout) -> str:
    """The workflow of GitHub."""
    if layout.nox:
        commands = [
            f"python -m pip install {_in_shell([NOX, layout.requirement])}",
            "python -m nox -s \"tests(backend='${{ matrix.backend }}')\"",
        ]
    else:
        # A pip that knows dependency groups.
        commands = (
            ["python -m pip install --upgrade pip"] if "--group" in layout.pip_install else []
        )
        commands += [
            f"python -m pip install {_in_shell([*layout.pip_install, layout.requirement])}",
            f"python -m pytest --harness-backends=${{{{ matrix.backend }}}} {layout.tests}",
        ]
    run = "\n".join(f"      - run: {command}" for command in commands)
    pythons = json.dumps(list(layout.pythons))
    return WORKFLOW.replace("@PYTHONS@", pythons).replace("@RUN@", run)


def _in_shell(words: Sequence[str]) -> str:
    """Words as they are written in bash and PowerShell alike."""
    plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./"
    return " ".join(word if not word.strip(plain) else f'"{word}"' for word in words)
