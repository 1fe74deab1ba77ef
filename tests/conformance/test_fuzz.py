"""Random operations: what they find, how they tell it, and that a seed is the same run again."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import anyio
import pytest
from anyio import CancelScope, sleep_forever
from broken_streams import BROKEN, Sound, maker
from differences import DIFFERENCES

from harness.conformance import PromiseBroken, check_byte_stream, check_half_closeable, fuzz
from harness.virtualtime import VirtualClock

# Many thousand steps, each of which waits until all is blocked: a slow machine needs long.
pytestmark = pytest.mark.harness(timeout=600)

MUTANTS = {broken.__name__: broken for mutants in BROKEN.values() for broken in mutants}

#: A few sequences, where it does not matter how many.
FEW = 18


class Calls:
    """Makes pairs, and notes which methods are called, in which order, over all of them."""

    def __init__(self) -> None:
        self.made: list[str] = []

    async def __call__(self) -> tuple[Sound, Sound]:
        calls = self.made

        class Noted(Sound):
            name = "first"

            async def receive(self, max_bytes=65536):
                calls.append(f"{self.name}.receive({max_bytes})")
                return await super().receive(max_bytes)

            async def send(self, item):
                calls.append(f"{self.name}.send({len(item)})")
                await super().send(item)

            async def send_eof(self):
                calls.append(f"{self.name}.send_eof()")
                await super().send_eof()

            async def aclose(self):
                calls.append(f"{self.name}.aclose()")
                await super().aclose()

        first, second = await maker(Noted)()
        second.name = "second"
        calls.append("a pair")
        return first, second


# The same again


async def test_a_seed_makes_the_same_operations_again(anyio_backend, virtual_clock: VirtualClock):
    runs = []
    for seed in (5, 5, 6):
        calls = Calls()
        await check_half_closeable(calls, seed=seed, examples=FEW)
        runs.append(calls.made)
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert runs[0].count("a pair") > FEW / 2


#: Prints which operations a seed makes.
SCRIPT = """
import anyio, sys
sys.path[:0] = sys.argv[1:]
if len(sys.argv) > 2:
    import numbers_of_a_project
from harness.conformance import check_half_closeable
from test_fuzz import Calls

async def main():
    calls = Calls()
    await check_half_closeable(calls, seed=5)
    print(*calls.made, sep="\\n")

