"""``python -m harness doctor``: what works here, what is missing, and what to do about it.

A check is one function in :data:`CHECKS`. It takes the :class:`Place` that is looked at and yields
a :class:`Finding` for each thing that it has looked at; it raises nothing that it can expect.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import ssl
import sys
import tempfile
import textwrap
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import checkpoint

from .. import backends, transports
from ..backends import Backend, check_running
from ..core import open_harness
from ..nox import DISTRIBUTION
from ..transports import Transport
from .command import add_command, add_folder
from .pytest_settings import CannotRead, PytestSettings, find_settings
from .rivals import PLUGINS, Project, fighting, installed_plugins

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from .command import Commands

OK = "ok"
#: Something that one can do without is missing, or is not as it might be.
NOTE = "note"
#: Tests will fail, or will not be run.
PROBLEM = "problem"

#: The version of what ``--json`` prints. It changes with the names and meanings.
FORMAT = 1

#: Columns of a line, at the most.
WIDTH = 100

#: Seconds that an event loop or a transport may take to do next to nothing.
BOUND = 20.0

#: Descriptors that are enough for a few thousand connections, both ends in the process.
ENOUGH_DESCRIPTORS = 4096

#: Packages that tests of servers often use beside the harness, with what they are good for.
COMPANIONS: Mapping[str, str] = {
    "httpx": "an HTTP client on every backend",
    "pytest-xdist": "tests on several processors",
    "pytest-randomly": "tests in random order",
    "nox": "sessions by harness.nox",
}

EPILOG = """\
Each line is a thing that was looked at: ok, note (something that one can do without is missing) or
problem (tests will fail, or will not be run), which says what to do. The exit code is 1 if there is
a problem, and 0 otherwise; 2 for arguments that are wrong.

Every backend is started and every transport carries a byte; TLS does its handshake.

--json prints one object:
  format    the version of this object, 1
  ok        whether there is no problem
  problems  how many there are; notes likewise
  folder    the folder whose settings of pytest were looked at
  harness   the version of anyio-harness; null if it is not installed
  python    the implementation and the version; platform: the system
  findings  a list of objects: check, name, status (ok, note, problem), found and advice
            (text; advice is null where nothing is to be done)
"""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    :ivar name: what it is
    :ivar status: :data:`OK`, :data:`NOTE` or :data:`PROBLEM`
    :ivar found: what is there, or what is wrong
    :ivar advice: what to do about it, if anything
    """

    name: str
    status: str
    found: str
    advice: str | None = None


@dataclass(frozen=True)
class Place:
    """What the checks look at.

    :ivar folder: where pytest would be run
    :ivar settings: pytest's settings there
    :ivar unreadable: why these could not be read
    :ivar requirements: those of the harness, as its metadata has them; ``None`` if it has none
    """

    folder: Path
    settings: PytestSettings | None
    unreadable: str | None
    requirements: Sequence[Requirement] | None

    def needs(self, package: str) -> bool:
        """Whether the harness requires ``package`` here."""
        return any(
            each.name.lower() == package.lower() and _applies(each)
            for each in self.requirements or ()
        )


def check_packages(place: Place) -> Iterator[Finding]:
    """Python and what the harness requires, against the lower bounds of its metadata."""
    version = platform.python_version()
    if place.requirements is None:
        yield Finding("Python", OK, version)
        yield Finding(
            DISTRIBUTION,
            PROBLEM,
            "can be imported but is not installed, so pytest does not load its plugin",
            f"pip install {DISTRIBUTION}",
        )
        return
    wanted = metadata.metadata(DISTRIBUTION)["Requires-Python"] or ""
    if _fits(version, wanted):
        yield Finding("Python", OK, f"{version} ({wanted})")
    else:
        yield Finding("Python", PROBLEM, f"{version} is not {wanted}", "use a newer Python")
    for requirement in place.requirements:
        if _applies(requirement):
            yield _package(requirement, PROBLEM)


def check_backends(place: Place) -> Iterator[Finding]:
    """Every built-in backend runs an event loop that is what its name says."""
    for name, backend in backends.BUILT_IN.items():
        missing = backend.missing()
        if missing is not None:
            needed = any(map(place.needs, backend.needs))
            what, _, advice = missing.partition(": ")
            yield Finding(name, PROBLEM if needed else NOTE, what, advice or None)
            continue
        try:
            anyio.run(
                _run_on,
                backend,
                backend=backend.library,
                backend_options=dict(backend.options),
            )
        except Exception as exc:
            yield Finding(
                name,
                PROBLEM,
                f"does not run: {type(exc).__name__}: {exc}",
                f"install {backend.needs[0] if backend.needs else 'Python'} anew, or leave the "
                "backend out: harness_backends",
            )
        else:
            yield Finding(name, OK, _version_of(backend))


