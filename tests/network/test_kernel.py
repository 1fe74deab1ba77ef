"""Sockets of the simulated network end as TCP's do on Linux."""

from __future__ import annotations

import ipaddress

import pytest

from harness.network import Network


@pytest.fixture
def network():
    return Network()


@pytest.fixture
def pair(network):
    return network.pair()


def send(socket, data):
    return socket.send(memoryview(data))


def test_bytes_sent_at_one_end_arrive_at_the_other_in_both_directions(pair):
    near, far = pair
    assert send(near, b"there") == 5
    assert send(far, b"back") == 4
    assert far.recv(100) == b"there"
    assert near.recv(100) == b"back"


def test_an_empty_connection_would_block(pair):
    near, far = pair
    assert not near.readable
    with pytest.raises(BlockingIOError):
        near.recv(1)
    assert far.writable


def test_a_full_connection_takes_what_fits_and_then_would_block():
    near, far = Network(capacity=4).pair()
    assert send(near, b"abcdef") == 4
    assert not near.writable
    with pytest.raises(BlockingIOError):
        send(near, b"ef")
    assert far.recv(1) == b"a"
    assert near.writable
    assert send(near, b"ef") == 1
    assert far.recv(100) == b"bcde"


def test_unread_counts_the_bytes_that_have_arrived(pair):
    near, far = pair
    send(near, b"abc")
    assert far.unread == 3
    far.recv(2)
    assert far.unread == 1


def test_fin_comes_after_the_bytes_that_were_sent_before_it(pair):
    near, far = pair
    send(near, b"last words")
    near.close()
    assert far.recv(4) == b"last"
    assert far.recv(100) == b" words"
    assert far.recv(100) == b""
    assert far.recv(100) == b""


def test_after_a_half_close_the_other_direction_is_alive(pair):
    near, far = pair
    near.shutdown_write()
    assert far.recv(1) == b""
    assert send(far, b"answer") == 6
    assert near.recv(100) == b"answer"
    far.shutdown_write()
    assert near.recv(1) == b""


def test_nothing_can_be_sent_after_ones_own_fin(pair):
    near, _ = pair
    near.shutdown_write()
    with pytest.raises(BrokenPipeError):
        send(near, b"x")


def test_a_second_fin_does_nothing(pair):
    near, far = pair
    near.shutdown_write()
    near.shutdown_write()
    assert far.recv(1) == b""


def test_closing_with_unread_bytes_resets_the_peer(pair):
    near, far = pair
    send(far, b"never read")
    near.close()
    with pytest.raises(ConnectionResetError):
        far.recv(1)
    with pytest.raises(ConnectionResetError):
        send(far, b"x")


def test_closing_with_everything_read_does_not_reset_the_peer(pair):
    near, far = pair
    send(far, b"read")
    near.recv(100)
    near.close()
    assert far.recv(1) == b""


def test_the_first_send_to_a_closed_peer_is_accepted_and_the_second_fails(pair):
    near, far = pair
    near.close()
    assert send(far, b"into the void") == 13
    with pytest.raises(ConnectionResetError):
        send(far, b"x")
    with pytest.raises(ConnectionResetError):
        far.recv(1)


def test_the_first_send_to_a_closed_peer_leaves_its_last_bytes_readable(pair):
    near, far = pair
    send(near, b"bye")
    near.close()
    send(far, b"x")
    assert far.recv(100) == b"bye"
    with pytest.raises(ConnectionResetError):
        far.recv(1)


def test_an_abort_keeps_arrived_bytes_readable_and_then_resets(pair):
    near, far = pair
    send(near, b"arrived")
    near.abort()
    assert far.recv(3) == b"arr"
    assert far.recv(100) == b"ived"
    with pytest.raises(ConnectionResetError):
        far.recv(1)
    with pytest.raises(ConnectionResetError):
        send(far, b"x")


def test_an_abort_of_an_idle_connection_resets_the_peer(pair):
    near, far = pair
    near.abort()
    assert far.readable
    with pytest.raises(ConnectionResetError):
        far.recv(1)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_closed_socket_refuses_everything(pair, end):
    near, _ = pair
    getattr(near, end)()
    for operation in (lambda: near.recv(1), lambda: send(near, b"x"), near.shutdown_write):
        with pytest.raises(OSError, match="closed") as caught:
            operation()
        assert type(caught.value) is OSError


@pytest.mark.parametrize("first", ["close", "abort"])
@pytest.mark.parametrize("second", ["close", "abort"])
def test_ending_twice_changes_nothing(pair, first, second):
    near, far = pair
    getattr(near, first)()
    getattr(near, second)()
    if first == "close":
        assert far.recv(1) == b""
    else:
        with pytest.raises(ConnectionResetError):
            far.recv(1)


