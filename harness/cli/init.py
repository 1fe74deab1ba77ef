"""``python -m harness init``: tests on every backend for a new project, or one that is there."""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import sys
import textwrap
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..nox import SETUP, harness_requirement
from . import new_files
from .command import add_command, add_folder
from .new_files import FIRST_TEST, SUBJECT, Layout
from .pytest_settings import (
    CannotRead,
    PytestSettings,
    find_settings,
    parse_toml,
    read_text,
    table_at,
)
from .rivals import Plugin, Project, fighting, installed_plugins

if TYPE_CHECKING:
    from .command import Commands

EPILOG = """\
What it writes, if it is not there yet:
  pyproject.toml               gets the table [tool.pytest.ini_options], if pytest has no settings
                               yet; the rest of the file stays as it is
  tests/conftest.py            where fixtures, backends and transports of your own go
  tests/test_echo_server.py    a first test, by another name if python_files asks for one
  noxfile.py                   a session for each backend
  .github/workflows/tests.yml  these on GitHub, on three systems

First it shows each file and what becomes of it: create, change, replace, keep, or same. Nothing
that is there is overwritten without --force, and pyproject.toml not even then. On a terminal it
asks before it writes; otherwise, and with --yes, it writes without a question, as nothing is lost.
If one file cannot be written, none is.

A project in which another plugin takes every async test (pytest-asyncio in auto mode, pytest-trio's
trio_mode, and others) goes on as before: the harness's tests then are in a folder of their own,
tests/harness_tests, with a pytest.ini of its own, and are run by `pytest tests/harness_tests`.

The exit code is 0 if all is there, 1 if something cannot be read or written, or the answer was no,
and 2 for arguments that are wrong.
"""

CREATE = "create"
CHANGE = "change"
REPLACE = "replace"
KEEP = "keep"
SAME = "same"

#: Where the harness's tests are kept apart, in the folder of the others: a folder more at the top
#: would be a package more for setuptools, which then does not know which one is meant.
APART = "harness_tests"

#: Where the tests are, if nothing says otherwise; the second if it is there and the first is not.
TESTS = ("tests", "test")

#: Columns of a note, at the most.
WIDTH = 100

#: What extras and dependency groups with the tests' own needs are called.
TEST_GROUPS = ("test", "tests", "testing", "dev")

#: What files with the tests' own needs are called.
TEST_REQUIREMENTS = (
    "requirements-test.txt",
    "requirements-tests.txt",
    "requirements-dev.txt",
    "test-requirements.txt",
    "dev-requirements.txt",
    "tests/requirements.txt",
)

#: Folders in which nobody has tests of his own.
NO_TESTS = {"node_modules", "site-packages", "build", "dist", "__pycache__"}


@dataclass(frozen=True)
class Step:
    """What becomes of one file.

    :ivar path: the file, relative to the project, with slashes
    :ivar action: :data:`CREATE`, :data:`CHANGE`, :data:`REPLACE`, :data:`KEEP` or :data:`SAME`
    :ivar content: all of the file afterwards; ``None`` where nothing is written
    :ivar why: more about it, for a reader
    """

    path: str
    action: str
    content: bytes | None = None
    why: str = ""


@dataclass(frozen=True)
class Plan:
    """Everything that is to be written, and what is to be said besides."""

    layout: Layout
    steps: Sequence[Step]
    notes: Sequence[str]


class CannotWrite(Exception):
    """A file cannot be written. The message says which, and what is left of the others."""


