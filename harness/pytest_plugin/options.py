"""What can be set, from where, and what is wrong with it: ini, command line, marker, hooks."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from .. import backends as backends_
from .. import transports as transports_
from ..backends import Backend
from ..durations import DEFAULT_CANCEL_TIMEOUT, DEFAULT_GRACE, checked_grace
from ..seeds import draw
from ..transports import TransportFactory
from . import hooks

MARKER = "harness"
MARKER_HELP = (
    "harness(backends=[...], transports=[...], grace=seconds, cancel_timeout=seconds, "
    "timeout=seconds, leaks='off'|'warn'|'error', allow_leaks=[...], "
    "blocking='off'|'warn'|'error', blocking_threshold=seconds, "
    "catch_loop_exceptions=bool, forbid_get_event_loop=bool, virtual_time=bool, threads=number): "
    "run the test with the harness, and say how. backends and transports: names to run on; "
    "grace: how long handlers may finish at the end; "
    "cancel_timeout: how long a cancelled handler may take to stop; "
    "timeout: how long setup, body and teardown may take each, 0 for as long as they like; "
    "leaks: what to do about what the test leaves behind; "
    "allow_leaks: kinds of leak, or 'kind:pattern', that it may; "
    "blocking: what to do about a step of the event loop that takes longer than "
    "blocking_threshold; "
    "catch_loop_exceptions: whether what a callback of the event loop raises fails the test; "
    "forbid_get_event_loop: fail if asyncio.get_event_loop() is called; "
    "virtual_time: let time jump whenever everything is blocked, as virtual_clock does; "
    "threads: how many worker threads it may have at once."
)


#: Seconds that the setup, the body and the teardown of a test may take each.
DEFAULT_TIMEOUT = 60.0


#: Seconds that one step of the event loop may take where blocking is looked for.
DEFAULT_BLOCKING_THRESHOLD = 0.1

#: A shorter step than this cannot be told from the machine's own pauses.
SHORTEST_THRESHOLD = 0.01

#: The seed that is another one in each run.
RANDOM = "random"

#: Where a worker of pytest-xdist finds the seed of the run.
WORKER_SEED = "harness_seed"

#: What can be done about something that is found.
MODES = ("off", "warn", "error")


@dataclass(frozen=True)
class Selection:
    """Names to run on, and whether somebody asked for them."""

    names: tuple[str, ...]
    explicit: bool


@dataclass(frozen=True)
class Marked:
    """The ``harness`` markers of a test, its class and its module, the nearest first."""

    backends: Selection | None = None
    transports: Selection | None = None
    grace: float | None = None
    cancel_timeout: float | None = None
    timeout: float | None = None
    leaks: str | None = None
    allow_leaks: tuple[str, ...] = ()
    blocking: str | None = None
    blocking_threshold: float | None = None
    catch_loop_exceptions: bool | None = None
    forbid_get_event_loop: bool | None = None
    virtual_time: bool | None = None
    threads: int | None = None


@dataclass
class Settings:
    """The run's settings, after ini, command line and hooks."""

    backends: Mapping[str, Backend]
    transports: Mapping[str, TransportFactory]
    selected_backends: Selection
    selected_transports: Selection
    grace: float = DEFAULT_GRACE
    cancel_timeout: float = DEFAULT_CANCEL_TIMEOUT
    timeout: float = DEFAULT_TIMEOUT
    leaks: str | None = None
    blocking: str = "off"
    blocking_threshold: float = DEFAULT_BLOCKING_THRESHOLD
    summary: bool = True
    forbid_get_event_loop: bool = False
    virtual_time: bool = False
    seed: int = 0
    _missing: dict[str, str | None] = field(default_factory=dict)

    def backend_of(self, anyio_backend: object) -> Backend:
        """The backend that a value of AnyIO's fixture ``anyio_backend`` stands for."""
        for backend in self.backends.values():
            if backend.anyio_backend == anyio_backend:
                return backend
        library, options = (
            anyio_backend if isinstance(anyio_backend, tuple) else (str(anyio_backend), {})
        )
        for backend in self.backends.values():
            if backend.library == library and not options:
                return backend  # ("asyncio", {}) is "asyncio" too
        return backends_.custom_backend(library, library, options)

    def missing(self, backend: str) -> str | None:
        """Why a backend cannot run here, looked up once a run."""
        if backend not in self._missing:
            self._missing[backend] = self.backends[backend].missing()
        return self._missing[backend]


