"""What the checks of all kinds have in common, and the tools they share."""

from __future__ import annotations

import ast
import gc
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import SkipTest

import pytest
from anyio import Event, create_memory_object_stream, sleep_forever
from broken_connectables import BROKEN as CONNECTABLES
from broken_datagrams import BROKEN as DATAGRAMS
from broken_listeners import BROKEN as LISTENERS
from broken_objects import BROKEN as OBJECTS
from broken_objects import Sound, pairs_of
from broken_truncations import BROKEN as TRUNCATIONS

from harness import conformance
from harness.conformance import (
    PromiseBroken,
    check_connectable,
    check_datagram_socket,
    check_listener,
    check_object_stream,
    check_truncation,
    connectable_checks,
    datagram_checks,
    listener_checks,
    object_stream_checks,
    truncation_checks,
)
from harness.conformance.contract import leaving_nothing, tasks

pytestmark = pytest.mark.harness()

#: All checks of a kind, the function that runs them, what else it takes, and what is broken for it.
KINDS = {
    "objects": (object_stream_checks(), check_object_stream, (), OBJECTS),
    "datagrams": (datagram_checks(), check_datagram_socket, (), DATAGRAMS),
    "listeners": (listener_checks(), check_listener, (sleep_forever,), LISTENERS),
    "connectables": (connectable_checks(), check_connectable, (), CONNECTABLES),
    "truncations": (truncation_checks(), check_truncation, (sleep_forever,), TRUNCATIONS),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
def test_a_check_says_what_it_checks_and_where_that_is_promised(kind):
    checks, _, _, broken = KINDS[kind]
    names = [check.name for check in checks]
    assert len(set(names)) == len(names)
    assert set(broken) == set(names)
    for check in checks:
        assert check.promise
        assert check.source
        assert check.__doc__
        assert str(check) == check.name


@each_kind
async def test_what_cannot_be_called_is_refused(kind, anyio_backend):
    checks, check_all, more, _ = KINDS[kind]
    for function in (check_all, checks[0]):
        with pytest.raises(TypeError, match=r"has to be an async callable that returns .*, not 42"):
            await function(42, *more)
        with pytest.raises(ValueError, match="timeout has to be a positive number"):
            await function(sleep_forever, *more, timeout=0)


@each_kind
async def test_a_check_comes_to_an_end_where_nothing_does(kind, anyio_backend, virtual_clock):
    async def make_nothing():
        await Event().wait()

    checks, _, more, _ = KINDS[kind]
    with pytest.raises(PromiseBroken, match=r"after 7 s (something|it) still waits"):
        await checks[0](make_nothing, *more, timeout=7)


async def test_what_is_optional_is_looked_at_too(anyio_backend):
    with pytest.raises(TypeError, match="clogged_pair has to be"):
        await check_object_stream(sleep_forever, clogged_pair=42)
    with pytest.raises(TypeError, match="refusing has to be an async callable that returns a conn"):
        await check_connectable(sleep_forever, refusing=42)
    with pytest.raises(TypeError, match="cut has to be an async callable that takes a stream"):
        await check_truncation(sleep_forever, 42)


def test_the_public_names_are_sorted_and_there():
    assert conformance.__all__ == sorted(conformance.__all__)
    for name in conformance.__all__:
        assert hasattr(conformance, name)


OUTSIDE = """
import sys

sys.modules["pytest"] = sys.modules["_pytest"] = None  # as if it were not installed

import anyio

from harness import conformance
from harness.network import MemoryStream, Network


async def pair():
    return tuple(map(MemoryStream, Network().pair()))


async def main():
    await conformance.check_byte_stream(pair)
    await conformance.check_half_closeable(pair)
    print("all is well")


anyio.run(main, backend=sys.argv[1])
"""


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_no_pytest_is_needed(library):
    ran = subprocess.run(
        [sys.executable, "-c", OUTSIDE, library],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.stdout == "all is well\n", ran.stderr


def test_nothing_sleeps():
    """Deadlines bound what hangs; no check waits for time to pass."""
    for file in Path(conformance.__file__).parent.glob("*.py"):
        names = [
            node.id for node in ast.walk(ast.parse(file.read_text())) if type(node) is ast.Name
        ]
        assert "sleep" not in names, file.name
        assert "sleep_until" not in names, file.name


# Object streams, one way or both


async def test_the_way_back_is_looked_at_too(anyio_backend, virtual_clock):
    check = object_stream_checks()[0]
    with pairs_of(Sound) as make_sound:

        async def make_pair():
            first, second = await make_sound()
            receive = first.receive

            async def altered():
                return [await receive()]

            first.receive = altered
            return first, second

        with pytest.raises(PromiseBroken, match="with the second stream of the pair as its first"):
            await check(make_pair)


async def test_what_needs_both_ways_is_skipped_where_there_is_one(anyio_backend):
    async def make_pair():
        return create_memory_object_stream(1)

    for check in object_stream_checks():
        if check.two_way:
            with pytest.raises(SkipTest, match="one way only"):
                await check(make_pair)
    await check_object_stream(make_pair)


# Leaving nothing


@pytest.mark.harness(allow_leaks=["socket"])
@pytest.mark.parametrize("how", ["open", "to the garbage collector", "in a cycle", "as a task"])
async def test_what_is_left_is_told(how, anyio_backend):
    made = []

    class Holder:
        def __init__(self):
            self.socket = socket.socket()
            self.itself = self

    gc.disable()
    try:
        async with tasks() as group:
            with pytest.raises(PromiseBroken, match="nothing is left after this") as caught:
                async with leaving_nothing("this"):
                    if how == "open":
                        made.append(socket.socket())
                    elif how == "to the garbage collector":
                        socket.socket()
                    elif how == "in a cycle":
                        Holder()
                    else:
                        group.start_soon(sleep_forever, name="the task")
    finally:
        gc.enable()
    for each in made:
        each.close()
    expected = {
        "open": "a socket (descriptor ",
        "to the garbage collector": "an unclosed <socket.socket",
        "in a cycle": "a socket (descriptor ",
        "as a task": "the task 'the task'",
    }
    assert expected[how] in caught.value.seen


async def test_other_warnings_are_passed_on(anyio_backend):
    with pytest.warns(UserWarning, match="of something else"):
        async with leaving_nothing("this"):
            warnings.warn("of something else", UserWarning, stacklevel=1)
