"""Toxics that change, lose or repeat bytes: which ones, and that the others are as they were."""

from __future__ import annotations

import random
import re
import ssl

import pytest
from anyio import BrokenResourceError, EndOfStream, sleep
from blackbox import RunPytest
from wire import open_wire

from harness.faults import Corrupt, Drop, Duplicate, Transform

both = pytest.mark.parametrize("direction", ["upstream", "downstream"])
plain = pytest.mark.harness(transports=["tcp", "unix", "memory"])
in_memory = pytest.mark.harness(transports=["memory"])

DATA = random.Random("some bytes").randbytes(100_000)


async def through(harness, *toxics, direction="downstream", data=DATA, **options):
    """What becomes of some bytes, and the connection through which they went."""
    wire = await open_wire(harness, **options)
    for toxic in toxics:
        wire.proxy.add(toxic, direction=direction)
    connection = wire.connection
    await wire.send(direction, data)
    await wire.send_eof(direction)
    await wire.arrivals[direction].over.wait()
    assert wire.end(direction)[1] == "end"
    return wire.arrivals[direction].data, connection


def differences(one, other):
    return [at for at, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1]]


# Corrupt


@plain
@both
async def test_one_bit_of_some_bytes_is_flipped(harness, direction):
    received, connection = await through(harness, Corrupt(0.01), direction=direction, seed=1)
    places = differences(DATA, received)
    assert 900 < len(places) < 1100
    assert {DATA[at] ^ received[at] for at in places} == {1 << bit for bit in range(8)}
    # everywhere alike
    assert all(
        60 < sum(start <= at < start + 10_000 for at in places) < 140
        for start in range(0, 100_000, 10_000)
    )
    assert connection.fired["Corrupt"] > 0


@plain
async def test_a_replacement_for_some_bytes(harness):
    data = b"\0" * 100_000
    received, _ = await through(harness, Corrupt(0.01, b"?"), data=data, seed=1)
    places = differences(data, received)
    assert 900 < len(places) < 1100
    assert {received[at] for at in places} == {ord("?")}


@plain
@pytest.mark.parametrize(("probability", "hit"), [(0, 0), (0.0, 0), (1, 100_000), (1e-9, 0)])
async def test_no_byte_and_every_byte(harness, probability, hit):
    received, connection = await through(harness, Corrupt(probability), seed=1)
    assert len(differences(DATA, received)) == hit
    assert bool(connection.fired) is bool(hit)


@in_memory
async def test_a_probability_that_changes(harness):
    """From the next byte on, though by the old one it would never have been hit."""
    wire = await open_wire(harness)
    corrupt = wire.proxy.add(Corrupt(0, b"?"))
    for probability, expected in [(0, b"one"), (1, b"???"), (0, b"one")]:
        corrupt.update(probability=probability)
        await wire.send("downstream", b"one")
        await harness.settle()
        assert wire.arrivals["downstream"].data[-3:] == expected


@pytest.mark.harness(transports=["tls"])
@both
async def test_below_tls_a_changed_byte_is_an_error(harness, direction):
    """Bytes are changed below TLS: whoever receives them finds them out."""
    errors = []

    async def handler(stream):
        try:
            async for data in stream:
                await stream.send(data)
        except (ssl.SSLError, BrokenResourceError) as exc:
            errors.append(exc)

    server = await harness.serve(handler)
    proxy = await harness.proxy(server, seed=1)
    client = await proxy.connect()
    await server.wait_connections(1)  # its side of the handshake is over, too
    proxy.add(Corrupt(1), direction=direction)
    with pytest.raises((ssl.SSLError, BrokenResourceError, EndOfStream)) as caught:
        await client.send(b"hello")
        await client.receive()
    await client.aclose()
    await server.wait_connections(0)
    found_by = errors[0] if direction == "upstream" else caught.value
    assert isinstance(found_by.__cause__ or found_by, ssl.SSLError)


# Drop