anyio.run(main)
"""


def test_a_module_of_the_users_project_changes_nothing(tmp_path):
    """Hypothesis prefers the numbers that stand in those that are imported."""
    numbers = ", ".join(str(number) for number in range(101, 400))
    (tmp_path / "numbers_of_a_project.py").write_text(f"NUMBERS = [{numbers}]\n")
    here = os.path.dirname(__file__)
    runs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT, *folders],
            timeout=120,
            check=True,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        ).stdout
        for folders in ([here], [here, str(tmp_path)])
    ]
    assert runs[0].count("a pair") > FEW
    assert runs[0] == runs[1]


@pytest.mark.harness(allow_leaks=["file:pipe:*"])  # libuv's, if this is uvloop's first event loop
def test_a_seed_makes_the_same_operations_on_every_backend():
    runs = []
    for backend, options in (
        ("asyncio", {}),
        ("asyncio", {"use_uvloop": sys.platform != "win32"}),
        ("trio", {}),
    ):
        calls = Calls()

        async def main(calls: Calls = calls) -> None:
            await check_half_closeable(calls, seed=5, examples=FEW)

        anyio.run(main, backend=backend, backend_options=options)
        runs.append(calls.made)
    assert runs[0] == runs[1] == runs[2]


async def test_a_seed_that_was_drawn_is_told_and_fails_again(
    anyio_backend, virtual_clock: VirtualClock
):
    make_pair = maker(MUTANTS["IgnoresMaxBytes"])
    with pytest.raises(PromiseBroken) as drawn:
        await check_byte_stream(make_pair, operations=15)
    seed = drawn.value.seed
    assert seed is not None
    told = f"  seed:     {seed!r} (with operations=15, examples=100)"
    assert str(drawn.value).splitlines()[-1] == told
    with pytest.raises(PromiseBroken) as again:
        await check_byte_stream(make_pair, operations=15, seed=seed)
    assert str(again.value) == str(drawn.value)


# What is found

#: Of bytes and of closing: found with any seed, among the sequences that there are by default.
FOUND = [
    "ACheckpointStandsAfterTheBytes",
    "CloseDiscardsWhatWasSent",
    "ClosesOnce",
    "DoesNotCloseWhenCancelled",
    "DropsAByteAfterACancelledReceive",
    "DropsTheLastByteOfLongMessages",
    "EndsAtItsOwnClose",
    "GivesNothingAtTheEnd",
    "IgnoresMaxBytes",
    "IsNotWokenByThePeersClose",
    "ReceiveIsNotWokenByItsClose",
    "ReversesLongPieces",
    "SendAfterCloseIsARuntimeError",
    "SendsAPrefixTwice",
    "TellsABreakOnce",
    "ThrowsTheRestAway",
]


@pytest.mark.parametrize("name", FOUND)
async def test_it_is_found(name: str, anyio_backend, virtual_clock: VirtualClock, monkeypatch):
    monkeypatch.setattr(fuzz, "SHRINKING", 0)
    with pytest.raises(PromiseBroken) as caught:
        await check_byte_stream(maker(MUTANTS[name]), seed=1)
    assert caught.value.check is not None
    assert caught.value.steps


FOUND_WITH_EOF = [
    "EofAfterCloseIsFine",
    "EofEndsBothDirections",
    "EofIsAClose",
    "EofOnlyOnce",
    "IsNotWokenByEof",
    "SendsAfterEof",
]


@pytest.mark.parametrize("name", FOUND_WITH_EOF)
async def test_it_is_found_with_eof(
    name: str, anyio_backend, virtual_clock: VirtualClock, monkeypatch
):
    monkeypatch.setattr(fuzz, "SHRINKING", 0)
    with pytest.raises(PromiseBroken):
        await check_half_closeable(maker(MUTANTS[name]), seed=1)
    await check_byte_stream(maker(MUTANTS[name]), seed=1, examples=FEW)  # which has no `send_eof`


CLOSE = r"(?:aclose_forcefully\((?P=side)\)|(?P=side)\.aclose\(\))"

#: The check, and the steps once they are as short as they can be.
SHRUNK = {
    "IgnoresMaxBytes": (
        "max_bytes_is_the_most",
        r"(?P<side>\w+)\.send\(2 bytes\) -> ok\n(?!(?P=side))\w+\.receive\(1\) -> b'..'"
        # or within one step, which Hypothesis takes for shorter than two
        r"|(?P<waits>\w+\.receive\(1\)) -> waits\n\w+\.send\(2 bytes\) -> ok\n"
        r"cancel (?P=waits) \d turns later\n  (?P=waits) -> b'..'",
    ),
    "ReceiveIsNotWokenByItsClose": (
        "close_wakes_receive",
        rf"(?P<side>\w+)\.receive\(1\) -> waits\n{CLOSE} -> ok",
    ),
    "ClosesOnce": (
        "close_can_be_repeated",
        rf"(?=.*(?P<side>first|second)){CLOSE} -> ok\n{CLOSE} -> ClosedResourceError\(\)",
    ),
}


@pytest.mark.parametrize("name", SHRUNK)
async def test_what_fails_is_made_short(name: str, anyio_backend, virtual_clock: VirtualClock):
    check, steps = SHRUNK[name]
    with pytest.raises(PromiseBroken) as caught:
        await check_byte_stream(maker(MUTANTS[name]), seed=3)
    found = caught.value
    assert found.check is not None
    assert found.check.name == check
    assert re.fullmatch(steps, "\n".join(found.steps)), str(found)


async def test_the_message(anyio_backend, virtual_clock: VirtualClock):
    with pytest.raises(PromiseBroken) as caught:
        await check_byte_stream(maker(MUTANTS["GivesABytearray"]), seed=3)
    found = caught.value
    assert found.check is not None
    lines = str(found).splitlines()
    assert lines[:3] == [
        "received_are_bytes",
        f"  promised: {found.check.promise}",
        f"            ({found.check.source})",
    ]
    assert lines[3] == f"  after:    {found.steps[0]}"
    assert lines[4] == f"            {found.steps[1]}"
    assert re.fullmatch(r"  expected: (first|second)\.receive\(\d+\) returns bytes, .*", lines[5])
    assert re.fullmatch(r"  seen:     it returned bytearray\(b'.'\)", lines[6])
    assert lines[7:] == ["  seed:     3 (with operations=20, examples=100)"]


async def test_nothing_is_printed(anyio_backend, virtual_clock: VirtualClock, capsys):
    with pytest.raises(PromiseBroken):
        await check_byte_stream(maker(MUTANTS["ClosesOnce"]), seed=3)
    assert capsys.readouterr() == ("", "")


# What keeps its promises


def excuses(backend: str, transport: str) -> set[str]:
    """The checks that AnyIO's own stream is known not to pass."""
    return {
        each.check
        for each in DIFFERENCES
        if each.kind == "streams" and each.applies(each.check, backend, transport)
    }


