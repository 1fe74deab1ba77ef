"""``threads=N``: the worker threads of a test have a limit, on every backend."""

from __future__ import annotations

import asyncio
import threading

import anyio
import anyio.to_thread
import pytest

pytestmark = pytest.mark.harness()


class Crowd:
    """How many are in a thread at once: each waits until nobody else comes."""

    def __init__(self, expected):
        self.inside = 0
        self.most = 0
        self._lock = threading.Lock()
        self._expected = expected
        self._enough = threading.Event()

    def __call__(self):
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            if self.inside == self._expected:
                self._enough.set()
        assert self._enough.wait(60)
        with self._lock:
            self.inside -= 1


async def through_anyio(crowd, times):
    async with anyio.create_task_group() as group:
        for _ in range(times):
            group.start_soon(anyio.to_thread.run_sync, crowd)


async def through_the_loop(crowd, times):
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(None, crowd) for _ in range(times)))


WAYS = pytest.mark.parametrize("way", [through_anyio, through_the_loop])


def skip_what_is_not_there(way, backend):
    if way is through_the_loop and backend == "trio":
        pytest.skip("asyncio's")


@WAYS
@pytest.mark.harness(threads=2)
async def test_no_more_than_that(anyio_backend, anyio_backend_name, way):
    skip_what_is_not_there(way, anyio_backend_name)
    crowd = Crowd(2)
    await way(crowd, 9)
    assert crowd.most == 2


@WAYS
async def test_without_a_limit(anyio_backend, anyio_backend_name, way):
    """After one that had it: here more than two are needed."""
    skip_what_is_not_there(way, anyio_backend_name)
    crowd = Crowd(5)
    await way(crowd, 5)
    assert crowd.most == 5


@pytest.mark.harness(threads=1)
async def test_a_test_of_the_harness(harness):
    crowd = Crowd(1)

    async def handler(stream):
        await anyio.to_thread.run_sync(crowd)

    server = await harness.serve(handler)
    for client in [await server.connect() for _ in range(5)]:
        with pytest.raises(anyio.EndOfStream):
            await client.receive()
    assert (crowd.most, server.accepted) == (1, 5)


def test_in_an_event_loop_that_tests_share(run_pytest, pytester, backend):
    pytester.makepyfile(
        f"""
        import anyio, pytest
        from anyio.to_thread import current_default_thread_limiter

        pytestmark = [pytest.mark.anyio, pytest.mark.harness(backends=[{backend!r}])]

        @pytest.fixture(scope="module")
        def anyio_backend(request):
            return request.param

        @pytest.fixture(scope="module")
        async def holds_the_loop(anyio_backend):
            yield

        @pytest.mark.harness(threads=3)
        async def test_limited(holds_the_loop):
            assert current_default_thread_limiter().total_tokens == 3
            assert await anyio.to_thread.run_sync(lambda: 5) == 5

        async def test_not_limited(holds_the_loop):
            assert current_default_thread_limiter().total_tokens == 40
            assert await anyio.to_thread.run_sync(lambda: 5) == 5
        """
    )
    run_pytest("-p", "no:randomly").assert_outcomes(passed=2)


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2", None])
def test_what_is_no_number_of_threads(run_pytest, pytester, threads):
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.harness(threads={threads!r})
        async def test_it(harness):
            pass
        """
    )
    result = run_pytest()
    result.stdout.fnmatch_lines(
        [f"*harness(threads=...) must be a number of threads, 1 or more, not {threads!r}*"]
    )