def test_a_peer_that_is_closed_already_is_not_reset(pair):
    near, far = pair
    send(near, b"unread")
    near.close()
    far.close()
    assert near.closed
    assert far.closed


@pytest.mark.parametrize(
    ("event", "called"),
    [
        (lambda near, far: send(near, b"x"), {"far readable"}),
        (lambda near, far: near.shutdown_write(), {"far readable", "near writable"}),
        (lambda near, far: near.close(), {"far readable", "near readable", "near writable"}),
        (lambda near, far: near.abort(), {"far readable", "far writable", "near readable"}),
    ],
    ids=["send", "shutdown_write", "close", "abort"],
)
def test_whoever_may_go_on_is_told(pair, event, called):
    near, far = pair
    told = set()
    for name, socket in (("near", near), ("far", far)):
        socket.on_readable = lambda name=name: told.add(f"{name} readable")
        socket.on_writable = lambda name=name: told.add(f"{name} writable")
    event(near, far)
    assert called <= told


def test_a_receive_tells_the_sender_that_there_is_room():
    near, far = Network(capacity=1).pair()
    send(near, b"x")
    told = []
    near.on_writable = lambda: told.append("room")
    far.recv(1)
    assert told == ["room"]


# Listening


def test_connecting_where_nobody_listens_is_refused(network):
    with pytest.raises(ConnectionRefusedError, match=r"nobody listens at 127\.1\.0\.1:80"):
        network.connect(("127.1.0.1", 80))


def test_connecting_after_the_listener_was_closed_is_refused(network):
    listening = network.listen()
    listening.close()
    with pytest.raises(ConnectionRefusedError):
        network.connect(listening.address)


def test_connections_are_accepted_in_the_order_they_were_made(network):
    listening = network.listen()
    clients = [network.connect(listening.address) for _ in range(3)]
    accepted = [listening.accept() for _ in range(3)]
    assert [each.remote_address for each in accepted] == [each.local_address for each in clients]
    with pytest.raises(BlockingIOError):
        listening.accept()


def test_what_was_sent_before_the_accept_is_there_after_it(network):
    listening = network.listen()
    client = network.connect(listening.address)
    send(client, b"early")
    assert listening.accept().recv(100) == b"early"


def test_closing_a_listener_resets_what_it_had_not_accepted_and_nothing_else(network):
    listening = network.listen()
    first, second = network.connect(listening.address), network.connect(listening.address)
    accepted = listening.accept()
    listening.close()
    listening.close()
    with pytest.raises(ConnectionResetError):
        second.recv(1)
    send(accepted, b"alive")
    assert first.recv(100) == b"alive"


def test_a_closed_listener_accepts_nothing(network):
    listening = network.listen()
    network.connect(listening.address)
    listening.close()
    with pytest.raises(OSError, match="closed"):
        listening.accept()


def test_an_address_can_be_listened_at_once_and_again_after_it_was_closed(network):
    listening = network.listen()
    host, port = listening.address
    with pytest.raises(OSError, match=f"{host}:{port} is already in use"):
        network.listen(listening.address)
    listening.close()
    again = network.listen(listening.address)
    network.connect(again.address)
    assert again.accept().local_address == (host, port)


def test_closing_an_old_listener_again_leaves_the_new_one_alone(network):
    old = network.listen()
    old.close()
    new = network.listen(old.address)
    old.close()
    network.connect(new.address)
    assert not new.accept().closed


def test_every_listener_and_every_client_has_a_port_of_its_own(network):
    listeners = [network.listen() for _ in range(20)]
    clients = [network.connect(listeners[0].address) for _ in range(20)]
    addresses = [each.address for each in listeners] + [each.local_address for each in clients]
    assert len(set(addresses)) == 40
    assert all(0 < port < 65536 for _, port in addresses)


def test_the_host_is_a_loopback_ip_literal(network):
    assert ipaddress.ip_address(network.listen().address[0]).is_loopback


def test_both_ends_agree_on_their_addresses(pair):
    near, far = pair
    assert near.local_address == far.remote_address
    assert near.remote_address == far.local_address
    assert near.local_address != near.remote_address


def test_two_networks_know_nothing_of_one_another(network):
    listening = network.listen()
    with pytest.raises(ConnectionRefusedError):
        Network().connect(listening.address)


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_network_without_capacity_is_refused(capacity):
    with pytest.raises(ValueError, match="capacity must be at least 1 byte"):
        Network(capacity=capacity)


def test_ports_stay_ports_however_many_connections_are_made(network):
    listening = network.listen()
    for _ in range(20_000):
        near, _ = network.pair()
        assert 0 < near.local_address[1] < 65536
        assert near.local_address != listening.address
        assert near.remote_address != listening.address
