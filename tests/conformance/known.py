"""What the tests of conformance share: how broken promises are expected, here and on purpose."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from differences import Difference, difference

from harness.backends import running_backend_name
from harness.conformance import PromiseBroken
from harness.settling import settle

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

#: Where a difference stands, for whoever reads that one is no longer there.
REGISTRY = "tests/conformance/differences.py"

#: Of the event loop, in which what was cancelled comes to its end.
TURNS = 100


def known_of(kind: str, check: object, subject: str) -> Difference | None:
    """What is known of a check, on the backend that runs."""
    return difference(kind, str(check), running_backend_name(), subject)


async def held_to(
    request: pytest.FixtureRequest,
    known: Difference | None,
    check: Callable[[], Awaitable[object]],
) -> None:
    """Run a check. It passes; or it breaks its promise as is known, no more and no less.

    What it raises is raised here, so that pytest tells of an expected failure.
    """
    if known is None:
        await check()
        return
    exactly = pytest.RaisesExc(check=known.describes)
    request.applymarker(pytest.mark.xfail(strict=True, raises=exactly, reason=known.why))
    with errors_of_the_loop() as errors:
        try:
            await check()
        except (PromiseBroken, BaseExceptionGroup) as exc:
            if not known.describes(exc):
                pytest.fail(f"another difference than is known ({known.seen}):\n{exc}")
            raise
        await settle(turns=TURNS)  # until what was cancelled last has been called back
    if known.in_loop and errors:
        raise errors[0]
    pytest.fail(f"{known.check} is kept now: its lines in {REGISTRY} are no longer needed")


@contextmanager
def errors_of_the_loop() -> Iterator[list[BaseException]]:
    """What callbacks raise when their future has been cancelled, which else ends the test."""
    errors: list[BaseException] = []
    if running_backend_name() == "trio":
        yield errors
        return

    def note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, asyncio.InvalidStateError):
            errors.append(error)
        elif before is not None:
            before(loop, context)
        else:
            loop.default_exception_handler(context)

    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(note)
    try:
        yield errors
    finally:
        loop.set_exception_handler(before)


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
