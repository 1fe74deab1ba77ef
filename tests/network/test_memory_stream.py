"""AnyIO's byte stream over the simulated network: what TCP promises, on every backend."""

from __future__ import annotations

import random
import socket as stdlib_socket

import pytest
from anyio import (
    BrokenResourceError,
    BusyResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    TypedAttributeLookupError,
    create_task_group,
)
from anyio.abc import SocketAttribute

from harness.network import MemoryListener, MemoryStream, Network
from harness.settling import settle
from harness.transports.memory import MemoryTransport

pytestmark = pytest.mark.harness()


def make_pair(capacity=65536, *, seed=None):
    chunking = None if seed is None else random.Random(seed)
    near, far = Network(capacity=capacity).pair()
    return MemoryStream(near, chunking=chunking), MemoryStream(far, chunking=chunking)


async def read_all(stream, max_bytes=65536):
    """Every receive until the end of the stream."""
    pieces = []
    while True:
        try:
            pieces.append(await stream.receive(max_bytes))
        except EndOfStream:
            return pieces


class Background:
    """An operation in a task of its own: whether it is over and how it ended."""

    def __init__(self, task_group, operation):
        self.over = False
        self.result = self.error = None
        self.scope = CancelScope()
        self._operation = operation
        task_group.start_soon(self._run)

    async def _run(self):
        with self.scope:
            try:
                self.result = await self._operation()
            except Exception as exc:
                self.error = exc
        self.over = True


# Bytes have no boundaries


async def test_two_sends_can_come_as_one_receive(anyio_backend):
    a, b = make_pair()
    await a.send(b"one ")
    await a.send(b"two")
    assert await b.receive() == b"one two"


async def test_a_receive_takes_no_more_than_it_asked_for(anyio_backend):
    a, b = make_pair()
    await a.send(b"abcdef")
    assert [await b.receive(1), await b.receive(4), await b.receive(100)] == [b"a", b"bcde", b"f"]


async def test_a_receive_crosses_the_boundaries_of_sends(anyio_backend):
    a, b = make_pair()
    await a.send(b"abc")
    await a.send(b"def")
    assert [await b.receive(2), await b.receive(2), await b.receive(2)] == [b"ab", b"cd", b"ef"]


@pytest.mark.parametrize("max_bytes", [0, -1])
async def test_max_bytes_below_one_is_refused(anyio_backend, max_bytes):
    a, b = make_pair()
    await a.send(b"x")
    with pytest.raises(ValueError, match="max_bytes must be a positive integer"):
        await b.receive(max_bytes)
    assert await b.receive() == b"x"


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
async def test_any_bytes_like_object_can_be_sent(anyio_backend, make):
    a, b = make_pair()
    await a.send(make(b"payload"))
    received = await b.receive()
    assert received == b"payload"
    assert type(received) is bytes


async def test_a_buffer_may_be_reused_once_it_was_sent(anyio_backend):
    a, b = make_pair()
    buffer = bytearray(b"first")
    await a.send(buffer)
    buffer[:] = b"again"
    await a.send(buffer)
    assert await b.receive() == b"firstagain"


async def test_an_empty_send_sends_nothing(anyio_backend):
    a, b = make_pair(capacity=1)
    await a.send(b"")
    await a.send(b"x")
    await a.send(b"")  # with no room left either
    assert await b.receive() == b"x"
    await a.aclose()
    with pytest.raises(EndOfStream):
        await b.receive()


# Back-pressure


async def test_a_send_waits_while_the_buffer_is_full_and_goes_on_when_it_is_read(anyio_backend):
    near, far = Network(capacity=4).pair()
    a, b = MemoryStream(near), MemoryStream(far)
    async with create_task_group() as task_group:
        sending = Background(task_group, lambda: a.send(b"abcdefghij"))
        await settle()
        assert not sending.over
        assert far.unread == 4
        assert await b.receive() == b"abcd"
        await settle()
        assert not sending.over
        assert await b.receive(1) == b"e"
        await settle()
        assert not sending.over
        assert await b.receive() == b"fghi"
        await settle()
        assert sending.over
        assert await b.receive() == b"j"


async def test_the_two_directions_have_a_buffer_each(anyio_backend):
    a, b = make_pair(capacity=2)
    await a.send(b"ab")
    await b.send(b"cd")
    assert (await a.receive(), await b.receive()) == (b"cd", b"ab")


async def test_a_receive_waits_for_bytes(anyio_backend):
    a, b = make_pair()
    async with create_task_group() as task_group:
        receiving = Background(task_group, b.receive)
        await settle()
        assert not receiving.over
        await a.send(b"x")
        await settle()
        assert receiving.result == b"x"