settings_key: pytest.StashKey[Settings] = pytest.StashKey[Settings]()


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("harness", "test harness for network servers and clients on AnyIO")
    group.addoption(
        "--harness-backends",
        metavar="NAMES",
        help="backends to run harness tests on, separated by commas: "
        f"{', '.join(backends_.BUILT_IN)}, or one that a plugin adds",
    )
    group.addoption(
        "--harness-transports",
        metavar="NAMES",
        help="transports to run harness tests on, separated by commas: "
        f"{', '.join(transports_.BUILT_IN)}, or one that a plugin adds",
    )
    group.addoption(
        "--harness-timeout",
        metavar="SECONDS",
        help="seconds that the setup, the body and the teardown of a harness test may take each; "
        f"0 for as long as they like (default: ini harness_timeout, or {DEFAULT_TIMEOUT:g})",
    )
    group.addoption(
        "--harness-seed",
        metavar="SEED",
        help="the number that all random choices of the harness follow from, in the same way for "
        f"the same test; or {RANDOM} (default: ini harness_seed, or {RANDOM})",
    )
    parser.addini(
        "harness_backends",
        type="args",
        default=[],
        help=f"backends to run harness tests on (default: {' '.join(backends_.DEFAULT)})",
    )
    parser.addini(
        "harness_transports",
        type="args",
        default=[],
        help=f"transports to run harness tests on (default: {' '.join(transports_.DEFAULT)})",
    )
    parser.addini(
        "harness_grace",
        default=str(DEFAULT_GRACE),
        help="seconds that handlers may take to finish at the end of a test "
        f"(default: {DEFAULT_GRACE})",
    )
    parser.addini(
        "harness_cancel_timeout",
        default=str(DEFAULT_CANCEL_TIMEOUT),
        help="seconds that a cancelled handler may take to stop "
        f"(default: {DEFAULT_CANCEL_TIMEOUT})",
    )
    parser.addini(
        "harness_timeout",
        default=str(DEFAULT_TIMEOUT),
        help="seconds that the setup, the body and the teardown of a harness test may take each; "
        f"0 for as long as they like (default: {DEFAULT_TIMEOUT:g})",
    )
    parser.addini(
        "harness_leaks",
        default="",
        help="what to do about what a test leaves behind: off, warn or error (default: error for "
        "tests that use the harness, warn for other tests that AnyIO runs)",
    )
    parser.addini(
        "harness_blocking",
        default="off",
        help="what to do about a step of the event loop that takes longer than "
        "harness_blocking_threshold: off, warn or error (default: off)",
    )
    parser.addini(
        "harness_blocking_threshold",
        default=str(DEFAULT_BLOCKING_THRESHOLD),
        help="seconds that one step of the event loop may take where harness_blocking is on "
        f"(default: {DEFAULT_BLOCKING_THRESHOLD:g})",
    )
    parser.addini(
        "harness_seed",
        default=RANDOM,
        help="the number that all random choices of the harness follow from, or "
        f"{RANDOM} (default: {RANDOM})",
    )
    parser.addini(
        "harness_summary",
        type="bool",
        default=True,
        help="print the matrix of backends and transports at the end of a run (default: true)",
    )
    parser.addini(
        "harness_forbid_get_event_loop",
        type="bool",
        default=False,
        help="fail harness tests that call asyncio.get_event_loop() (default: false)",
    )
    parser.addini(
        "harness_virtual_time",
        type="bool",
        default=False,
        help="run harness tests in virtual time, as the fixture virtual_clock does "
        "(default: false)",
    )


