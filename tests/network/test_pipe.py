"""One direction of a simulated connection keeps order and never holds more than its capacity."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.network import Pipe

hypothesis_settings = settings(
    deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("capacity", [0, -1, -65536])
def test_a_capacity_below_one_byte_is_refused(capacity):
    with pytest.raises(ValueError, match=rf"capacity must be at least 1 byte, not {capacity}"):
        Pipe(capacity)


@hypothesis_settings
@given(
    seed=st.integers(0, 2**32),
    capacity=st.integers(1, 300),
    largest=st.integers(1, 400),
)
def test_bytes_keep_their_order_under_random_writes_and_reads(seed, capacity, largest):
    chance = random.Random(seed)
    sent = chance.randbytes(2000)
    pipe = Pipe(capacity)
    written, received = 0, b""
    while len(received) < len(sent):
        if chance.random() < 0.5:
            piece = sent[written : written + chance.randint(0, largest)]
            written += pipe.write(memoryview(piece))
        else:
            received += pipe.read(chance.randint(1, largest))
        assert sent[:written].startswith(received)
        assert pipe.size == written - len(received)
    assert received == sent


@hypothesis_settings
@given(
    capacity=st.integers(1, 50),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 80)), max_size=60),
)
def test_the_capacity_is_never_exceeded(capacity, steps):
    pipe = Pipe(capacity)
    held = 0
    for is_write, n in steps:
        if is_write:
            taken = pipe.write(memoryview(bytes(n)))
            assert taken == min(n, capacity - held)
            held += taken
        else:
            held -= len(pipe.read(n))
        assert 0 <= pipe.size == held <= capacity
        assert pipe.room == capacity - held


@hypothesis_settings
@given(
    pieces=st.lists(st.binary(max_size=30), max_size=20),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=40),
)
def test_a_read_takes_all_it_may_across_the_boundaries_of_writes(pieces, sizes):
    pipe = Pipe()
    for piece in pieces:
        assert pipe.write(memoryview(piece)) == len(piece)
    rest = b"".join(pieces)
    for size in sizes:
        assert pipe.read(size) == rest[:size]
        rest = rest[size:]
    assert pipe.size == len(rest)


def test_a_write_without_room_takes_nothing():
    pipe = Pipe(3)
    assert pipe.write(memoryview(b"abc")) == 3
    assert pipe.write(memoryview(b"d")) == 0
    assert pipe.read(10) == b"abc"


@pytest.mark.parametrize("make", [bytearray, lambda data: memoryview(bytearray(data))])
def test_what_is_queued_does_not_change_with_the_buffer_it_came_from(make):
    buffer = make(b"before")
    pipe = Pipe()
    pipe.write(memoryview(buffer))
    buffer[:] = b"AFTER!"
    assert pipe.read(100) == b"before"


def test_a_part_of_a_bytes_object_is_only_that_part():
    pipe = Pipe()
    assert pipe.write(memoryview(b"0123456789")[2:5]) == 3
    assert pipe.read(100) == b"234"


def test_a_whole_bytes_object_is_queued_without_a_copy():
    data = b"x" * 1000
    pipe = Pipe()
    pipe.write(memoryview(data))
    assert pipe.read(1000) is data


def test_an_empty_pipe_reads_as_nothing():
    pipe = Pipe()
    assert pipe.read(1) == b""
    pipe.write(memoryview(b""))
    assert pipe.read(1) == b""


def test_a_cleared_pipe_is_empty_and_usable():
    pipe = Pipe(4)
    pipe.write(memoryview(b"abcd"))
    assert pipe.read(1) == b"a"
    pipe.clear()
    assert (pipe.size, pipe.room, pipe.read(10)) == (0, 4, b"")
    assert pipe.write(memoryview(b"efgh")) == 4
    assert pipe.read(10) == b"efgh"