# Ends


async def test_after_the_peer_closed_come_its_last_bytes_and_then_the_end(anyio_backend):
    a, b = make_pair()
    await a.send(b"last")
    await a.aclose()
    assert await b.receive() == b"last"
    for _ in range(2):
        with pytest.raises(EndOfStream):
            await b.receive()


async def test_after_send_eof_the_other_direction_is_alive(anyio_backend):
    a, b = make_pair()
    await a.send(b"question")
    await a.send_eof()
    assert await read_all(b) == [b"question"]
    await b.send(b"answer")
    await b.aclose()
    assert await read_all(a) == [b"answer"]


async def test_nothing_can_be_sent_after_send_eof(anyio_backend):
    a, _ = make_pair()
    await a.send_eof()
    await a.send_eof()
    with pytest.raises(BrokenResourceError):
        await a.send(b"x")


async def test_a_close_with_unread_bytes_breaks_the_peers_stream(anyio_backend):
    a, b = make_pair()
    await b.send(b"never read")
    await a.aclose()
    with pytest.raises(BrokenResourceError) as caught:
        await b.receive()
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    with pytest.raises(BrokenResourceError):
        await b.send(b"x")


async def test_the_first_send_to_a_closed_peer_succeeds_and_the_second_is_broken(anyio_backend):
    a, b = make_pair()
    await a.aclose()
    await b.send(b"into the void")
    with pytest.raises(BrokenResourceError):
        await b.send(b"x")


async def test_reset_leaves_arrived_bytes_readable_and_then_breaks_the_stream(anyio_backend):
    a, b = make_pair()
    await a.send(b"arrived")
    await a.reset()
    assert await b.receive() == b"arrived"
    for _ in range(2):
        with pytest.raises(BrokenResourceError):
            await b.receive()
    with pytest.raises(BrokenResourceError):
        await b.send(b"x")
    with pytest.raises(ClosedResourceError):
        await a.receive()


@pytest.mark.parametrize("operation", ["receive", "send", "send nothing", "send_eof"])
async def test_a_closed_stream_says_so(anyio_backend, operation):
    a, b = make_pair()
    await b.send(b"unread")
    await a.aclose()
    with pytest.raises(ClosedResourceError):
        await OPERATIONS[operation](a)


async def test_closing_twice_changes_nothing(anyio_backend):
    a, b = make_pair()
    await a.aclose()
    await a.aclose()
    await a.reset()
    with pytest.raises(EndOfStream):
        await b.receive()


# Closing wakes


@pytest.mark.parametrize(
    ("close", "error"),
    [
        (lambda a, b: a.aclose(), ClosedResourceError),
        (lambda a, b: a.reset(), ClosedResourceError),
        (lambda a, b: b.aclose(), EndOfStream),
        (lambda a, b: b.send_eof(), EndOfStream),
        (lambda a, b: b.reset(), BrokenResourceError),
    ],
    ids=["own close", "own reset", "peer close", "peer eof", "peer reset"],
)
async def test_an_end_wakes_a_blocked_receive(anyio_backend, close, error):
    a, b = make_pair()
    async with create_task_group() as task_group:
        receiving = Background(task_group, a.receive)
        await settle()
        assert not receiving.over
        await close(a, b)
    assert type(receiving.error) is error


@pytest.mark.parametrize(
    ("close", "error"),
    [
        (lambda a, b: a.aclose(), ClosedResourceError),
        (lambda a, b: a.reset(), ClosedResourceError),
        (lambda a, b: b.aclose(), BrokenResourceError),
        (lambda a, b: b.reset(), BrokenResourceError),
    ],
    ids=["own close", "own reset", "peer close", "peer reset"],
)
async def test_an_end_wakes_a_blocked_send(anyio_backend, close, error):
    a, b = make_pair(capacity=3)
    async with create_task_group() as task_group:
        sending = Background(task_group, lambda: a.send(b"abcdef"))
        await settle()
        assert not sending.over
        await close(a, b)
    assert type(sending.error) is error


async def test_an_eof_from_the_peer_leaves_a_blocked_send_waiting(anyio_backend):
    a, b = make_pair(capacity=3)
    async with create_task_group() as task_group:
        sending = Background(task_group, lambda: a.send(b"abcdef"))
        await settle()
        await b.send_eof()
        await settle()
        assert not sending.over
        assert await b.receive() == b"abc"
        assert await b.receive() == b"def"
    assert sending.error is None