def check_transports(place: Place) -> Iterator[Finding]:
    """Every built-in transport listens, is connected to, and carries a byte."""
    details = {
        "tcp": "127.0.0.1",
        "tcp6": "::1",
        "tls": ssl.OPENSSL_VERSION,
        "unix": f"in {tempfile.gettempdir()}",
        "memory": "in this process",
    }
    for name in transports.BUILT_IN:
        transport = transports.make_transport(name)
        missing = transport.missing()
        # Nothing is wrong with a machine that has no IPv6.
        bad = PROBLEM if name in transports.DEFAULT else NOTE
        if missing is not None:
            yield Finding(name, NOTE, missing, _without_transport(name))
            continue
        try:
            anyio.run(_carry_a_byte, transport)
        except Exception as exc:
            reason = f"does not work: {type(exc).__name__}: {exc}"
            yield Finding(name, bad, reason, _without_transport(name))
        else:
            yield Finding(name, OK, details.get(name, ""))


def check_plugins(place: Place) -> Iterator[Finding]:
    """Pytest loads what it has to, and nothing that takes the harness's tests for itself."""
    if place.unreadable is not None:
        yield Finding(
            "settings", PROBLEM, place.unreadable, "pytest cannot read it either: mend it"
        )
    elif place.settings is not None:
        yield Finding("settings", OK, place.settings.where)
    else:
        yield Finding("settings", OK, "none")
    installed = installed_plugins()
    for name in ("anyio", "harness.pytest_plugin"):
        if name not in installed:
            yield Finding(name, PROBLEM, "is not installed as a plugin", _install_again(name))
        elif os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
            yield Finding(
                name,
                NOTE,
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD keeps pytest from loading it by itself",
                f"-p {name}",
            )
        else:
            yield Finding(name, OK, installed[name])
    project = Project(place.folder, place.settings)
    try:
        bad = dict(fighting(project, installed))
    except CannotRead as exc:
        yield Finding("conftest.py", PROBLEM, str(exc), "pytest cannot read it either: mend it")
        return
    for plugin in PLUGINS:
        version = installed.get(plugin.name)
        if version is None:
            continue
        if plugin in bad:
            ways = [plugin.instead] if plugin.instead else []
            ways.append(
                f"run the harness's tests apart, in a folder that has a pytest.ini with "
                f"`addopts = {plugin.away}`, as `python -m harness init` makes one"
            )
            yield Finding(
                plugin.distribution,
                PROBLEM,
                f"{version} takes the tests of the harness for itself: {bad[plugin]}",
                "; or ".join(ways),
            )
        elif project.keeps_away(plugin):
            yield Finding(plugin.distribution, OK, f"{version}, kept away by {plugin.away}")
        else:
            yield Finding(plugin.distribution, OK, f"{version}, takes only its own tests")


def check_extras(place: Place) -> Iterator[Finding]:
    """What the harness can use if it is there, and what often goes with it."""
    for requirement in place.requirements or ():
        if not _applies(requirement):
            for extra in metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or ():
                if requirement.marker is not None and requirement.marker.evaluate({"extra": extra}):
                    yield _package(requirement, NOTE, f"pip install '{DISTRIBUTION}[{extra}]'")
    for name, purpose in COMPANIONS.items():
        try:
            yield Finding(name, OK, f"{metadata.version(name)}, {purpose}")
        except metadata.PackageNotFoundError:
            advice = f"pip install {name}"
            yield Finding(name, NOTE, f"not installed: {purpose}", advice)


