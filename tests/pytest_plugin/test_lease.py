"""AnyIO's runner, held until after a test's last fixture, whatever becomes of it."""

from __future__ import annotations

import pytest
from anyio import pytest_plugin as anyio_plugin
from blackbox import RunPytest

from harness.backends import BUILT_IN
from harness.pytest_plugin.lease import Lease


def test_a_runner_that_cannot_be_closed_is_not_the_next_ones(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_backend = BUILT_IN[backend]

    def take() -> Lease:
        return Lease(of_backend.library, dict(of_backend.options), catch_loop_exceptions=True)

    lease = take()
    runner = anyio_plugin._current_runner
    assert runner is not None

    def fail(*exc_info: object) -> None:
        raise OSError("cannot be closed")

    # The context manager's exit is looked up on the class, when it is entered.
    stack = anyio_plugin._runner_stack
    assert stack is not None
    stack.callback(fail)
    with pytest.raises(OSError, match="cannot be closed"):
        lease.give_back()
    assert anyio_plugin._current_runner is None
    take().give_back()


def test_the_event_loop_outlives_the_fixtures(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    """A sync fixture that is torn down last can still look at what the loop held."""
    pytester.makepyfile(
        """
        import anyio, pytest

        @pytest.fixture
        def outermost():
            kept = []
            yield kept
            assert not kept[0].is_set()
            kept[0].set()

        async def test_it(outermost, harness):
            outermost.append(anyio.Event())
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory")
    result.assert_outcomes(passed=1)