# One task at a time, each way


async def test_a_second_receive_at_once_is_refused(anyio_backend):
    a, b = make_pair()
    async with create_task_group() as task_group:
        receiving = Background(task_group, a.receive)
        await settle()
        with pytest.raises(BusyResourceError, match="reading from"):
            await a.receive()
        await b.send(b"x")
    assert receiving.result == b"x"


@pytest.mark.parametrize("operation", ["send", "send nothing", "send_eof"])
async def test_a_second_send_at_once_is_refused(anyio_backend, operation):
    a, b = make_pair(capacity=1)
    async with create_task_group() as task_group:
        sending = Background(task_group, lambda: a.send(b"ab"))
        await settle()
        with pytest.raises(BusyResourceError, match="writing to"):
            await OPERATIONS[operation](a)
        assert await b.receive() == b"a"
    assert sending.over
    assert await b.receive() == b"b"


async def test_receiving_and_sending_at_once_is_allowed(anyio_backend):
    a, b = make_pair()
    async with create_task_group() as task_group:
        receiving = Background(task_group, a.receive)
        await settle()
        await a.send(b"x")
        await b.send(await b.receive())
    assert receiving.result == b"x"


# Cancellation

OPERATIONS = {
    "receive": lambda stream: stream.receive(),
    "send": lambda stream: stream.send(b"x"),
    "send nothing": lambda stream: stream.send(b""),
    "send_eof": lambda stream: stream.send_eof(),
    "aclose": lambda stream: stream.aclose(),
    "reset": lambda stream: stream.reset(),
}


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_in_a_cancelled_scope_every_operation_is_cancelled(anyio_backend, operation):
    a, b = make_pair()
    await b.send(b"ready to be received")
    went_on = False
    with CancelScope() as scope:
        scope.cancel()
        await OPERATIONS[operation](a)
        went_on = True
    assert scope.cancelled_caught
    assert not went_on


@pytest.mark.parametrize("operation", ["receive", "send"])
async def test_an_operation_that_would_block_is_cancelled_too(anyio_backend, operation):
    a, _ = make_pair(capacity=1)
    await a.send(b"x")
    with CancelScope() as scope:
        scope.cancel()
        await OPERATIONS[operation](a)
    assert scope.cancelled_caught


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_an_operation_that_need_not_wait_lets_other_tasks_run(anyio_backend, operation):
    a, b = make_pair()
    await b.send(b"12")
    ran = []

    async def other():
        ran.append(operation)

    async with create_task_group() as task_group:
        task_group.start_soon(other)
        # Twice: trio runs the tasks of one turn in any order.
        for _ in range(2):
            if operation == "receive":
                await a.receive(1)
            else:
                await OPERATIONS[operation](a)
        assert ran == [operation]


async def test_a_cancelled_send_that_has_sent_nothing_sends_nothing(anyio_backend):
    a, b = make_pair()
    with CancelScope() as scope:
        scope.cancel()
        await a.send(b"never")
    await a.send(b"after")
    assert await b.receive() == b"after"


async def test_a_blocked_send_that_is_cancelled_sends_nothing(anyio_backend):
    a, b = make_pair(capacity=4)
    await a.send(b"full")
    async with create_task_group() as task_group:
        sending = Background(task_group, lambda: a.send(b"more"))
        await settle()
        sending.scope.cancel()
    assert sending.scope.cancelled_caught
    await a.aclose()
    assert await read_all(b) == [b"full"]


async def test_a_send_cancelled_as_room_appears_is_sent_whole_or_not_at_all(anyio_backend):
    near, far = Network(capacity=4).pair()
    a, b = MemoryStream(near), MemoryStream(far)
    await a.send(b"full")
    async with create_task_group() as task_group:
        sending = Background(task_group, lambda: a.send(b"more"))
        await settle()
        assert far.recv(4) == b"full"
        sending.scope.cancel()
    await a.aclose()
    expected = [] if sending.scope.cancelled_caught else [b"more"]
    assert await read_all(b) == expected


async def test_after_a_cancelled_send_the_stream_can_be_used(anyio_backend):
    a, b = make_pair(capacity=4)
    async with create_task_group() as task_group:
        sending = Background(task_group, lambda: a.send(b"123456"))
        await settle()
        sending.scope.cancel()
    assert await b.receive() == b"1234"
    await a.send(b"next")
    assert await b.receive() == b"next"