def check_system(place: Place) -> Iterator[Finding]:
    """How many descriptors a process may have: each connection takes two, a proxy's four."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = "no limit" if hard == resource.RLIM_INFINITY else str(hard)
    if soft == resource.RLIM_INFINITY:
        yield Finding("descriptors", OK, "no limit")
    elif soft >= ENOUGH_DESCRIPTORS:
        yield Finding("descriptors", OK, f"{soft} (at most {most})")
    else:
        able = hard == resource.RLIM_INFINITY or hard >= ENOUGH_DESCRIPTORS
        yield Finding(
            "descriptors",
            NOTE,
            f"{soft} (at most {most}): enough for about {max(soft // 2 - 20, 0)} connections",
            f"for more, `ulimit -n {ENOUGH_DESCRIPTORS if able else hard}` in the shell",
        )


#: All checks, in the order in which they are shown. The names are ``check`` in ``--json``.
CHECKS: Mapping[str, Callable[[Place], Iterable[Finding]]] = {
    "packages": check_packages,
    "backends": check_backends,
    "transports": check_transports,
    "plugins": check_plugins,
    "extras": check_extras,
    "system": check_system,
}


def add_to(commands: Commands) -> None:
    """Make the parser of the command."""
    parser = add_command(
        commands,
        "doctor",
        run,
        does="what works here, what is missing, and what to do about it",
        description="What works here, what is missing, and what to do about it.",
        epilog=EPILOG,
    )
    add_folder(parser, "where pytest is run: its settings there are looked at; here by default")
    parser.add_argument("--json", action="store_true", help="print one object, for programs")


def run(options: Namespace) -> int:
    """Run the command; return the exit code."""
    folder = Path(options.folder)
    if not folder.is_dir():
        options.parser.error(f"argument FOLDER: {str(folder)!r} is not a folder")
    place = _place(folder.resolve())
    findings = [(check, finding) for check, look in CHECKS.items() for finding in look(place)]
    counts = {
        status: sum(finding.status == status for _, finding in findings)
        for status in (PROBLEM, NOTE)
    }
    about: dict[str, Any] = {
        "format": FORMAT,
        "ok": not counts[PROBLEM],
        "problems": counts[PROBLEM],
        "notes": counts[NOTE],
        "folder": str(place.folder),
        "harness": None if place.requirements is None else metadata.version(DISTRIBUTION),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
    }
    if options.json:
        about["findings"] = [{"check": check, **asdict(finding)} for check, finding in findings]
        print(json.dumps(about, indent=2))
    else:
        print("\n".join(_in_columns(about, findings)))
    return 1 if counts[PROBLEM] else 0


def _place(folder: Path) -> Place:
    settings, unreadable = None, None
    try:
        settings = find_settings(folder)
    except CannotRead as exc:
        unreadable = str(exc)
    return Place(folder, settings, unreadable, _requirements())


def _requirements() -> Sequence[Requirement] | None:
    from packaging.requirements import Requirement  # comes with pytest

    try:
        return [Requirement(each) for each in metadata.requires(DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError:
        return None


def _applies(requirement: Requirement) -> bool:
    """Whether it is required here, without any extra."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def _fits(version: str, bounds: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(bounds).contains(version, prereleases=True)


def _package(requirement: Requirement, bad: str, advice: str | None = None) -> Finding:
    """What is there of something that is required, against its bounds."""
    bounds = str(requirement.specifier)
    advice = advice or f"pip install '{requirement.name}{bounds}'"
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Finding(requirement.name, bad, f"not installed ({bounds})", advice)
    if not _fits(version, bounds):
        return Finding(requirement.name, bad, f"{version} is not {bounds}", advice)
    return Finding(requirement.name, OK, f"{version} ({bounds})" if bounds else version)


async def _run_on(backend: Backend) -> None:
    with anyio.fail_after(BOUND):
        check_running(backend)
        await checkpoint()


async def _carry_a_byte(transport: Transport) -> None:
    with anyio.fail_after(BOUND):
        async with open_harness(transport=transport) as harness:
            client, server = await harness.pair()
            await client.send(b"?")
            if await server.receive() != b"?":
                raise RuntimeError("it does not deliver what was sent")


def _version_of(backend: Backend) -> str:
    if not backend.needs:
        return f"Python {platform.python_version()}"
    return ", ".join(f"{module} {metadata.version(module)}" for module in backend.needs)


def _without_transport(name: str) -> str | None:
    if name not in transports.DEFAULT:
        return None  # it is used by name only
    others = " ".join(each for each in transports.DEFAULT if each != name)
    return f"it is skipped; or leave it out: harness_transports = {others}"


def _install_again(plugin: str) -> str:
    name = "anyio" if plugin == "anyio" else DISTRIBUTION
    return f"pip install --force-reinstall {name}"


def _in_columns(about: Mapping[str, Any], findings: Sequence[tuple[str, Finding]]) -> Iterator[str]:
    first = f"{DISTRIBUTION} {about['harness'] or '(not installed)'}, {about['python']}"
    yield _cut(f"{first}, {about['platform']}")
    names = max(len(finding.name) for _, finding in findings)
    checks = max(map(len, CHECKS))
    width = WIDTH
    if sys.stdout.isatty():
        width = min(WIDTH, max(shutil.get_terminal_size().columns, 60))
    shown = None
    for check, finding in findings:
        if check != shown:
            yield ""
        title = check if check != shown else ""
        shown = check
        start = f"{title:{checks}}  {finding.name:{names}}  {finding.status:{len(PROBLEM)}}  "
        yield from _wrapped(start, finding.found, width)
        if finding.advice is not None:
            yield from _wrapped(" " * len(start) + "-> ", finding.advice, width)
    yield ""
    yield f"{_counted(about['problems'], 'problem')}, {_counted(about['notes'], 'note')}"


def _wrapped(start: str, text: str, width: int) -> Iterator[str]:
    lines = textwrap.wrap(text, width - len(start), break_on_hyphens=False) or [""]
    for number, line in enumerate(lines):
        yield (start if number == 0 else " " * len(start)) + line


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..."


def _counted(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"