@pytest.mark.harness(transports=["memory", "tcp", "unix"])
@pytest.mark.parametrize("turn", range(4))
async def test_own_streams_pass(turn, harness):
    """`nox -s fuzz` asks with other seeds, which follow from the run's."""
    await check_half_closeable(
        harness.pair,
        seed=None if "HARNESS_TEST_ANY_SEED" in os.environ else turn,
        operations=20,
        examples=36,
        except_for=excuses(harness.backend, harness.transport.name),
    )


@pytest.mark.harness(transports=["tcp"])
async def test_a_kernel_is_asked_to_keep_little(harness):
    """Else all that is sent to fill it, megabytes each time, would have to be received again."""
    pairs = []

    async def noted_pair():
        pairs.append(await harness.pair())
        return pairs[-1]

    await check_half_closeable(
        noted_pair,
        seed=1,
        examples=FEW,
        except_for=excuses(harness.backend, harness.transport.name),
    )
    sent = [stream.connection.bytes_out for pair in pairs for stream in pair]
    assert 200_000 < max(sent) < 10_000_000


@pytest.mark.harness(transports=["memory"])
async def test_the_in_memory_stream_passes_in_virtual_time(harness, virtual_clock: VirtualClock):
    await check_half_closeable(harness.pair, seed=2)
    assert virtual_clock.now == 0


async def test_a_stream_without_back_pressure_passes(anyio_backend, virtual_clock: VirtualClock):
    await check_half_closeable(maker(Sound, capacity=1 << 40), seed=1, examples=FEW)


async def test_a_stream_with_almost_no_buffer_passes(anyio_backend, virtual_clock: VirtualClock):
    await check_half_closeable(maker(Sound, capacity=1), seed=1, examples=FEW)


# What is known


async def test_a_promise_that_is_known_to_be_broken(anyio_backend, virtual_clock: VirtualClock):
    make_pair = maker(MUTANTS["SendsNothingAfterItsClose"])
    known = ["a_closed_stream_does_not_send_nothing"]
    with pytest.raises(PromiseBroken) as caught:
        await check_byte_stream(make_pair, seed=1)
    assert caught.value.check is not None
    assert caught.value.check.name == known[0]
    await check_byte_stream(make_pair, seed=1, except_for=known)


async def test_a_check_that_is_known_to_fail_is_left_out(
    anyio_backend, virtual_clock: VirtualClock
):
    make_pair = maker(MUTANTS["SendsNothingAfterItsClose"])
    with pytest.raises(PromiseBroken):
        await check_byte_stream(make_pair)
    await check_byte_stream(make_pair, except_for=["a_closed_stream_does_not_send_nothing"])


