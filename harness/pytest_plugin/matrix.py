"""Which tests the harness runs, and on what: how ``anyio_backend`` and ``transport`` vary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from inspect import iscoroutinefunction
from typing import Any

import pytest

from .options import MARKER, Marked, Selection, Settings, marked, refuse_missing, settings_key

PLUGIN = "harness.pytest_plugin"

#: The definitions of each fixture that a test uses, as pytest keeps them: the last one is seen.
Definitions = Mapping[str, Sequence["pytest.FixtureDef[Any]"]]


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, name: str, obj: Any) -> None:
    """Give ``anyio_backend`` to async tests that have the marker and no fixture that brings it.

    Later, at ``pytest_collection_modifyitems``, AnyIO would rebuild the item and drop the test's
    own parameters.
    """
    function = obj.hypothesis.inner_test if hasattr(obj, "hypothesis") else obj
    if not iscoroutinefunction(function) or not collector.istestfunction(obj, name):
        return
    own = getattr(obj, "pytestmark", ())
    if any(mark.name == MARKER for mark in own) or collector.get_closest_marker(MARKER):
        pytest.mark.usefixtures("anyio_backend")(obj)


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
            marks.append(_backends(settings, selection or settings.selected_backends))
    if "transport" in metafunc.fixturenames and "transport" not in taken:
        selection = mark.transports if mark is not None and mark.transports else None
        if selection is not None or _is_from(definitions, "transport", PLUGIN):
            names = (selection or settings.selected_transports).names
            marks.append(pytest.mark.parametrize("transport", names, indirect=True))
    for each in reversed(marks):
        metafunc.definition.add_marker(each, append=False)


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
            mark = Marked()
        item.stash[_marker_key] = mark
        return mark


def _uses_fixtures(definitions: Definitions) -> bool:
    """Whether a test uses a fixture of this plugin, and not a project's own of the same name."""
    return any(_is_from(definitions, name, PLUGIN) for name in ("harness", "transport"))


def _backends(settings: Settings, selection: Selection) -> pytest.MarkDecorator:
    if selection.explicit:
        refuse_missing(settings, selection.names)
    parameters = []
    for name in selection.names:
        missing = settings.missing(name)
        marks = () if missing is None else (pytest.mark.skip(reason=missing),)
        value = settings.backends[name].anyio_backend
        parameters.append(pytest.param(value, id=name, marks=marks))
    return pytest.mark.parametrize("anyio_backend", parameters, scope="module")


def _parametrized_names(metafunc: pytest.Metafunc) -> Iterable[str]:
    for mark in metafunc.definition.iter_markers("parametrize"):
        names: Any = mark.args[0] if mark.args else mark.kwargs.get("argnames", ())
        if isinstance(names, str):
            names = [name.strip() for name in names.split(",")]
        yield from names


def _is_from(definitions: Definitions, fixture: str, module: str) -> bool:
    """Whether ``fixture``, as a test sees it, is the one of a plugin, or extends it."""
    chain = definitions.get(fixture, ())
    for definition in reversed(chain):
        if str(definition.func.__module__).startswith(module):
            return True
        if fixture not in definition.argnames:
            return False
    return False
