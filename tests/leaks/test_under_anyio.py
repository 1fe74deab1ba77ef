"""The check around what AnyIO's own test runner runs: each part in the runner's one task."""

from __future__ import annotations

import socket

import anyio
import pytest
from anyio._core._eventloop import get_async_backend
from leak_driver import line_of, the_one

from harness.backends import BUILT_IN
from harness.leaks import LeakCheck


@pytest.fixture
def make_runner(backend):
    of_backend = BUILT_IN[backend]
    return lambda: get_async_backend(of_backend.library).create_test_runner(
        dict(of_backend.options)
    )


async def uses_the_group(group):
    group.start_soon(anyio.sleep_forever)
    await anyio.wait_all_tasks_blocked()


def run_test(runner, check, body, leaks):
    """A test with a fixture, in ``runner``."""
    parts = runner.run_asyncgen_fixture(fixture_of(check), {})
    group = next(parts)

    async def test():
        check.entered_loop()
        await body(group)

    async def find():
        leaks.extend(await check.find())

    runner.run_test(test, {})
    assert list(parts) == []
    runner.run_test(find, {})


def fixture_of(check):
    async def fixture():
        check.entered_loop()
        async with anyio.create_task_group() as group:
            yield group
            group.cancel_scope.cancel()

    return fixture


def test_a_runner_for_each_test(make_runner):
    for _ in range(3):
        check, leaks = LeakCheck(), []
        check.start()
        with make_runner() as runner:
            run_test(runner, check, uses_the_group, leaks)
        assert leaks + check.stop() == []


def test_a_runner_that_outlives_the_tests(make_runner):
    with make_runner() as runner:
        for _ in range(3):
            check, leaks = LeakCheck(), []
            check.start()
            run_test(runner, check, uses_the_group, leaks)
            assert leaks + check.stop() == []


def test_the_leak_of_one_test_is_not_the_next_ones(make_runner):
    kept = []

    async def leak(group):
        kept.append(socket.socket())  # made here
        kept.extend(anyio.create_memory_object_stream(1))

    found = []
    with make_runner() as runner:
        for body in (uses_the_group, leak, uses_the_group):
            check, leaks = LeakCheck(), []
            check.start()
            run_test(runner, check, body, leaks)
            found.append(leaks + check.stop())
        for each in kept:
            each.close()
    assert found[0] == found[2] == []
    assert [each.kind for each in found[1]] == ["memory stream", "memory stream", "socket"]
    the_one(found[1][2:], "socket", "AF_INET", line_of(leak, "# made here"))


def test_a_fixture_that_outlives_the_test(make_runner):
    """Its setup falls into the first test that asks for it; what it starts goes on in the next."""
    with make_runner() as runner:
        check, leaks = LeakCheck(), []

        async def module_fixture():
            check.entered_loop()
            async with anyio.create_task_group() as group:
                with check.exempt():
                    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
                    group.start_soon(listener.serve, anyio.sleep)
                yield group
                group.cancel_scope.cancel()
            await listener.aclose()

        check.start()
        with check.exempt():
            module_parts = runner.run_asyncgen_fixture(module_fixture, {})
            next(module_parts)
        run_test(runner, check, uses_the_group, leaks)
        assert leaks + check.stop() == []
        second = LeakCheck()
        second.start()
        run_test(runner, second, uses_the_group, leaks)
        assert leaks + second.stop() == []
        assert list(module_parts) == []