def add_to(commands: Commands) -> None:
    """Make the parser of the command."""
    parser = add_command(
        commands,
        "init",
        run,
        does="tests on every backend for a new project, or one that is there",
        description="Write what a project needs for its tests to run on every backend.",
        epilog=EPILOG,
    )
    add_folder(parser, "the project, which is made if it is not there; here by default")
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be written, and write nothing"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace files that are there and differ"
    )
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def run(options: Namespace) -> int:
    """Run the command; return the exit code."""
    folder = Path(options.folder)
    if os.path.lexists(folder) and not folder.is_dir():
        options.parser.error(f"argument FOLDER: {str(folder)!r} is not a folder")
    try:
        plan = make_plan(folder, force=options.force)
        _say("\n".join(_shown(folder, plan)))
        if options.dry_run:
            print("\nnothing is written: --dry-run")
            return 0
        if not any(step.content is not None for step in plan.steps):
            print("\nnothing to write")
            return 0
        if not options.yes and not _agreed():
            print("nothing is written")
            return 1
        write(folder, plan.steps)
    except (CannotRead, CannotWrite) as exc:
        print(f"{options.parser.prog}: error: {exc}", file=sys.stderr)
        return 1
    except OSError as exc:  # a folder that may not be looked into, and the like
        print(f"{options.parser.prog}: error: {exc.filename}: {exc.strerror}", file=sys.stderr)
        return 1
    _say("\n".join(_next(folder, plan)))
    return 0