@plain
@both
async def test_some_pieces_are_lost(harness, direction):
    received, connection = await through(
        harness, Drop(0.3, average_size=100), direction=direction, seed=1
    )
    assert 60_000 < len(received) < 80_000
    # What is left are whole pieces, in order.
    at = 0
    pieces = 0
    while received:
        size = 0
        while size < len(received) and DATA[at : at + size + 1] == received[: size + 1]:
            size += 1
        if size:
            pieces += 1
            received = received[size:]
            at += size
        else:
            at += 1
    assert at <= 100_000
    assert 100 < pieces < 400
    assert connection.fired["Drop"] > 0


@plain
@pytest.mark.parametrize(("probability", "left"), [(0, DATA), (1, b"")])
async def test_no_piece_and_every_piece(harness, probability, left):
    received, connection = await through(harness, Drop(probability), seed=1)
    assert received == left
    assert bool(connection.fired) is bool(probability)


@in_memory
async def test_connections_and_directions_do_not_share_pieces(harness):
    """What is lost of the one does not depend on what the other sends meanwhile."""
    lost = []
    for others in (0, 3):
        wire = await open_wire(harness, seed=1)
        wire.proxy.add(Drop(0.5, average_size=10), direction="both")
        for at in range(0, 1000, 7):
            await wire.send("upstream", DATA[at : at + 7])
            for _ in range(others):
                await wire.send("downstream", b"more")
            await harness.settle()
        lost.append(wire.arrivals["upstream"].data)
    assert lost[0] == lost[1]
    assert 0 < len(lost[0]) < 1000


@in_memory
async def test_a_drop_that_changes(harness):
    wire = await open_wire(harness)
    drop = wire.proxy.add(Drop(0))
    expected = b""
    for probability, data in [(0, b"one"), (1, b"two"), (0, b"three"), (1, b"four")]:
        drop.update(probability=probability)
        await wire.send("downstream", data)
        await harness.settle()
        expected += b"" if probability else data
    assert wire.arrivals["downstream"].data == expected == b"onethree"


# Duplicate


@plain
@both
async def test_some_pieces_come_twice(harness, direction):
    received, connection = await through(
        harness, Duplicate(0.3, average_size=100), direction=direction, seed=1
    )
    assert 120_000 < len(received) < 140_000
    # Taken out where they come again, what is left is what was sent.
    at = sent = again = 0
    while at < len(received):
        if received[at : at + 1] == DATA[sent : sent + 1]:
            at += 1
            sent += 1
        else:  # a few bytes ago, as its first ones may be those that come next
            back, size = next(
                (back, size)
                for back in range(4)
                for size in range(50, 151)
                if DATA[sent - back - size : sent - back] == received[at - back :][:size]
            )
            at += size - back
            sent -= back
            again += 1
    assert sent == 100_000
    assert 200 < again < 400
    assert connection.fired["Duplicate"] > 0


@in_memory
async def test_every_piece_comes_twice_as_soon_as_it_is_whole(harness):
    wire = await open_wire(harness, Duplicate(1, average_size=1))
    for byte in b"abc":
        await wire.send("downstream", bytes([byte]))
        await harness.settle()
    assert wire.arrivals["downstream"].data == b"aabbcc"


@in_memory
async def test_a_duplicate_that_changes_in_the_middle_of_a_piece(harness):
    wire = await open_wire(harness)
    duplicate = wire.proxy.add(Duplicate(1, average_size=1000))
    await wire.send("downstream", b"a")
    await harness.settle()
    duplicate.update(average_size=1)
    await wire.send("downstream", b"bc")
    await harness.settle()
    assert wire.arrivals["downstream"].data == b"abbcc"
    duplicate.update(probability=0)
    await wire.send("downstream", b"de")
    await harness.settle()
    assert wire.arrivals["downstream"].data == b"abbccde"


# Transform


