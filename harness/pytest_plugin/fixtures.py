"""The fixtures ``harness`` and ``transport``."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from ..transports import Transport, make_transport
from .options import Marked, Settings, marked, settings_key

if TYPE_CHECKING:
    from ..core import Harness, open_harness
    from ..supervisor import DidNotStop

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup


@pytest.fixture
def transport(request: pytest.FixtureRequest) -> Transport:
    """The transport of this test: ``tcp``, ``unix``, ``tls``, ``memory``, or a project's own."""
    settings = request.config.stash[settings_key]
    try:
        name = request.param
    except AttributeError:
        raise pytest.UsageError(
            "the fixture 'transport' has no transport to be: the test has to name 'harness' or "
            "'transport' in its arguments or in those of its fixtures; request.getfixturevalue() "
            "comes too late to make one test for each transport"
        ) from None
    made = make_transport(name, settings.transports)
    missing = made.missing()
    if missing is not None:
        mark = marked(request.node, settings)
        if settings.selected_transports.explicit or (mark is not None and mark.transports):
            raise pytest.UsageError(f"transport {name!r}: {missing}")
        pytest.skip(f"transport {name!r}: {missing}")
    return made


@pytest.fixture
async def harness(
    request: pytest.FixtureRequest, anyio_backend: Any, transport: Any
) -> AsyncIterator[Harness]:
    """Servers, connections and background tasks of this test; all of it ends with the test."""
    from ..steps import current_fixture
    from ..supervisor import DidNotStop
    from .ending import end_the_run

    settings = request.config.stash[settings_key]
    if not isinstance(transport, (str, Transport)):
        raise _no_transport(request, transport)
    opening = open_like(settings, request.node, anyio_backend, transport)
    stuck: DidNotStop | None = None
    try:
        if current_fixture() is None:
            # A crash would cancel the task that runs all tests; see bodies.pytest_fixture_setup.
            raise RuntimeError(
                "a plugin's pytest_fixture_setup hides async fixtures from the harness; "
                "load harness.pytest_plugin after it"
            )
        async with opening as opened:
            yield opened
            opened.expect_nothing()  # it was asked at the end of the body, if that came to its end
    except (DidNotStop, ExceptionGroup) as exc:
        stuck = _did_not_stop(exc)
        if stuck is not None and stuck.for_good:
            besides = "" if stuck is exc else f"\nbesides: {exc!r}"
            end_the_run(request.node, "teardown", f"{stuck}{besides}")
        if stuck is not exc:
            raise exc  # a bare `raise` would bring the old traceback back, on Python 3.10
    if stuck is not None:
        pytest.fail(str(stuck), pytrace=False)  # the traceback is all machinery


def _no_transport(request: pytest.FixtureRequest, given: object) -> TypeError:
    """The error for a project that has a fixture of that name, for something else."""
    __tracebackhide__ = True
    from ..diagnostics import place_of_function

    found = request.node._fixtureinfo.name2fixturedefs.get("transport", ())
    place = place_of_function(found[-1].func) if found else ""
    return TypeError(
        f"the fixture 'transport'{place} stands in the place of the harness's: it has to give a "
        f"Transport of harness.transports, or the name of one, and gives {given!r}; if it is for "
        "something else, it needs another name"
    )


def _did_not_stop(error: BaseException) -> DidNotStop | None:
    """The :exc:`DidNotStop` that ``error`` is or has among others; one for good, if there is."""
    from ..supervisor import DidNotStop

    if isinstance(error, DidNotStop):
        return error
    if not isinstance(error, ExceptionGroup):
        return None
    found = [each for each in map(_did_not_stop, error.exceptions) if each is not None]
    return max(found, key=lambda each: each.for_good, default=None)


def open_like(
    settings: Settings, item: pytest.Item, anyio_backend: object, transport: object
) -> open_harness:
    """A harness as ini and markers want it for ``item``.

    ``transport`` may come from a project's own fixture of that name: an object or a name.
    """
    from ..core import open_harness
    from .seeds import seed_of_test

    mark = marked(item, settings) or Marked()
    return open_harness(
        transport=transport,  # type: ignore[arg-type]  # checked there, with a clear error
        transports=settings.transports,
        grace=settings.grace if mark.grace is None else mark.grace,
        cancel_timeout=(
            settings.cancel_timeout if mark.cancel_timeout is None else mark.cancel_timeout
        ),
        backend=settings.backend_of(anyio_backend).name,
        seed=seed_of_test(item, settings),
    )