def _say(text: str) -> None:
    """Print ``text``; whoever has stopped reading it, as ``head`` does, has not said no."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        nobody = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nobody, sys.stdout.fileno())  # Python flushes it once more at its end
        os.close(nobody)


def make_plan(folder: Path, *, force: bool = False) -> Plan:
    """What is to be written into a project. Writes nothing.

    :param force: whether files that are there and differ are replaced
    :raises CannotRead: for a file that has to be understood and cannot be
    """
    pyproject_file = folder / "pyproject.toml"
    pyproject: dict[str, Any] = {}
    if os.path.lexists(pyproject_file):
        pyproject = parse_toml(pyproject_file, read_text(pyproject_file))
    others = [path for path in _test_files(folder) if Path(path).name != FIRST_TEST]
    # A new project in somebody's folder is not that project's; one that has tests may be.
    settings = find_settings(folder, parents=bool(others))
    rivals = fighting(Project(folder.resolve(), settings), installed_plugins())
    apart = bool(rivals) and (bool(others) or settings is not None)
    tests = _tests_folder(folder, settings)
    if apart:
        tests = f"{tests}/{APART}"
    requirement = harness_requirement()
    notes = [_about_rival(plugin, reason, tests if apart else None) for plugin, reason in rivals]
    if requirement.partition(" @ ")[2].startswith("file:"):
        notes.append(
            f"anyio-harness was installed here from {requirement.partition(' @ ')[2]}; the "
            "noxfile and the workflow ask an index for it (PIP_FIND_LINKS names a folder besides)"
        )
        requirement = "anyio-harness"
    install, pip_install = _needs(folder, pyproject)
    patterns = settings.words("python_files") if settings is not None and not apart else []
    test = _first_test(tests, patterns)
    if test is None:
        test = f"{tests}/{FIRST_TEST}"
        notes.append(f"python_files = {' '.join(patterns)} leaves {test} out: rename it")
    layout = Layout(
        tests=tests,
        apart=tuple(plugin.name for plugin, _ in rivals) if apart else (),
        away=() if apart else tuple(plugin.name for plugin, _ in rivals),
        strict=not others,
        testpaths=all(path.startswith(f"{tests}/") for path in others),
        pythonpath=tuple(settings.words("pythonpath")) if settings is not None else (),
        requirement=requirement,
        install=install,
        pip_install=pip_install,
        pythons=_pythons(pyproject),
    )
    steps = []
    if apart:
        steps.append(_file(folder, f"{tests}/pytest.ini", new_files.settings_apart(layout), force))
    else:
        steps.append(_settings_step(folder, settings, layout))
    steps.append(_file(folder, f"{tests}/conftest.py", new_files.conftest(layout), force))
    steps.append(_file(folder, test, new_files.TEST, force))
    noxfile = _file(folder, "noxfile.py", new_files.noxfile(layout), force)
    if noxfile.action == KEEP and "backend_sessions" not in read_text(folder / "noxfile.py"):
        layout = replace(layout, nox=False)
        call = ", ".join([f"tests=[{json.dumps(tests)}]", *layout.install])
        notes.append(
            "for a session for each backend in your noxfile.py: `from harness.nox import "
            f"backend_sessions`, and `backend_sessions({call})` under a name that is free"
        )
    steps.append(noxfile)
    steps.append(_file(folder, ".github/workflows/tests.yml", new_files.workflow(layout), force))
    notes += _about_workflow(folder)
    return Plan(layout, steps, notes)


def write(folder: Path, steps: Sequence[Step]) -> None:
    """Write the files of a plan: all of them, or none.

    Everything is first written beside its place, and then moved.

    :raises CannotWrite: if one cannot be written; the others are as they were, or are named
    """
    made: list[Path] = []
    beside: list[tuple[Path, Path]] = []
    before: list[tuple[Path, bytes | None]] = []
    name = folder
    try:
        for step in steps:
            if step.content is None:
                continue
            name = path = folder / step.path
            if os.path.lexists(path):
                path = path.resolve()  # what a link leads to, and not the link
            _make_folder(path.parent, made)
            new = path.with_name(f".{path.name}.{os.getpid()}.new")
            with open(new, "xb") as file:
                beside.append((new, path))
                file.write(step.content)
            if path.exists():
                shutil.copymode(path, new)
        written = [step for step in steps if step.content is not None]
        for step, (new, path) in zip(written, beside, strict=True):
            name = folder / step.path
            before.append((path, path.read_bytes() if path.exists() else None))
            os.replace(new, path)
    except BaseException as exc:
        left = _undo(made, beside, before)
        if not isinstance(exc, OSError):
            raise
        rest = f"this is left of it: {', '.join(map(str, left))}" if left else ""
        raise CannotWrite(
            f"{name}: cannot be written: {exc.strerror or exc}; {rest or 'everything is as it was'}"
        ) from exc


def _make_folder(folder: Path, made: list[Path]) -> None:
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir()
        made.append(each)


def _undo(
    made: Sequence[Path],
    beside: Sequence[tuple[Path, Path]],
    before: Sequence[tuple[Path, bytes | None]],
) -> list[Path]:
    """Have everything as it was. Returns what could not be brought back."""
    left = []
    for path, content in before:
        try:
            if content is not None:
                path.write_bytes(content)
            else:
                path.unlink(missing_ok=True)
        except OSError:
            left.append(path)
    for new, _ in beside:
        try:
            new.unlink(missing_ok=True)
        except OSError:
            left.append(new)
    for folder in reversed(made):
        with suppress(OSError):  # something else has come into it
            folder.rmdir()
    return left


def _file(folder: Path, name: str, text: str, force: bool) -> Step:
    """What becomes of a file that is wholly ours."""
    path = folder / name
    for parent in path.parents:
        if parent == folder:
            break
        if os.path.lexists(parent) and not parent.is_dir():
            raise CannotRead(f"{parent}: is not a folder, and {name} has to be in it")
    content = text.encode()
    if not os.path.lexists(path):
        return Step(name, CREATE, content)
    if path.is_dir():
        raise CannotRead(f"{path}: is a folder, and has to be a file")
    try:
        if path.exists() and path.read_bytes() == content:
            return Step(name, SAME)
    except OSError as exc:
        raise CannotRead(f"{path}: cannot be read: {exc.strerror or exc}") from None
    if force:
        return Step(name, REPLACE, content)
    return Step(name, KEEP, why="it is there; --force replaces it")


def _settings_step(folder: Path, settings: PytestSettings | None, layout: Layout) -> Step:
    """What becomes of pyproject.toml: a table more, at the end, or nothing."""
    name = "pyproject.toml"
    table = new_files.settings_table(layout)
    wanted = table_at(parse_toml(folder / name, table), "tool", "pytest", "ini_options") or {}
    if settings is not None:
        if settings.file.parent == folder.resolve():
            where = settings.file.name
            if where == name and dict(settings.values) == dict(wanted):
                return Step(name, SAME)
        else:
            where = str(settings.file)
        why = f"pytest has its settings from {settings.where}; they stay as they are"
        return Step(where, KEEP, why=why)
    if not os.path.lexists(folder / name):
        return Step(name, CREATE, table.encode())
    old = (folder / name).read_bytes()
    # Also where the file's last line does not end, and in its own kind of lines.
    line = b"\r\n" if b"\r\n" in old else b"\n"
    gap = b"" if not old.strip() else line if old.endswith(b"\n") else line * 2
    new = old + gap + table.encode().replace(b"\n", line)
    document = parse_toml(folder / name, read_text(folder / name))
    try:
        after: Mapping[str, Any] = parse_toml(folder / name, new.decode("utf-8-sig"))
    except CannotRead:
        after = {}
    if table_at(after, "tool", "pytest", "ini_options") != wanted or not _only_more(
        document, after
    ):
        return Step(
            name,
            KEEP,
            why="its table `tool` is of a kind that cannot be added to; add by hand: "
            + table.replace("\n", "  "),
        )
    return Step(name, CHANGE, new, "[tool.pytest.ini_options] is added")


def _only_more(before: Any, after: Any) -> bool:
    """Whether everything that was there is there still."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return all(name in after and _only_more(before[name], after[name]) for name in before)
    return bool(before == after)


