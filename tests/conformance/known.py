"""What the tests of conformance share: where what is checked is known not to keep a promise."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from harness.backends import running_backend_name
from harness.conformance import PromiseBroken


def expect_difference(
    request: pytest.FixtureRequest,
    differences: Mapping[tuple[str, str, str], str],
    check: object,
    subject: str,
) -> None:
    """Expect this test to fail if ``differences`` has its check, its subject and this backend.

    The backend may be ``"*"``, for all of them. Called in a test, since only there a backend runs.
    """
    for backend in (running_backend_name(), "*"):
        reason = differences.get((str(check), subject, backend))
        if reason is not None:
            mark = pytest.mark.xfail(strict=True, raises=PromiseBroken, reason=reason)
            request.applymarker(mark)