@plain
@both
@pytest.mark.parametrize("kind", ["function", "async", "object", "async object"])
async def test_bytes_are_what_a_function_makes_of_them(harness, virtual_clock, direction, kind):
    async def later(data):
        await sleep(1)
        return data.upper()

    class Upper:
        def __call__(self, data):
            assert type(data) is bytes
            return bytearray(data.upper())

    class Later:
        async def __call__(self, data):
            return memoryview(await later(data))

    function = {"function": bytes.upper, "async": later, "object": Upper(), "async object": Later()}
    received, connection = await through(
        harness, Transform(function[kind]), data=b"hello", direction=direction
    )
    assert received == b"HELLO"
    assert connection.fired == {"Transform": 1}
    assert virtual_clock.now == (1 if "async" in kind else 0)


@plain
async def test_a_function_that_returns_no_bytes_has_lost_them(harness):
    received, connection = await through(harness, Transform(lambda data: b""), data=b"hello")
    assert received == b""
    assert connection.fired == {"Transform": 1}


@plain
async def test_a_function_that_changes_nothing_has_done_nothing(harness):
    received, connection = await through(harness, Transform(bytearray), data=b"hello")
    assert received == b"hello"
    assert not connection.fired


RAISES = {
    "raise LookupError('my own')": "LookupError: my own",
    "raise OSError('my own')": "OSError: my own",
    "raise anyio.EndOfStream": "anyio.EndOfStream",
    "raise await anyio.to_thread.run_sync(LookupError, 'later')": "LookupError: later",
    "assert data == b'other'": "AssertionError: assert b'hello' == b'other'",
    "pytest.fail('my own')": "Failed: my own",
    "return None": "TypeError: the function of a Transform has to return bytes, and <function",
    "return 'text'": "TypeError: the function of a Transform has to return bytes, and <function",
}


def test_a_function_that_raises_fails_the_test(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    """With its own traceback, once, and first; and the client does not wait for ever."""
    tests = [
        f"""
async def my_function_{number}(data):
    {line}

async def test_{number}(harness):
    await use(harness, my_function_{number})
"""
        for number, line in enumerate(RAISES)
    ]
    pytester.makepyfile(
        """
import anyio
import pytest
from harness.faults import Transform

pytestmark = pytest.mark.harness(transports=["tcp", "memory"])

async def use(harness, function):
    async def handler(stream):
        for _ in range(3):
            await stream.send(b"hello")
            await harness.settle()
        await stream.receive()

    gone = anyio.EndOfStream, anyio.BrokenResourceError
    proxy = await harness.proxy(await harness.serve(handler, expect=gone), Transform(function))
    await (await proxy.connect()).receive()
"""
        + "\n".join(tests)
    )
    result = run_pytest(f"--harness-backends={backend}")
    result.assert_outcomes(failed=2 * len(RAISES))
    failures = re.split(r"^_+ (test_\d)\[.*\] _+$", result.stdout.str(), flags=re.MULTILINE)
    assert len(failures) == 1 + 2 * 2 * len(RAISES)
    for name, failure in zip(failures[1::2], failures[2::2], strict=True):
        line, error = [*RAISES.items()][int(name[-1])]
        assert len(re.findall(rf"^E +{re.escape(error)}", failure, re.MULTILINE)) == 1
        assert "ExceptionGroup" not in failure
        assert "on connection 1 of \"in front of server 'handler'\"" in failure
        if not line.startswith("return"):
            first = next(each for each in failure.splitlines() if each.startswith(("> ", "E ")))
            assert first.split(maxsplit=1)[1] == line
            assert "harness/faults" not in failure


def test_a_function_that_skips_skips_the_test(
    pytester: pytest.Pytester, run_pytest: RunPytest, backend: str
) -> None:
    pytester.makepyfile(
        """
        import pytest
        from harness.faults import Transform

        @pytest.mark.harness(transports=["memory"])
        async def test_it(harness):
            server = await harness.serve(lambda stream: stream.send(b"hello"))
            proxy = await harness.proxy(server, Transform(lambda data: pytest.skip("not now")))
            await (await proxy.connect()).receive()
        """
    )
    run_pytest(f"--harness-backends={backend}").assert_outcomes(skipped=1)
