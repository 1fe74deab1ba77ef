"""Every parameter that cannot be: a clear error, which names the class and the parameter."""

from __future__ import annotations

import math

import pytest
from wire import Ends

from harness.faults import (
    AfterBytes,
    AfterPattern,
    Bandwidth,
    Blackhole,
    Corrupt,
    Drop,
    Duplicate,
    During,
    FirstConnections,
    HalfClose,
    Latency,
    LimitData,
    OnConnection,
    ResetPeer,
    Slicer,
    SlowAccept,
    SlowClose,
    Timeout,
    Transform,
)

no_numbers = [None, "1", b"1", [1], 1j, True]
no_times = [-1, -0.001, math.nan, math.inf, -math.inf]


def at_least(least, value):
    return f"{least} or more, and finite" if value == math.inf else f"{least} or more"


#: class, arguments that can be, parameter, and whether it may be None
SECONDS = [
    (Latency, {}, "delay", False),
    (Latency, {"delay": 1}, "jitter", False),
    (Slicer, {"average_size": 5}, "delay", False),
    (SlowAccept, {}, "delay", False),
    (SlowClose, {}, "delay", False),
    (Timeout, {}, "after", True),
    (Blackhole, {}, "after", True),
    (ResetPeer, {}, "after", False),
    (HalfClose, {}, "after", False),
    (During, {}, "start", False),
]
#: class, arguments, parameter, the least that it can be, and whether it may be None
COUNTS = [
    (LimitData, {}, "limit", 0, False),
    (ResetPeer, {}, "after_bytes", 0, True),
    (Slicer, {}, "average_size", 1, False),
    (Slicer, {"average_size": 5}, "size_variation", 0, False),
    (Drop, {"probability": 0.5}, "average_size", 1, False),
    (Duplicate, {"probability": 0.5}, "average_size", 1, False),
    (OnConnection, {}, "number", 1, False),
    (FirstConnections, {}, "count", 1, False),
    (AfterBytes, {}, "count", 0, False),
]
PROBABILITIES = [Corrupt, Drop, Duplicate]


def named(cases):
    return [pytest.param(*case, id=f"{case[0].__name__}-{case[2]}") for case in cases]


def refused(error, message, cls, arguments, name, value):
    with pytest.raises(error) as caught:
        cls(**arguments, **{name: value})
    assert str(caught.value) == f"{cls.__name__}: {name} has to be {message}, not {value!r}"


@pytest.mark.parametrize(("cls", "arguments", "name", "optional"), named(SECONDS))
def test_seconds(cls, arguments, name, optional):
    for value in no_numbers[1 if optional else 0 :]:
        refused(TypeError, "a number", cls, arguments, name, value)
    for value in no_times:
        refused(ValueError, at_least(0, value), cls, arguments, name, value)
    for value in (0, 0.0, 1, 1.5, 1e9):
        assert getattr(cls(**arguments, **{name: value}), name) == value


@pytest.mark.parametrize(("cls", "arguments", "name", "least", "optional"), named(COUNTS))
def test_counts(cls, arguments, name, least, optional):
    for value in [*no_numbers[1 if optional else 0 :], 1.0, 1.5, math.nan]:
        refused(TypeError, "a whole number", cls, arguments, name, value)
    for value in (-1, least - 1):
        refused(ValueError, f"{least} or more", cls, arguments, name, value)
    for value in (least, least + 1):
        assert getattr(cls(**arguments, **{name: value}), name) == value


@pytest.mark.parametrize("cls", PROBABILITIES)
def test_probabilities(cls):
    for value in no_numbers:
        refused(TypeError, "a number", cls, {}, "probability", value)
    for value in [*no_times, 1.001, 2]:
        refused(ValueError, "0 to 1", cls, {}, "probability", value)
    for value in (0, 0.25, 1):
        assert cls(value).probability == value


def test_rates():
    for value in no_numbers:
        refused(TypeError, "a number", Bandwidth, {}, "rate", value)
    for value in [*no_times, 0, 0.5]:
        refused(ValueError, at_least(1, value), Bandwidth, {}, "rate", value)
    assert Bandwidth(1).rate == 1


