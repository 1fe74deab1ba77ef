"""The object that belongs to a loop, found from a traceback."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from harness.diagnostics.foreign_loops import find_loop, loop_of


class Holder:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Slotted:
    __slots__ = ("inner", "unset")

    def __init__(self, inner):
        self.inner = inner


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def found_from(value, wanted=lambda loop: True):
    """What is found from a frame in which ``value`` is called ``thing``."""

    def function(thing):
        raise LookupError

    try:
        function(value)
    except LookupError as exc:
        return find_loop(exc.__traceback__.tb_next, wanted)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda future: future, "thing"),
        (lambda future: Holder(future=future), "thing.future"),
        (lambda future: Slotted(future), "thing.inner"),
        (lambda future: {"key": [None, future]}, "thing['key'][1]"),
        (lambda future: deque([(future,)]), "thing[0][0]"),
        (lambda future: {future}, "thing{...}"),
        (lambda future: {(1, 2): future}, "thing[...]"),
        (lambda future: Holder(near=future, far=Holder(far=Holder(future=future))), "thing.near"),
    ],
)
def test_a_future_is_named_by_the_shortest_way(loop, make, name):
    future = loop.create_future()
    found = found_from(make(future))
    assert (found.name, found.value, found.loop) == (name, future, loop)
    assert found.type_name == "_asyncio.Future"
    assert "in found_from.<locals>.function" in found.place or "in function" in found.place


def test_what_has_a_loop_is_named_and_not_the_loop(loop):
    assert found_from(Holder(connection=Holder(_loop=loop))).name == "thing.connection"
    assert found_from([loop]).name == "thing[0]"
    assert found_from(loop).name == "thing"


def test_other_loops_are_passed_over(loop):
    other = asyncio.new_event_loop()
    try:
        value = [Holder(loop=other), Holder(loop=loop)]
        assert found_from(value, lambda each: each is loop).name == "thing[1]"
        assert found_from([Holder(loop=other)], lambda each: each is loop) is None
    finally:
        other.close()


def test_the_search_has_an_end(loop):
    chain = loop
    for _ in range(20):
        chain = Holder(next=chain)
    assert found_from(chain) is None
    cycle = Holder()
    cycle.cycle = [cycle]
    assert found_from(cycle) is None
    assert found_from([object() for _ in range(100_000)]) is None


def test_what_is_no_loop_has_none():
    for value in (None, 1, "loop", asyncio, asyncio.AbstractEventLoop, Holder(), Slotted(1)):
        assert loop_of(value) is None