async def test_a_cancelled_receive_loses_no_byte(anyio_backend):
    a, b = make_pair()
    async with create_task_group() as task_group:
        receiving = Background(task_group, b.receive)
        await settle()
        receiving.scope.cancel()
    assert receiving.scope.cancelled_caught
    await a.send(b"kept")
    assert await b.receive() == b"kept"


async def test_a_receive_cancelled_as_bytes_arrive_loses_none(anyio_backend):
    near, far = Network().pair()
    a, b = MemoryStream(near), MemoryStream(far)
    received = b""
    for turn in range(50):
        async with create_task_group() as task_group:
            receiving = Background(task_group, b.receive)
            await settle()
            near.send(memoryview(b"%02d" % turn))
            receiving.scope.cancel()
        assert receiving.scope.cancelled_caught is (receiving.result is None)
        received += receiving.result or b""
    await a.aclose()
    received += b"".join(await read_all(b))
    assert received == b"".join(b"%02d" % turn for turn in range(50))


# Attributes


async def test_the_addresses_of_the_two_ends_match(anyio_backend):
    a, b = make_pair()
    local = a.extra(SocketAttribute.local_address)
    remote = a.extra(SocketAttribute.remote_address)
    assert local != remote
    assert b.extra(SocketAttribute.local_address) == remote
    assert b.extra(SocketAttribute.remote_address) == local
    assert a.extra(SocketAttribute.local_port) == local[1]
    assert a.extra(SocketAttribute.remote_port) == remote[1]
    assert a.extra(SocketAttribute.family) is stdlib_socket.AF_INET


async def test_the_raw_socket_is_real_and_is_closed_with_the_stream(anyio_backend, monkeypatch):
    made = []
    socketpair = stdlib_socket.socketpair

    def recorded():
        made.extend(socketpair())
        return tuple(made)

    monkeypatch.setattr(stdlib_socket, "socketpair", recorded)
    for end in ("aclose", "reset"):
        made.clear()
        a, _ = make_pair()
        assert not made
        raw = a.extra(SocketAttribute.raw_socket)
        assert isinstance(raw, stdlib_socket.socket)
        assert raw.fileno() >= 0
        assert raw.getsockname() == raw.getpeername()
        assert not raw.getblocking()
        assert a.extra(SocketAttribute.raw_socket) is raw
        await getattr(a, end)()
        assert [each.fileno() for each in made] == [-1, -1]


async def test_a_closed_stream_makes_no_raw_socket(anyio_backend):
    a, _ = make_pair()
    await a.aclose()
    with pytest.raises(ClosedResourceError):
        a.extra(SocketAttribute.raw_socket)


async def test_the_addresses_outlive_the_close(anyio_backend):
    a, b = make_pair()
    await a.aclose()
    assert a.extra(SocketAttribute.local_address) == b.extra(SocketAttribute.remote_address)


# Chunking


async def cuts_of(seed, data=bytes(range(256)) * 8):
    a, b = make_pair(seed=seed)
    await a.send(data)
    await a.aclose()
    pieces = await read_all(b)
    assert b"".join(pieces) == data
    return [len(piece) for piece in pieces]


async def test_a_chunking_seed_gives_the_same_cuts_again(anyio_backend):
    cuts = await cuts_of(1)
    assert len(cuts) > 1
    assert await cuts_of(1) == cuts
    assert await cuts_of(2) != cuts


async def test_without_a_seed_nothing_is_cut(anyio_backend):
    assert await cuts_of(None) == [2048]


async def test_chunking_keeps_to_max_bytes_and_never_cuts_to_nothing(anyio_backend):
    a, b = make_pair(seed=3)
    await a.send(bytes(1000))
    await a.aclose()
    pieces = await read_all(b, max_bytes=7)
    assert {len(piece) for piece in pieces} == set(range(1, 8))
    assert sum(map(len, pieces)) == 1000


async def test_chunking_does_not_hide_an_end(anyio_backend):
    a, b = make_pair(seed=3)
    await a.aclose()
    with pytest.raises(EndOfStream):
        await b.receive()
    a, b = make_pair(seed=3)
    await a.reset()
    with pytest.raises(BrokenResourceError):
        await b.receive()


@pytest.mark.harness(transports=["memory"])
async def test_a_transports_chunking_seed_reaches_both_sides_and_is_reproducible(harness):
    async def lengths():
        seen = {"server": [], "client": []}

        async def echo(stream):
            data = b"".join(await note(stream, "server"))
            await stream.send(data)

        async def note(stream, side):
            pieces = await read_all(stream)
            seen[side] = [len(piece) for piece in pieces]
            return pieces

        server = await harness.serve(echo, transport=MemoryTransport(chunking_seed=11))
        async with await server.connect() as client:
            await client.send(bytes(500))
            await client.send_eof()
            assert sum(map(len, await note(client, "client"))) == 500
        return seen

    first = await lengths()
    assert len(first["server"]) > 1
    assert len(first["client"]) > 1
    assert await lengths() == first