@pytest.mark.parametrize("value", ["", "gauss", None, 5, [], {}])
def test_distributions(value):
    with pytest.raises(ValueError, match=r"^Latency: distribution has to be a function or one of"):
        Latency(1, 1, value)


@pytest.mark.parametrize("value", ["x", b"", b"xy", 5, bytearray(b"x")])
def test_replacements(value):
    refused(TypeError, "one byte", Corrupt, {"probability": 1}, "replacement", value)


@pytest.mark.parametrize("value", ["x", b"", None, 5, [b"x"]])
def test_patterns(value):
    refused(TypeError, "some bytes", AfterPattern, {}, "pattern", value)


@pytest.mark.parametrize("value", [None, b"x", 5])
def test_functions(value):
    refused(TypeError, "callable", Transform, {}, "function", value)


@pytest.mark.parametrize("variation", [5, 6])
def test_a_variation_that_is_too_large(variation):
    with pytest.raises(ValueError, match=r"^Slicer: size_variation has to be below average_size"):
        Slicer(5, variation)


@pytest.mark.parametrize("end", [None, "5", 1, 2, math.nan, True])
def test_windows_that_end_before_they_begin(end):
    with pytest.raises(ValueError, match=r"^During: end has to come after start \(2\), and not be"):
        During(2, end)
    with pytest.raises(ValueError, match=r"^During: end has to come after start \(0\), and not be"):
        During(0, True)


@pytest.mark.harness(backends=["asyncio"], transports=["memory"])
class TestAdd:
    async def test_no_toxic(self, harness):
        proxy = await harness.proxy(await harness.serve(Ends()))
        for value in (None, 5, Latency, "Latency", OnConnection(1)):
            with pytest.raises(TypeError) as caught:
                proxy.add(value)
            assert str(caught.value) == (
                f"add(): toxic has to be a harness.faults.Toxic, not {value!r}"
            )
            with pytest.raises(TypeError):
                await harness.proxy(proxy, Latency(1), value)
        assert not proxy.toxics

    async def test_no_trigger(self, harness):
        proxy = await harness.proxy(await harness.serve(Ends()))
        wrong = [
            None,
            5,
            "abc",
            OnConnection,
            Latency(1),
            [OnConnection(1), 5],
            [[OnConnection(1)]],
        ]
        for value in wrong:
            with pytest.raises(TypeError) as caught:
                proxy.add(Latency(1), when=value)
            assert str(caught.value).startswith(
                "add(): when has to be a harness.faults.Trigger, or several of them, not "
            )
        with pytest.raises(TypeError, match="when has to be"), proxy.toxic(Latency(1), when=5):
            raise AssertionError("not reached")
        assert not proxy.toxics

    async def test_no_direction(self, harness):
        proxy = await harness.proxy(await harness.serve(Ends()))
        for value in (None, "", "up", "Upstream", 1):
            with pytest.raises(ValueError, match="direction") as caught:
                proxy.add(Latency(1), direction=value)
            assert str(caught.value) == (
                f"add(): direction has to be 'upstream', 'downstream' or 'both', not {value!r}"
            )
        assert not proxy.toxics

    async def test_no_toxicity(self, harness):
        proxy = await harness.proxy(await harness.serve(Ends()))
        for value in no_numbers:
            with pytest.raises(TypeError) as caught:
                proxy.add(Latency(1), toxicity=value)
            assert str(caught.value) == f"add(): toxicity has to be a number, not {value!r}"
        for value in [*no_times, 1.01]:
            with pytest.raises(ValueError, match="toxicity") as caught:
                proxy.add(Latency(1), toxicity=value)
            assert str(caught.value) == f"add(): toxicity has to be 0 to 1, not {value!r}"
        assert not proxy.toxics


def test_what_they_look_like():
    assert repr(Latency(0.5, jitter=1)) == "Latency(delay=0.5, jitter=1, distribution='uniform')"
    assert repr(Corrupt(1, b"?")) == "Corrupt(probability=1, replacement=b'?')"
    assert repr(Timeout()) == "Timeout(after=None)"
    assert repr(AfterPattern(b"x")) == "AfterPattern(pattern=b'x')"
    assert repr(During(1)) == "During(start=1, end=inf)"