def _tests_folder(folder: Path, settings: PytestSettings | None) -> str:
    if settings is not None:
        for each in settings.words("testpaths"):
            path = each.replace("\\", "/").rstrip("/")
            plain = not path.startswith(("/", ".")) and not any(sign in path for sign in "*?[:")
            if plain and not (folder / path).is_file():
                return path
    first, second = TESTS
    return second if (folder / second).is_dir() and not (folder / first).exists() else first


def _first_test(tests: str, patterns: Sequence[str]) -> str | None:
    """The first test, under a name that ``python_files`` has pytest look for.

    A name is made of a pattern with a ``*`` and no other wildcard. ``None`` if there is none.

    :param tests: the folder that it is in
    :param patterns: ``python_files``; pytest's own, which fit, if it is empty
    """
    names = [FIRST_TEST]
    for pattern in patterns:
        before, star, after = pattern.rpartition("/")[2].partition("*")
        if not star or any(sign in before + after for sign in "*?["):
            continue
        camel = after[:1].isupper() or (before[:1].isupper() and before[-1:].isalpha())
        subject = SUBJECT.title().replace("_", "") if camel else SUBJECT
        names.append(f"{before}{subject}{after.removesuffix('.py')}.py")
    for name in names:
        if not patterns or any(_fits(f"{tests}/{name}", pattern) for pattern in patterns):
            return f"{tests}/{name}"
    return None


def _fits(path: str, pattern: str) -> bool:
    """Whether pytest looks for a file (``_pytest/pathlib.py``, ``fnmatch_ex``)."""
    if "/" in pattern:
        return fnmatch.fnmatch(f"/{path}", f"*/{pattern}")
    return fnmatch.fnmatch(path.rpartition("/")[2], pattern)


def _test_files(folder: Path) -> Iterator[str]:
    """The files that pytest would take for tests, relative to the project, with slashes."""
    for place, folders, files in os.walk(folder):
        folders[:] = [
            name
            for name in sorted(folders)
            if not name.startswith(".")
            and name not in NO_TESTS
            and not os.path.exists(os.path.join(place, name, "pyvenv.cfg"))
            and name != APART
        ]
        for name in files:
            if fnmatch.fnmatch(name, "test_*.py") or fnmatch.fnmatch(name, "*_test.py"):
                yield (Path(place) / name).relative_to(folder).as_posix()