@pytest.mark.parametrize("seed", [None, 5])
async def test_four_mebibytes_each_way_in_random_chunks_arrive_whole(anyio_backend, seed):
    size = 4 * 1024 * 1024
    a, b = make_pair(seed=seed)
    payloads = {a: random.Random(1).randbytes(size), b: random.Random(2).randbytes(size)}
    received = {}

    async def send(stream, chance):
        data, at = memoryview(payloads[stream]), 0
        while at < size:
            length = chance.randint(1, 150_000)
            await stream.send(data[at : at + length])
            at += length
        await stream.send_eof()

    async def receive(stream, chance):
        pieces = []
        while True:
            try:
                pieces.append(await stream.receive(chance.randint(1, 100_000)))
            except EndOfStream:
                break
        received[stream] = b"".join(pieces)

    async with create_task_group() as task_group:
        for number, stream in enumerate((a, b)):
            task_group.start_soon(send, stream, random.Random(10 + number))
            task_group.start_soon(receive, stream, random.Random(20 + number))
    assert received[a] == payloads[b]
    assert received[b] == payloads[a]


# The listener


def make_listener():
    network = Network()
    listening = network.listen()
    return network, listening, MemoryListener(listening)


async def test_a_listener_accepts_who_came_before_and_who_comes_later(anyio_backend):
    network, listening, listener = make_listener()
    early = MemoryStream(network.connect(listening.address))
    accepted = await listener.accept()
    assert accepted.extra(SocketAttribute.remote_address) == early.extra(
        SocketAttribute.local_address
    )
    async with create_task_group() as task_group:
        accepting = Background(task_group, listener.accept)
        await settle()
        assert not accepting.over
        late = MemoryStream(network.connect(listening.address))
    await late.send(b"hello")
    assert await accepting.result.receive() == b"hello"


async def test_closing_a_listener_wakes_its_accept(anyio_backend):
    _, _, listener = make_listener()
    async with create_task_group() as task_group:
        accepting = Background(task_group, listener.accept)
        await settle()
        await listener.aclose()
    assert type(accepting.error) is ClosedResourceError
    with pytest.raises(ClosedResourceError):
        await listener.accept()
    await listener.aclose()


async def test_a_second_accept_at_once_is_refused(anyio_backend):
    _, _, listener = make_listener()
    async with create_task_group() as task_group:
        Background(task_group, listener.accept)
        await settle()
        with pytest.raises(BusyResourceError, match="accepting connections from"):
            await listener.accept()
        await listener.aclose()


async def test_a_cancelled_accept_loses_no_connection(anyio_backend):
    network, listening, listener = make_listener()
    async with create_task_group() as task_group:
        accepting = Background(task_group, listener.accept)
        await settle()
        client = MemoryStream(network.connect(listening.address))
        accepting.scope.cancel()
    stream = accepting.result or await listener.accept()
    await client.send(b"still here")
    assert await stream.receive() == b"still here"


async def test_in_a_cancelled_scope_accept_is_cancelled_with_a_connection_waiting(anyio_backend):
    network, listening, listener = make_listener()
    network.connect(listening.address)
    with CancelScope() as scope:
        scope.cancel()
        await listener.accept()
    assert scope.cancelled_caught
    assert await listener.accept()


async def test_serve_runs_a_handler_for_each_connection_until_it_is_cancelled(anyio_backend):
    network, listening, listener = make_listener()
    served = []

    async def handler(stream):
        served.append(await stream.receive())

    async with create_task_group() as task_group:
        task_group.start_soon(listener.serve, handler)
        for number in range(3):
            await MemoryStream(network.connect(listening.address)).send(b"%d" % number)
        await settle()
        task_group.cancel_scope.cancel()
    assert sorted(served) == [b"0", b"1", b"2"]


async def test_a_listener_tells_its_address(anyio_backend):
    _, listening, listener = make_listener()
    assert listener.extra(SocketAttribute.local_address) == listening.address
    assert listener.extra(SocketAttribute.local_port) == listening.address[1]
    assert listener.extra(SocketAttribute.family) is stdlib_socket.AF_INET
    with pytest.raises(TypedAttributeLookupError):
        listener.extra(SocketAttribute.remote_address)
