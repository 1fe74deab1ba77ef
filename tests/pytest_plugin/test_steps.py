"""A child of a fixture that crashes at any moment of its test is that test's failure."""

from __future__ import annotations

import pytest
from blackbox import RunPytest

#: The child crashes some turns of the event loop after it was told to, in the setup of another
#: fixture: before that is set up, in between, and when the body already runs.
MODULE = """
    import anyio, pytest

    @pytest.fixture(scope="SCOPE")
    async def service(anyio_backend):
        go = anyio.Event()

        async def worker():
            await go.wait()
            RAISE

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker)
            yield go
            tasks.cancel_scope.cancel()

    async def turns(number):
        for _ in range(number):
            await anyio.lowlevel.checkpoint()

    @pytest.fixture
    async def generator(service, number):
        service.set()
        await turns(number)
        yield

    @pytest.fixture
    async def coroutine(service, number):
        service.set()
        await turns(number)

    @pytest.fixture
    def sync(service, number):
        service.set()

    @pytest.mark.harness(timeout=10)
    @pytest.mark.parametrize("number", range(TURNS))
    @pytest.mark.parametrize("name", ["generator", "coroutine"])
    async def test_it(service, name, number, request, client):
        await anyio.sleep_forever()

    @pytest.fixture
    def client(service, request, name, number):
        return request.getfixturevalue(name)

    @pytest.mark.harness(timeout=10)
    @pytest.mark.parametrize("number", [0])
    async def test_sync(service, sync, number):
        await anyio.sleep_forever()

    def test_next():
        pass
"""

TURNS = 10


@pytest.mark.parametrize("outcome", ["error", "fail", "skip", "xfail"])
def test_what_a_child_of_a_fixture_raises_is_told_whenever_it_comes(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str, outcome: str
) -> None:
    error = "raise LookupError" if outcome == "error" else f"pytest.{outcome}"
    module = MODULE.replace("RAISE", f"{error}('because of this')")
    pytester.makepyfile(module.replace("TURNS", str(TURNS)).replace("SCOPE", "function"))
    result = run_pytest(f"--harness-backends={backend}", "-W", "error")
    outcomes = result.parseoutcomes()
    several = 2 * TURNS + 1
    assert outcomes.pop("passed") == 1  # the test that is not concerned
    if outcome in ("error", "fail"):
        assert outcomes.pop("failed") + outcomes.pop("errors", 0) == several
        raised = [line for line in result.outlines if line.startswith("E ")]
        first = [line for line in raised if "(" not in line]
        assert len(first) == several, result.outlines
        assert all("because of this" in line for line in first)
    else:
        assert outcomes.pop({"skip": "skipped", "xfail": "xfailed"}[outcome]) == several
    assert not outcomes
    result.stdout.no_fnmatch_line("*harness_timeout*")
    result.stdout.no_fnmatch_line("*FixtureEnded*")


def test_what_a_child_of_a_modules_fixture_raises_is_told_to_the_test_and_to_those_after_it(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    module = MODULE.replace("RAISE", "raise LookupError('because of this')")
    pytester.makepyfile(module.replace("TURNS", "1").replace("SCOPE", "module"))
    result = run_pytest(f"--harness-backends={backend}", "-W", "error")
    outcomes = result.parseoutcomes()
    assert outcomes.pop("passed") == 1
    assert outcomes.pop("failed", 0) + outcomes.pop("errors") == 3
    result.stdout.fnmatch_lines(["E  *LookupError: because of this"])
    assert sum("*FixtureEnded" in line or "FixtureEnded:" in line for line in result.outlines) >= 2


def test_a_skip_in_a_child_of_a_modules_fixture_skips_the_next_test_that_uses_it(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        """
        import anyio, pytest

        go = []

        @pytest.fixture(scope="module")
        async def service(anyio_backend):
            go.append(anyio.Event())

            async def worker():
                await go[0].wait()
                pytest.skip("because of this")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(worker)
                yield
                tasks.cancel_scope.cancel()

        @pytest.mark.harness
        async def test_user(service):
            pass

        async def test_other(harness):
            go[0].set()
            await harness.settle()

        @pytest.mark.harness
        async def test_next_user(service):
            pass
        """
    )
    result = run_pytest(
        f"--harness-backends={backend}", "--harness-transports=memory", "-rs", "-W", "error"
    )
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*because of this*"])
