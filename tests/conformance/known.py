"""What the tests of conformance share: how broken promises are expected, here and on purpose."""

from __future__ import annotations

import sys
from asyncio import InvalidStateError
from collections.abc import Collection, Mapping
from typing import Any

import pytest

from harness.backends import running_backend_name
from harness.conformance import PromiseBroken

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup


def expect_difference(
    request: pytest.FixtureRequest,
    differences: Mapping[tuple[str, str, str], str],
    check: object,
    subject: str,
    unending: Collection[tuple[str, str, str]] = (),
) -> None:
    """Expect this test to fail if ``differences`` has its check, its subject and this backend.

    The backend may be ``"*"``, for all of them. Called in a test, since only there a backend runs.

    :param unending: those that fail at once, and are not run
    """
    for backend in (running_backend_name(), "*"):
        key = (str(check), subject, backend)
        reason = differences.get(key)
        if reason is not None:
            if key in unending:
                pytest.xfail(reason)
            seen = pytest.RaisesExc(check=is_seen)
            request.applymarker(pytest.mark.xfail(strict=True, raises=seen, reason=reason))


async def expect_found(check: Any, *subject: object, **options: object) -> None:
    """Expect ``check`` to find what ``subject`` has been given as its defect.

    A subject that fails by a mistake of its own is no proof of anything.
    """
    with pytest.raises(PromiseBroken) as caught:
        await check(*subject, **options)
    assert caught.value.check is check
    assert not is_mistake(caught.value.__cause__)


def is_mistake(error: BaseException | None) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(map(is_mistake, error.exceptions))
    return isinstance(error, (AssertionError, AttributeError, NameError, TypeError))


def is_seen(error: BaseException) -> bool:
    """Whether it is a broken promise, or what a callback of the event loop raises, or both."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_seen, error.exceptions))
    return isinstance(error, (PromiseBroken, InvalidStateError))
