"""The hooks that a project's top-level conftest or plugin may implement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..transports import Transport


def pytest_harness_backends(
    config: pytest.Config,
) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
    """Add backends: name -> (AnyIO backend, its options).

    ::

        def pytest_harness_backends(config):
            return {"rloop": ("asyncio", {"loop_factory": rloop.new_event_loop})}

    A name that is added is not run by default: select it with ``harness_backends``,
    ``--harness-backends`` or ``@pytest.mark.harness(backends=[...])``.
    """
    raise NotImplementedError("a hook's specification is not called")


def pytest_harness_transports(
    config: pytest.Config,
) -> Mapping[str, Callable[[], Transport]]:
    """Add transports: name -> a class, or a callable without arguments, that makes one.

    Called once for each test that runs on it. Selected like a backend that was added.
    """
    raise NotImplementedError("a hook's specification is not called")