# What it is given


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seed": 1.5}, "seed must be an int or a string, not 1.5"),
        ({"operations": 0}, "operations has to be a whole number, 1 or more, not 0"),
        ({"examples": -1}, "examples has to be a whole number, 1 or more, not -1"),
        ({"seed": 1, "timeout": 0}, "timeout has to be a positive number of seconds, not 0"),
        (
            {"except_for": ["no_such_check"]},
            "except_for has to name checks, and none of these is 'no_such_check'",
        ),
    ],
)
async def test_what_it_cannot_use(wrong, message, anyio_backend):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
        await check_byte_stream(maker(Sound), **wrong)


async def test_without_hypothesis(anyio_backend, monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(RuntimeError) as caught:
        await check_byte_stream(maker(Sound), seed=1)
    assert str(caught.value) == (
        "seed= and operations= need the package hypothesis, which is not installed: "
        'pip install "anyio-harness[fuzz]"'
    )


@pytest.mark.parametrize("made", [1, 5])
async def test_what_the_maker_raises_is_no_broken_promise(
    made: int, anyio_backend, virtual_clock: VirtualClock
):
    error = ConnectionRefusedError("no more")
    calls = Calls()

    async def make_pair():
        if calls.made.count("a pair") == made:
            raise error
        return await calls()

    with pytest.raises(ConnectionRefusedError) as caught:
        await check_byte_stream(make_pair, seed=1)
    assert caught.value is error
    assert calls.made.count("a pair") == made


async def test_what_makes_no_pair(anyio_backend):
    async def make_pair():
        return None

    with pytest.raises(TypeError, match=r"^make_pair has to return two streams that are connected"):
        await check_byte_stream(make_pair, seed=1)
    with pytest.raises(TypeError, match=r"^make_pair has to be an async callable "):
        await check_byte_stream(None, seed=1)


async def test_a_maker_that_hangs(anyio_backend, virtual_clock: VirtualClock):
    with pytest.raises(PromiseBroken) as caught:
        await check_byte_stream(sleep_forever, seed=1, timeout=4)
    assert caught.value.expected == "make_pair() comes to an end"
    assert caught.value.seen == "after 4 s it still waits"
    assert virtual_clock.now == 4


# The end of it


async def test_it_can_be_cancelled(anyio_backend, virtual_clock: VirtualClock):
    calls = Calls()

    async def make_pair():
        if calls.made.count("a pair") == 4:
            scope.cancel()
        return await calls()

    with CancelScope() as scope:
        await check_byte_stream(make_pair, seed=1)
    assert scope.cancelled_caught
    assert calls.made.count("a pair") == 5


async def test_what_hangs_is_found_in_real_time_too(anyio_backend, monkeypatch):
    monkeypatch.setattr(fuzz, "SHRINKING", 0)
    with pytest.raises(PromiseBroken) as caught:
        await check_byte_stream(maker(MUTANTS["ReceiveIsNotWokenByItsClose"]), seed=1, timeout=0.01)
    assert caught.value.seen == "it still waits"
    assert caught.value.check is not None
    assert caught.value.check.name == "close_wakes_receive"


@pytest.mark.parametrize("name", ["CannotBeCancelled", "SendCannotBeCancelled"])
async def test_what_cannot_be_cancelled_comes_to_an_end(
    name: str, anyio_backend, virtual_clock: VirtualClock
):
    with pytest.raises(PromiseBroken) as caught:
        await check_byte_stream(maker(MUTANTS[name]), seed=1)
    assert caught.value.expected.endswith(" ends when it is cancelled")


async def test_what_never_blocks_comes_to_an_end(
    anyio_backend, virtual_clock: VirtualClock, monkeypatch
):
    """A stream that goes on in spite of each cancellation keeps the event loop busy for ever."""
    monkeypatch.setattr(fuzz, "MANY_TURNS", 1000)
    with pytest.raises(PromiseBroken) as caught:
        await check_byte_stream(maker(MUTANTS["GoesOnWhenCancelled"]), seed=1)
    assert caught.value.expected.endswith(" ends when it is cancelled")
