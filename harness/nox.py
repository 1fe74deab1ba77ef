"""Sessions for a noxfile: the tests of a project, once on each backend.

``backend_sessions()`` in a noxfile registers ``tests(backend='asyncio')``,
``tests(backend='uvloop')`` and ``tests(backend='trio')``.

A noxfile is run by nox, in an environment of nox's own, where the rest of the harness and what it
needs may be missing. So this module imports nothing of its package, and nox itself only when
sessions are made. A checkout may load it by its path.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

if TYPE_CHECKING:
    import nox

__all__ = ["BACKENDS", "backend_sessions", "harness_requirement"]

#: The backends of sessions for which nothing else is said.
BACKENDS: tuple[str, ...] = ("asyncio", "uvloop", "trio")

DISTRIBUTION = "anyio-harness"

#: What makes a folder something that pip can install, beside a pyproject.toml that says so.
SETUP = "setup.py"


def backend_sessions(
    name: str = "tests",
    *,
    backends: Sequence[str] = BACKENDS,
    pythons: Sequence[str] | None = None,
    tests: Sequence[str] = ("tests",),
    options: Sequence[str] = (),
    install: Sequence[str] = (),
    extras: Sequence[str] = (),
    groups: Sequence[str] = (),
    installer: Callable[[nox.Session], object] | None = None,
    env: Mapping[str, str | None] | None = None,
    doc: str | None = None,
    default: bool = True,
) -> None:
    """Register a nox session for each backend, which installs the project and runs its tests.

    The sessions are called ``tests(backend='trio')``, or ``tests-3.12(backend='trio')`` with
    ``pythons``. Each runs ``python -m pytest --harness-backends=trio`` and the tests, or what
    comes after ``--`` on nox's command line in the place of the tests.

    What is installed is, in one call of pip: the project itself, editable, if pyproject.toml has a
    table ``project`` or ``build-system`` or there is a setup.py; ``install``, ``groups``; and
    the harness that nox's own environment has (:func:`harness_requirement`).

    :param name: the name of the sessions, before the backend
    :param backends: names that ``--harness-backends`` takes. What cannot run here at all, such as
        uvloop on PyPy, is a session that is skipped with the reason.
    :param pythons: the versions of Python, such as ``["3.10", "3.14"]``; by default, the one that
        nox runs on
    :param tests: files and folders that pytest is given
    :param options: other arguments of pytest
    :param install: other arguments of ``pip install``, such as names of packages
    :param extras: extras of the project
    :param groups: dependency groups of pyproject.toml (PEP 735); needs nox 2024.10.9
    :param installer: called with the session in the place of everything that is installed
    :param env: environment variables for pytest; ``None`` takes one away
    :param doc: what ``nox --list`` says
    :param default: whether ``nox`` without ``--session`` runs them
    :raises ModuleNotFoundError: if nox is not installed
    :raises ImportError: if something else has its name
    :raises ValueError: for no backend, one that is named twice, or arguments that do not go
        together
    """
    backends = _names("backends", backends)
    if pythons is not None:
        pythons = _names("pythons", pythons)
    for what, value in {
        "tests": tests,
        "options": options,
        "install": install,
        "extras": extras,
        "groups": groups,
    }.items():
        if isinstance(value, str):
            raise ValueError(f"{what} has to be a list of strings, not {value!r}")
    if installer is not None and (install or extras or groups):
        raise ValueError("an installer installs everything: give it no install, extras or groups")
    _check_nox()
    import nox

    def run(session: nox.Session, backend: str) -> None:
        reason = _cannot_run(backend, session.python, install)
        if reason is not None:
            session.skip(reason)
        if installer is not None:
            installer(session)
        else:
            session.install(*_to_install(session, install, extras, groups))
        session.run(
            "python",
            "-m",
            "pytest",
            f"--harness-backends={backend}",
            *options,
            *(session.posargs or tests),
            env=dict(env or {}),
        )

    run.__doc__ = doc or "The tests on one backend."
    parametrized = nox.parametrize("backend", list(backends))(run)
    nox.session(python=pythons, name=name, default=default)(parametrized)


def harness_requirement() -> str:
    """What ``pip install`` takes for the harness that this environment has.

    ``"anyio-harness"`` if it comes from an index, or is not installed here. If it was installed
    from a file, a folder or a repository, that again (PEP 610), while it is there.
    """
    try:
        recorded = metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return DISTRIBUTION
    if recorded is None:
        return DISTRIBUTION
    origin = json.loads(recorded)
    url: str = origin["url"]
    if url.startswith("file:") and not os.path.exists(url2pathname(urlsplit(url).path)):
        return DISTRIBUTION
    if "vcs_info" in origin:
        url = f"{origin['vcs_info']['vcs']}+{url}@{origin['vcs_info']['commit_id']}"
    if origin.get("subdirectory"):
        url += f"#subdirectory={origin['subdirectory']}"
    return f"{DISTRIBUTION} @ {url}"


def _names(what: str, given: Sequence[str]) -> Sequence[str]:
    """Names of something, checked."""
    if isinstance(given, str):
        raise ValueError(f"{what} has to be a list of names, not {given!r}")
    if not given or len(set(given)) < len(given):
        raise ValueError(f"{what} has to be at least one name, each once, not {list(given)!r}")
    return list(given)


def _cannot_run(backend: str, python: object, install: Sequence[str]) -> str | None:
    """Why a backend cannot run in a session, whatever is installed; ``None`` if it may."""
    if backend != "uvloop":
        return None
    if str(python or sys.implementation.name).lower().startswith("pypy"):
        return "uvloop does not run on PyPy"
    if sys.platform == "win32" and not any(each.startswith("winloop") for each in install):
        return 'on Windows, uvloop is winloop: add it, install=["winloop"], if it is wanted'
    return None


def _to_install(
    session: nox.Session, install: Sequence[str], extras: Sequence[str], groups: Sequence[str]
) -> list[str]:
    """The arguments of ``pip install``. Ends the session if there is not what was asked for."""
    import nox

    # In a session, the working directory is the noxfile's folder.
    pyproject = nox.project.load_toml() if os.path.exists("pyproject.toml") else {}
    found: list[str] = []
    if "project" in pyproject or "build-system" in pyproject or os.path.exists(SETUP):
        found += ["-e", f".[{','.join(extras)}]" if extras else "."]
    elif extras:
        session.error(
            f"extras={list(extras)!r}: there is no project here that pip can install, neither a "
            "table [project] in pyproject.toml nor a setup.py"
        )
    if groups:
        known = pyproject.get("dependency-groups", {})
        for group in groups:
            if group not in known:
                session.error(
                    f"groups={list(groups)!r}: no {group!r} in [dependency-groups] of "
                    f"pyproject.toml, only {', '.join(known) or 'nothing'}"
                )
        found += nox.project.dependency_groups(pyproject, *groups)
    return [*found, *install, harness_requirement()]


def _check_nox() -> None:
    """See that ``import nox`` gives nox. Called before it is needed, for a clear error."""
    try:
        import nox
    except ModuleNotFoundError as exc:
        if exc.name != "nox":
            raise
        raise ModuleNotFoundError(
            "harness.nox makes sessions for nox, which is not installed: pip install nox",
            name="nox",
        ) from None
    if not hasattr(nox, "session"):
        raise ImportError(
            f"`import nox` gave {getattr(nox, '__file__', nox)}, which is not nox. Its folder must "
            "not be on sys.path: run nox from the folder of the noxfile",
            name="nox",
        )


if __name__ in ("__main__", "nox"):
    # `python -m nox` in this folder, or any `import nox` with it on sys.path, finds this file.
    raise ImportError(
        f"{__file__} is not nox, and must not be found in its place: run nox elsewhere"
    )
