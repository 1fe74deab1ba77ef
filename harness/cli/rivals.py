"""Plugins of pytest that would run the harness's tests themselves, as a project has set them.

What the harness does about them in a run is in ``pytest_plugin/rivals.py``. This looks before a
run, at what is installed and at what the project's files say, and imports none of them.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from .pytest_settings import PytestSettings, read_text


@dataclass(frozen=True)
class Plugin:
    """A plugin that may take async tests for itself.

    :ivar name: pytest's name for it, as in ``-p no:NAME``
    :ivar distribution: what pip calls it
    :ivar takes: why it takes the harness's tests here, and where that is set; ``None`` if it leaves
        them
    :ivar instead: what to do about it, in place of keeping it away
    """

    name: str
    distribution: str
    takes: Callable[[Project], str | None]
    instead: str = ""

    @property
    def away(self) -> str:
        """The option of pytest without which it is there."""
        return f"-p no:{self.name}"


@dataclass(frozen=True)
class Project:
    """What a project says to pytest.

    :ivar folder: where pytest is run
    :ivar settings: those that are in force there
    """

    folder: Path
    settings: PytestSettings | None

    @property
    def options(self) -> Sequence[tuple[str, str]]:
        """Arguments that pytest gets in any case, each with where it is from."""
        found = []
        if self.settings is not None:
            where = f"addopts in {self.settings.where}"
            found += [(word, where) for word in self.settings.words("addopts")]
        found += [(word, "PYTEST_ADDOPTS") for word in _environment_options()]
        return found

    def keeps_away(self, plugin: Plugin) -> bool:
        """Whether the plugin is not loaded."""
        words = [word for word, _ in self.options]
        return f"-pno:{plugin.name}" in words or any(
            pair == ("-p", f"no:{plugin.name}") for pair in itertools.pairwise(words)
        )


def fighting(project: Project, installed: Mapping[str, str]) -> list[tuple[Plugin, str]]:
    """The plugins that would take the harness's tests, each with the reason.

    :param installed: the plugins that are there, as :func:`installed_plugins` has them
    """
    found = []
    for plugin in PLUGINS:
        reason = plugin.takes(project)
        # One that is set up is meant to be there, if not in this environment.
        there = plugin.name in installed or plugin.takes is not _always
        if reason is not None and there and not project.keeps_away(plugin):
            found.append((plugin, reason))
    return found


def installed_plugins() -> dict[str, str]:
    """The plugins that pytest loads by itself: their versions, by pytest's names for them."""
    return {
        entry.name: entry.dist.version if entry.dist is not None else "?"
        for entry in metadata.entry_points(group="pytest11")
    }


def _environment_options() -> list[str]:
    try:
        return shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
    except ValueError:  # pytest will say so itself
        return []


def _asyncio_mode(project: Project) -> str | None:
    # The last one counts, and the command line over the file.
    options = project.options
    for position in reversed(range(len(options))):
        word, where = options[position]
        if word == "--asyncio-mode" and position + 1 < len(options):
            word = f"{word}={options[position + 1][0]}"
        if word.startswith("--asyncio-mode="):
            return where if word.endswith("=auto") else None
    settings = project.settings
    if settings is not None and str(settings.values.get("asyncio_mode", "")).lower() == "auto":
        return f"asyncio_mode = auto in {settings.where}"
    return None


def _trio_mode(project: Project) -> str | None:
    settings = project.settings
    if settings is not None and settings.is_on("trio_mode"):
        return f"trio_mode = true in {settings.where}"
    folders = [project.folder, project.folder / "tests", project.folder / "test"]
    for file in (folder / "conftest.py" for folder in folders):
        if file.is_file() and re.search(
            r"^\s*(from|import) pytest_trio\.enable_trio_mode\b", read_text(file), re.MULTILINE
        ):
            return f"pytest_trio.enable_trio_mode in {file.relative_to(project.folder)}"
    return None


def _always(project: Project) -> str | None:
    return "it has no mode in which it leaves them"


PLUGINS: Sequence[Plugin] = (
    Plugin(
        "asyncio",
        "pytest-asyncio",
        _asyncio_mode,
        "set asyncio_mode = strict, with @pytest.mark.asyncio on its own tests",
    ),
    Plugin(
        "trio",
        "pytest-trio",
        _trio_mode,
        "take trio_mode away, with @pytest.mark.trio on its own tests",
    ),
    Plugin("aiomisc", "aiomisc-pytest", _always),
    Plugin("aio", "pytest-aio", _always),
    Plugin("tornado", "pytest-tornasync", _always),
)
