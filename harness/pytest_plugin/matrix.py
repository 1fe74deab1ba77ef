"""Which tests the harness runs, and on what: how ``anyio_backend`` and ``transport`` vary."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from inspect import iscoroutinefunction
from typing import Any

import pytest

from .clocks import CLOCKS
from .options import MARKER, Marked, Selection, Settings, marked, refuse_missing, settings_key

PLUGIN = "harness.pytest_plugin"

#: The fixtures that make a test the harness's.
FIXTURES = ("harness", "transport", *CLOCKS)

#: The definitions of each fixture that a test uses, as pytest keeps them: the last one is seen.
Definitions = Mapping[str, Sequence["pytest.FixtureDef[Any]"]]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: Any
) -> Generator[None, object, object]:
    """Give ``anyio_backend`` to async tests that have the marker and no fixture that brings it.

    Later, at ``pytest_collection_modifyitems``, AnyIO would rebuild the item and drop the test's
    own parameters. Only while the item is made: the function may be inherited by another class,
    which has no marker.
    """
    function = obj.hypothesis.inner_test if hasattr(obj, "hypothesis") else obj
    if not iscoroutinefunction(function) or not collector.istestfunction(obj, name):
        return (yield)
    own = getattr(obj, "pytestmark", None)
    if not (any(mark.name == MARKER for mark in own or ()) or collector.get_closest_marker(MARKER)):
        return (yield)
    pytest.mark.usefixtures("anyio_backend")(obj)
    try:
        return (yield)
    finally:
        if own is None:
            del obj.pytestmark
        else:
            obj.pytestmark = own


class BadMarker(pytest.UsageError, pytest.Collector.CollectError):  # type: ignore[misc]  # @final
    """A usage error that is found while collecting: pytest shows its message and no traceback."""


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize the tests that the harness runs: by backend, then transport, then their own.

    The parameters come as marks on the definition and not as calls of ``metafunc.parametrize``,
    because only a mark keeps pytest from adding the parameters of AnyIO's fixture as well.
    """
    settings = metafunc.config.stash[settings_key]
    try:
        mark = marked(metafunc.definition, settings)
    except pytest.UsageError as exc:
        raise BadMarker(str(exc)) from None
    definitions = metafunc._arg2fixturedefs
    taken = set(_parametrized_names(metafunc))
    if mark is None:
        free = {name: each for name, each in definitions.items() if name not in taken}
        if not _uses_fixtures(free):
            return
    marks = []
    if "anyio_backend" in metafunc.fixturenames and "anyio_backend" not in taken:
        # A project's own fixture gives way only to somebody who asks for backends by name.
        selection = mark.backends if mark is not None and mark.backends else None
        if selection is None and settings.selected_backends.explicit:
            selection = settings.selected_backends
        if selection is not None or _is_from(definitions, "anyio_backend", "anyio.pytest_plugin"):
            scope = definitions["anyio_backend"][-1].scope  # a project's own may be wider
            marks.append(_backends(settings, selection or settings.selected_backends, scope))
    if "transport" in metafunc.fixturenames and "transport" not in taken:
        selection = mark.transports if mark is not None and mark.transports else None
        if selection is not None or _is_from(definitions, "transport", PLUGIN):
            names = (selection or settings.selected_transports).names
            marks.append(pytest.mark.parametrize("transport", names, indirect=True))
    for each in reversed(marks):
        metafunc.definition.add_marker(each, append=False)
    if marks:
        _give_way(metafunc, [each.mark for each in marks])


def _give_way(metafunc: pytest.Metafunc, marks: Sequence[pytest.Mark]) -> None:
    """Leave out the parameters of ``marks`` that a ``pytest_generate_tests`` of the project gives.

    pytest turns marks into parameters behind the hooks of projects. The marks have to stay, since
    ``_pytest/fixtures.py``, ``FixtureManager.pytest_generate_tests``, which comes before those
    hooks, parametrizes whatever no mark does.
    """
    parametrize = metafunc.parametrize
    given: dict[str, bool] = {}  # name -> whether it was by one of the marks

    def parametrize_once(argnames: Any, *args: Any, **arguments: Any) -> None:
        ours = any(arguments.get("_param_mark") is mark for mark in marks)
        names = _names(argnames)
        if ours and any(name in given for name in names):
            return
        for name in names:
            if given.get(name):
                raise BadMarker(
                    f"{metafunc.definition.nodeid}: a pytest_generate_tests parametrizes {name!r} "
                    "when the harness has done so already. It is too late there for the project's "
                    "own parameters to count: take `trylast` away from the hook"
                )
            given[name] = ours
        parametrize(argnames, *args, **arguments)

    metafunc.parametrize = parametrize_once  # type: ignore[method-assign]


#: What the markers of a test without any say.
_UNMARKED = Marked()

_marker_key = pytest.StashKey["Marked | None"]()


def marker_of_run(item: pytest.Item, settings: Settings) -> Marked | None:
    """What the markers of ``item`` say if the harness runs it, and ``None`` if it does not."""
    try:
        return item.stash[_marker_key]
    except KeyError:
        mark = marked(item, settings)
        info = getattr(item, "_fixtureinfo", None)
        definitions = getattr(info, "name2fixturedefs", {})
        if mark is None and _uses_fixtures(definitions):
            mark = _UNMARKED
        item.stash[_marker_key] = mark
        return mark


def _uses_fixtures(definitions: Definitions) -> bool:
    """Whether a test uses a fixture of this plugin, and not a project's own of the same name."""
    return any(_is_from(definitions, name, PLUGIN) for name in FIXTURES)


def _backends(settings: Settings, selection: Selection, scope: Any) -> pytest.MarkDecorator:
    if selection.explicit:
        refuse_missing(settings, selection.names)
    parameters = []
    for name in selection.names:
        missing = settings.missing(name)
        marks = () if missing is None else (pytest.mark.skip(reason=missing),)
        value = settings.backends[name].anyio_backend
        parameters.append(pytest.param(value, id=name, marks=marks))
    return pytest.mark.parametrize("anyio_backend", parameters, scope=scope)


def _parametrized_names(metafunc: pytest.Metafunc) -> Iterable[str]:
    for mark in metafunc.definition.iter_markers("parametrize"):
        yield from _names(mark.args[0] if mark.args else mark.kwargs.get("argnames", ()))


def _names(argnames: str | Iterable[str]) -> list[str]:
    if isinstance(argnames, str):
        return [name.strip() for name in argnames.split(",")]
    return list(argnames)


def _is_from(definitions: Definitions, fixture: str, module: str) -> bool:
    """Whether ``fixture``, as a test sees it, is the one of a plugin, or extends it."""
    chain = definitions.get(fixture, ())
    for definition in reversed(chain):
        if str(definition.func.__module__).startswith(module):
            return True
        if fixture not in definition.argnames:
            return False
    return False