def _needs(folder: Path, pyproject: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What tests that are there need: for ``backend_sessions``, and for ``pip install``."""
    for_nox: list[str] = []
    for_pip: list[str] = []
    extras = table_at(pyproject, "project", "optional-dependencies") or {}
    extra = next((name for name in TEST_GROUPS if name in extras), None)
    if extra is not None:
        for_nox.append(f"extras=[{json.dumps(extra)}]")
    if (
        any(table_at(pyproject, name) is not None for name in ("project", "build-system"))
        or (folder / SETUP).exists()
    ):
        for_pip += ["-e", f".[{extra}]" if extra else "."]
    groups = table_at(pyproject, "dependency-groups") or {}
    group = next((name for name in TEST_GROUPS if name in groups), None)
    if group is not None:
        for_nox.append(f"groups=[{json.dumps(group)}]")
        for_pip += ["--group", group]
    if extra is None and group is None:
        file = next((name for name in TEST_REQUIREMENTS if (folder / name).is_file()), None)
        if file is not None:
            for_nox.append(f'install=["-r", {json.dumps(file)}]')
            for_pip += ["-r", file]
    return tuple(for_nox), tuple(for_pip)


def _pythons(pyproject: Mapping[str, Any]) -> tuple[str, ...]:
    """The oldest and the newest Python that the project runs on, of those that are known here."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # comes with pytest

    wanted = (table_at(pyproject, "project") or {}).get("requires-python", "")
    try:
        bounds = SpecifierSet(str(wanted))
    except InvalidSpecifier:
        bounds = SpecifierSet()
    # The last patch of a version is in the bounds if any is: ">=3.12.4".
    known = [python for python in new_files.PYTHONS if bounds.contains(f"{python}.99")]
    known = known or list(new_files.PYTHONS[-1:])
    return tuple(dict.fromkeys((known[0], known[-1])))


def _about_rival(plugin: Plugin, reason: str, apart: str | None) -> str:
    why = f"{plugin.distribution} would take the harness's tests for itself: {reason}"
    if apart is None:
        return f"{why}; addopts keeps it away, {plugin.away}"
    instead = f". To have all tests in one run, {plugin.instead}" if plugin.instead else ""
    return f"{why}. So they are apart, with settings of their own: `pytest {apart}`{instead}"


def _about_workflow(folder: Path) -> Iterator[str]:
    above = folder.resolve()
    if not (above / ".git").exists():
        for parent in above.parents:
            if (parent / ".git").exists():
                yield f"GitHub reads workflows at the top of the repository only, {parent}"
                break


def _shown(folder: Path, plan: Plan) -> Iterator[str]:
    """The plan, a line for each file, and what is to be said besides."""
    yield f"in {folder.resolve()}"
    yield ""
    width = max(len(step.path) for step in plan.steps)
    for step in plan.steps:
        yield f"{step.action:7}  {step.path:{width}}  {step.why}".rstrip()
    for note in plan.notes:
        yield ""
        yield from textwrap.wrap(
            f"note: {note}", WIDTH, break_long_words=False, break_on_hyphens=False
        )


def _agreed() -> bool:
    """Whether all is to be written; without a terminal nobody can be asked."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return True
    try:
        return input("\nwrite this? [Y/n] ").strip().lower() in ("", "y", "yes")
    except EOFError:
        print()
        return False


def _next(folder: Path, plan: Plan) -> Iterator[str]:
    yield ""
    yield "written. Next:"
    if folder.resolve() != Path.cwd():
        yield f"  cd {folder}"
    yield f"  python -m pytest{f' {plan.layout.tests}' if plan.layout.apart else ''}"
    if plan.layout.nox:
        yield "  python -m pip install nox && python -m nox"
    yield "  python -m harness doctor  # what works here, and what is missing"
