"""The seed of the run: drawn or given, said by the failures that it matters to, and replayed."""

from __future__ import annotations

import random
import re

import pytest
from blackbox import RunPytest, skip_without

from harness import open_harness, seeds

#: Prints what comes through a proxy that corrupts it, and fails.
CORRUPTED = """
    import pytest
    from harness.faults import Corrupt

    async def send(stream):
        await stream.send(bytes(128))

    async def received(proxy):
        data = b""
        async with await proxy.connect() as client:
            async for chunk in client:
                data += chunk
        return data

    @pytest.mark.parametrize("count", range(4))
    async def test_it(harness, count):
        server = await harness.serve(send)
        proxy = await harness.proxy(server, Corrupt(0.1))
        print(f"{count}: {(await received(proxy)).hex()} received")
        assert not "it fails"
"""

SAID = re.compile(r"^-+ harness seed -+\nreplay with --harness-seed=(\d+)$", re.MULTILINE)


def seed_of(result: pytest.RunResult) -> int:
    """What each failure of a run has said."""
    said = SAID.findall(result.stdout.str())
    assert len(said) == sum(map(result.parseoutcomes().get, ("failed", "errors"), (0, 0)))
    (seed,) = set(said)
    return int(seed)


def received(result: pytest.RunResult) -> list[str]:
    """What the tests of a run have received, in the order of their names."""
    return sorted(re.findall(r"^(\d: [0-9a-f]+) received$", result.stdout.str(), re.MULTILINE))