def read_settings(config: pytest.Config) -> Settings:
    """Everything that is set for this run. Raises :exc:`pytest.UsageError` for what cannot be."""
    config.addinivalue_line("markers", MARKER_HELP)
    anyio_plugin = sys.modules.get("anyio.pytest_plugin")
    if anyio_plugin is None or not config.pluginmanager.is_registered(anyio_plugin):
        raise pytest.UsageError(
            "the harness plugin needs AnyIO's pytest plugin, which is not loaded: "
            "add `-p anyio` before `-p harness.pytest_plugin`, or take away `-p no:anyio`"
        )
    backends = dict(backends_.BUILT_IN)
    for added in config.hook.pytest_harness_backends(config=config):
        for name, value in _items("pytest_harness_backends", added):
            _check_new("pytest_harness_backends", name, backends)
            try:
                library, options = value
                options = dict(options)
            except (TypeError, ValueError):
                raise pytest.UsageError(
                    f"pytest_harness_backends: {name!r} must be a tuple (AnyIO backend, options), "
                    f"not {value!r}"
                ) from None
            try:
                backends[name] = backends_.custom_backend(name, library, options)
            except ValueError as exc:
                raise pytest.UsageError(f"pytest_harness_backends: {exc}") from None
    transports = dict(transports_.BUILT_IN)
    for added in config.hook.pytest_harness_transports(config=config):
        for name, factory in _items("pytest_harness_transports", added):
            _check_new("pytest_harness_transports", name, transports)
            if not callable(factory):
                raise pytest.UsageError(
                    f"pytest_harness_transports: {name!r} must be a class or another callable "
                    f"that makes a Transport, not {factory!r}"
                )
            transports[name] = cast(TransportFactory, factory)
    settings = Settings(
        backends=backends,
        transports=transports,
        selected_backends=_selected(config, "backends", backends, backends_.DEFAULT),
        selected_transports=_selected(config, "transports", transports, transports_.DEFAULT),
        grace=_seconds(config, "harness_grace"),
        cancel_timeout=_seconds(config, "harness_cancel_timeout"),
        timeout=_seconds(config, "harness_timeout", option="--harness-timeout"),
        leaks=(
            _mode("harness_leaks", config.getini("harness_leaks"))
            if config.getini("harness_leaks")
            else None
        ),
        blocking=_mode("harness_blocking", config.getini("harness_blocking")),
        blocking_threshold=_threshold(
            "harness_blocking_threshold", _seconds(config, "harness_blocking_threshold")
        ),
        summary=bool(config.getini("harness_summary")),
        forbid_get_event_loop=bool(config.getini("harness_forbid_get_event_loop")),
        virtual_time=bool(config.getini("harness_virtual_time")),
        seed=_seed(config),
    )
    if settings.selected_backends.explicit:
        refuse_missing(settings, settings.selected_backends.names)
    return settings


def refuse_missing(settings: Settings, names: Iterable[str], where: str = "") -> None:
    """Raise :exc:`pytest.UsageError` if one of the backends that were asked for is not there."""
    for name in names:
        reason = settings.missing(name)
        if reason is not None:
            raise pytest.UsageError(f"{where}{reason}")


def marked(node: pytest.Item | pytest.Collector, settings: Settings) -> Marked | None:
    """What the ``harness`` markers of ``node`` say, checked; ``None`` if it has none.

    Raises :exc:`pytest.UsageError` that names the node and lists what would be valid.
    """
    merged: dict[str, Any] = {}
    found = False
    for mark in node.iter_markers(MARKER):
        found = True
        where = f"{node.nodeid}: @pytest.mark.harness"
        if mark.args:
            raise pytest.UsageError(
                f"{where} takes keyword arguments only, not {mark.args!r}; valid are "
                f"{', '.join(Marked.__dataclass_fields__)}"
            )
        for name, value in mark.kwargs.items():
            if name not in Marked.__dataclass_fields__:
                raise pytest.UsageError(
                    f"{where} has no argument {name!r}; valid are "
                    f"{', '.join(Marked.__dataclass_fields__)}"
                )
            if name not in merged:
                merged[name] = _checked_argument(f"{where}({name}=...)", name, value, settings)
    return Marked(**merged) if found else None


