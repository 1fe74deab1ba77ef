"""Where pytest has its settings from in a project, and what they are, without running pytest."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Part of pytest's own dependencies where the standard library has no tomllib.
_toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
_loads: Callable[[str], dict[str, Any]] = _toml.loads
_TOMLError: type[Exception] = _toml.TOMLDecodeError


class CannotRead(Exception):
    """A file of the project cannot be read or is not valid. The message says which, and where."""


@dataclass(frozen=True)
class PytestSettings:
    """The settings of pytest that are in force for a folder.

    :ivar file: the file that they are in
    :ivar where: that file and the table in it, in words
    :ivar values: by name, as the file has them: strings, or lists and booleans in TOML
    """

    file: Path
    where: str
    values: Mapping[str, Any]

    def words(self, name: str) -> list[str]:
        """A setting that is a list, as a list; empty if it is not set."""
        value = self.values.get(name, [])
        if isinstance(value, str):
            try:
                return shlex.split(value)
            except ValueError:  # pytest will say so itself
                return value.split()
        return [str(each) for each in value] if isinstance(value, list) else [str(value)]

    def is_on(self, name: str) -> bool:
        """A setting that is a yes or no; no if it is not set."""
        return str(self.values.get(name, "")).lower() in ("1", "true", "yes", "on")


def find_settings(folder: Path, *, parents: bool = True) -> PytestSettings | None:
    """The settings that pytest takes when it is run in ``folder``; ``None`` if there are none.

    The order is pytest's (``_pytest/config/findpaths.py``, ``locate_config``): the first file that
    has settings counts, alone.

    :param parents: whether those of the folders above count, where the folder has none
    :raises CannotRead: for a file that pytest cannot read either
    """
    folder = folder.resolve()
    for place in (folder, *folder.parents) if parents else (folder,):
        for name, read in READERS.items():
            file = place / name
            if file.is_file():
                found = read(file)
                if found is not None:
                    return found
    return None


def read_text(file: Path) -> str:
    """The text of a file, in UTF-8. Raises :exc:`CannotRead` with its name."""
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as exc:
        raise CannotRead(f"{file}: cannot be read: {exc.strerror or exc}") from None
    except UnicodeDecodeError as exc:
        line = exc.object[: exc.start].count(b"\n") + 1
        raise CannotRead(f"{file}:{line}: is not UTF-8") from None


def parse_toml(file: Path, text: str) -> dict[str, Any]:
    """What TOML says. Raises :exc:`CannotRead` with the name of the file and the line."""
    try:
        return _loads(text)
    except _TOMLError as exc:
        found = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", str(exc))
        line = (found and found[1]) or str(len(text.splitlines()) or 1)
        what = str(exc)[: found.start()] if found else str(exc)
        raise CannotRead(f"{file}:{line}: is not valid TOML: {what}") from None


def table_at(document: Mapping[str, Any], *names: str) -> Mapping[str, Any] | None:
    """A table in a table, by their names; ``None`` if there is none."""
    found: Any = document
    for name in names:
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    return found if isinstance(found, Mapping) else None


def _pytest_toml(file: Path) -> PytestSettings:
    values = table_at(parse_toml(file, read_text(file)), "pytest")
    return PytestSettings(file, f"[pytest] of {file.name}", values or {})


def _pyproject(file: Path) -> PytestSettings | None:
    tool = table_at(parse_toml(file, read_text(file)), "tool", "pytest")
    if tool is None:
        return None
    classic = table_at(tool, "ini_options")
    if classic is not None:
        return PytestSettings(file, f"[tool.pytest.ini_options] of {file.name}", classic)
    # Since pytest 9.
    return PytestSettings(file, f"[tool.pytest] of {file.name}", tool) if tool else None


def _ini(section: str, *, always: bool = False) -> Callable[[Path], PytestSettings | None]:
    def read(file: Path) -> PytestSettings | None:
        # pytest's own reader: its idea of comments and of lines that go on is no other module's.
        from iniconfig import IniConfig, ParseError

        try:
            parsed = IniConfig(str(file), data=read_text(file))
        except ParseError as exc:
            raise CannotRead(f"{file}:{exc.lineno + 1}: is not valid: {exc.msg}") from None
        if section in parsed:
            values = dict(parsed[section].items())
            return PytestSettings(file, f"[{section}] of {file.name}", values)
        return PytestSettings(file, file.name, {}) if always else None

    return read


#: What reads a file, in the order in which pytest looks for them. A pytest.ini counts also if it
#: is empty.
READERS: Mapping[str, Callable[[Path], PytestSettings | None]] = {
    "pytest.toml": _pytest_toml,
    ".pytest.toml": _pytest_toml,
    "pytest.ini": _ini("pytest", always=True),
    ".pytest.ini": _ini("pytest", always=True),
    "pyproject.toml": _pyproject,
    "tox.ini": _ini("pytest"),
    "setup.cfg": _ini("tool:pytest"),
}