def test_what_a_failure_says_replays_it(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(CORRUPTED)
    cells = (f"--harness-backends={backend}", "--harness-transports=tcp")
    first = run_pytest(*cells)
    seed = seed_of(first)
    corrupted = received(first)
    assert len(corrupted) == len({each.partition(": ")[2] for each in corrupted}) == 4
    assert received(run_pytest(*cells, f"--harness-seed={seed}")) == corrupted
    assert received(run_pytest(*cells, f"--harness-seed={seed + 1}")) != corrupted
    (alone,) = received(run_pytest(*cells, f"--harness-seed={seed}", "-k", "tcp-2"))
    assert alone == corrupted[2]


def test_all_backends_have_the_same(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytester.makepyfile(CORRUPTED)
    result = run_pytest("--harness-transports=memory", "-k", "memory-0")
    seed_of(result)
    corrupted = received(result)
    assert corrupted == 3 * corrupted[:1]


def test_all_workers_have_the_same(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    skip_without("xdist")
    pytester.makepyfile(
        CORRUPTED.replace("@pytest", "@pytest.mark.xdist_group('one')\n    @pytest")
    )
    cells = (f"--harness-backends={backend}", "--harness-transports=memory")
    workers = ("-p", "xdist", "-n", "2")
    first = run_pytest(*cells, *workers)
    again = (*cells, f"--harness-seed={seed_of(first)}")
    assert len(received(first)) == 4
    assert received(run_pytest(*again, *workers, "--dist", "loadgroup")) == received(first)
    assert received(run_pytest(*again)) == received(first)


def test_nothing_is_said_of_a_test_that_does_not_depend_on_it(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        """
        import pytest
        from harness import open_harness
        from harness.faults import Corrupt, Latency

        async def handle(stream): ...

        async def test_passes(harness):
            await harness.proxy(await harness.serve(handle), Corrupt(0.5))

        @pytest.mark.xfail
        async def test_is_known(harness):
            await harness.proxy(await harness.serve(handle), Corrupt(0.5))
            assert not "it fails"

        async def test_no_proxy(harness):
            await harness.serve(handle)
            assert not "it fails"

        async def test_a_proxy_that_chooses_nothing(harness):
            proxy = await harness.proxy(await harness.serve(handle), Latency(1), Corrupt(0.5))
            await proxy.connect()
            assert not "it fails"

        async def test_a_seed_of_its_own(harness):
            await harness.proxy(await harness.serve(handle), Corrupt(0.5), seed=7)
            assert not "it fails"

        async def test_a_harness_with_a_seed_of_its_own(harness):
            async with open_harness(seed=7) as inner:
                await inner.proxy(await inner.serve(handle), Corrupt(0.5))
            assert not "it fails"

        def test_no_harness():
            assert not "it fails"
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory", "-rA")
    result.assert_outcomes(passed=1, failed=5, xfailed=1)
    result.stdout.no_fnmatch_line("*harness-seed*")


def test_it_is_said_in_whatever_part_the_test_fails(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        """
        import pytest
        from harness import open_harness

        async def handle(stream): ...

        @pytest.fixture
        async def proxy(harness):
            proxy = await harness.proxy(await harness.serve(handle))
            assert proxy.seed
            return proxy

        @pytest.fixture
        async def fails_in_setup(proxy):
            assert not "it fails"

        @pytest.fixture
        async def fails_in_teardown(proxy):
            yield
            assert not "it fails"

        async def test_setup(fails_in_setup): ...

        async def test_teardown(fails_in_teardown): ...

        async def test_looks_at_it(harness):
            assert not harness.seed

        @pytest.mark.harness
        async def test_a_harness_of_its_own():
            async with open_harness() as harness:
                proxy = await harness.proxy(await harness.serve(handle))
                assert not proxy.seed
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory")
    result.assert_outcomes(passed=1, failed=2, errors=2)
    seed_of(result)


WIDER = """
    import pytest
    from harness import open_harness

    async def handle(stream): ...

    @pytest.fixture(scope="module")
    async def proxy(anyio_backend):
        async with open_harness() as harness:
            proxy = await harness.proxy(await harness.serve(handle))
            print("the fixture's:", proxy.seed)
            yield proxy

    @pytest.mark.harness
    async def test_first(proxy): ...

    @pytest.mark.harness
    async def test_uses_it(proxy):
        print("the fixture has", proxy.seed)
        assert not "it fails"

    @pytest.mark.harness
    async def test_does_not_use_it():
        assert not "this one fails as well"
"""


def test_a_fixture_of_a_wider_scope_has_its_own(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(WIDER)
    cells = (f"--harness-backends={backend}",)
    first = run_pytest(*cells)
    first.assert_outcomes(passed=1, failed=2)
    ((seed,), (line,)) = (
        SAID.findall(first.stdout.str()),
        re.findall("^the fixture has .*$", first.stdout.str(), re.MULTILINE),
    )
    # It does not matter which test it was set up for.
    again = run_pytest(*cells, f"--harness-seed={seed}", "-k", "test_uses_it")
    again.stdout.fnmatch_lines([line])
    other = run_pytest(*cells, f"--harness-seed={seed}1", "-k", "test_uses_it")
    other.stdout.no_fnmatch_line(line)


def test_all_examples_of_hypothesis_have_the_same(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    skip_without("hypothesis")
    pytester.makepyfile(
        """
        from hypothesis import HealthCheck, given, settings, strategies as st
        from harness import open_harness

        seeds = set()

        async def handle(stream): ...

        @settings(
            database=None,
            deadline=None,
            max_examples=10,
            suppress_health_check=[HealthCheck.function_scoped_fixture],
        )
        @given(number=st.integers())
        async def test_it(harness, number):
            proxy = await harness.proxy(await harness.serve(handle))
            async with open_harness() as inner:
                seeds.add((proxy.seed, inner.seed))
            assert number < 100

        def test_seeds():
            print(len(seeds), "in all")
        """
    )
    result = run_pytest(f"--harness-backends={backend}", "--harness-transports=memory", "-s")
    result.assert_outcomes(passed=1, failed=1)
    seed_of(result)
    result.stdout.fnmatch_lines(["*1 in all"])


def test_it_does_not_follow_from_pythons_random(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    """As with pytest-randomly, which gives that a seed of its own, and again before each test."""
    pytester.makepyfile(CORRUPTED)
    pytester.makeconftest("import random\nrandom.seed(1)")
    cells = ("--harness-backends=asyncio", "--harness-transports=memory", "-k", "memory-0")
    assert received(run_pytest(*cells)) != received(run_pytest(*cells))


def test_the_nearest_wins(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    pytester.makepyfile(CORRUPTED)
    pytester.makeini("[pytest]\nharness_seed = 5")
    cells = ("--harness-backends=asyncio", "--harness-transports=memory", "-k", "memory-0")
    assert seed_of(run_pytest(*cells)) == 5
    assert seed_of(run_pytest(*cells, "--harness-seed=6")) == 6
    assert seed_of(run_pytest(*cells, "--harness-seed=random")) not in (5, 6)


@pytest.mark.parametrize("value", ["", "x", "1.5"])
def test_what_is_no_seed_is_refused(
    pytester: pytest.Pytester, run_pytest: RunPytest, value: str
) -> None:
    result = run_pytest(f"--harness-seed={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    expected = f"expected a whole number or 'random', not '{value}'"
    result.stderr.fnmatch_lines([f"*--harness-seed: {expected}"])
    result = run_pytest("-o", f"harness_seed={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*harness_seed: {expected}"])


@pytest.mark.harness
async def test_outside_of_a_run_each_harness_has_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "sources", [])
    before = random.getstate()
    async with open_harness() as one, open_harness() as other:
        assert one.seed != other.seed
    assert random.getstate() == before  # which is the user's


@pytest.mark.parametrize("seed", [True, 1.5, b"7", ()])
def test_a_seed_is_a_number_or_a_string(seed: object) -> None:
    with pytest.raises(TypeError, match="seed must be an int or a string, not"):
        open_harness(seed=seed)  # type: ignore[arg-type]