def _checked_argument(where: str, name: str, value: object, settings: Settings) -> object:
    if name in ("backends", "transports"):
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise pytest.UsageError(f"{where} takes a list of names, not {value!r}")
        names = tuple(value)
        _check_names(where, names, getattr(settings, name), name[:-1])
        if name == "backends":
            refuse_missing(settings, names, f"{where}: ")
        return Selection(names, explicit=True)
    if name in ("catch_loop_exceptions", "forbid_get_event_loop", "virtual_time"):
        if not isinstance(value, bool):
            raise pytest.UsageError(f"{where} must be True or False, not {value!r}")
        return value
    if name == "threads":
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise pytest.UsageError(
                f"{where} must be a number of threads, 1 or more, not {value!r}"
            )
        return value
    if name in ("blocking", "leaks"):
        return _mode(where, value)
    if name == "allow_leaks":
        from .leaking import checked_allowed

        return checked_allowed(where, value)
    try:
        seconds = checked_grace(value, name)  # type: ignore[arg-type]
    except (TypeError, ValueError) as exc:
        raise pytest.UsageError(f"{where}: {exc}") from None
    return _threshold(where, seconds) if name == "blocking_threshold" else seconds


def _mode(where: str, value: object) -> str:
    if value not in MODES:
        raise pytest.UsageError(f"{where}: expected one of {', '.join(MODES)}, not {value!r}")
    return str(value)


def _threshold(where: str, seconds: float) -> float:
    if seconds < SHORTEST_THRESHOLD:
        raise pytest.UsageError(f"{where}: {SHORTEST_THRESHOLD:g} s is the least, not {seconds:g}")
    return seconds


def _selected(
    config: pytest.Config, what: str, known: Mapping[str, object], default: tuple[str, ...]
) -> Selection:
    option = config.getoption(f"--harness-{what}")
    if option is not None:
        names = tuple(name.strip() for name in option.split(",") if name.strip())
        where = f"--harness-{what}"
    else:
        names = tuple(
            name for value in config.getini(f"harness_{what}") for name in value.split(",") if name
        )
        where = f"harness_{what}"
        if not names:
            return Selection(default, explicit=False)
    _check_names(where, names, known, what[:-1])
    return Selection(names, explicit=True)


def _check_names(
    where: str, names: tuple[object, ...], known: Mapping[str, object], kind: str
) -> None:
    for name in names:
        if name not in known:
            raise pytest.UsageError(
                f"{where}: unknown {kind} {name!r}; valid are {', '.join(known)}"
            )
    if not names:
        raise pytest.UsageError(f"{where}: no {kind} named; valid are {', '.join(known)}")
    if len(set(names)) < len(names):
        raise pytest.UsageError(f"{where}: a {kind} is named twice: {', '.join(map(str, names))}")


def _items(hook: str, added: object) -> Iterable[tuple[str, Any]]:
    if not isinstance(added, Mapping):
        raise pytest.UsageError(f"{hook} must return a mapping by name, not {added!r}")
    return added.items()


def _check_new(hook: str, name: str, known: Mapping[str, object]) -> None:
    if name in known:
        raise pytest.UsageError(f"{hook}: the name {name!r} is taken")


def _seed(config: pytest.Config) -> int:
    worker_input: Mapping[str, Any] = getattr(config, "workerinput", {})
    if WORKER_SEED in worker_input:
        return int(worker_input[WORKER_SEED])
    option = config.getoption("--harness-seed")
    value = config.getini("harness_seed") if option is None else option
    if value == RANDOM:
        return draw()
    try:
        return int(value)
    except ValueError:
        where = "harness_seed" if option is None else "--harness-seed"
        raise pytest.UsageError(
            f"{where}: expected a whole number or {RANDOM!r}, not {value!r}"
        ) from None


def _seconds(config: pytest.Config, ini: str, option: str | None = None) -> float:
    value = None if option is None else config.getoption(option)
    where = ini if value is None else option
    if value is None:
        value = config.getini(ini)
    try:
        return checked_grace(float(value), ini)
    except ValueError:
        raise pytest.UsageError(
            f"{where}: expected a number of seconds, zero or more, not {value!r}"
        ) from None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give the seed to a worker of pytest-xdist, which reads the command line once more."""
    node.workerinput[WORKER_SEED] = node.config.stash[settings_key].seed
