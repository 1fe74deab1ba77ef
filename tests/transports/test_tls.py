"""TLS: the client checks the server, the authority is made once, and a truncation is seen."""

from __future__ import annotations

import socket
import ssl

import pytest
from anyio import (
    BrokenResourceError,
    ConnectionFailed,
    EndOfStream,
    aclose_forcefully,
    connect_tcp,
    to_thread,
)
from anyio.streams.tls import TLSAttribute, TLSStream

from harness.transports.tls import TLSTransport, authority

pytestmark = pytest.mark.harness(transports=["tls"])


async def echo(stream):
    async for data in stream:
        await stream.send(data)


async def assert_serves(server):
    async with await server.connect() as client:
        await client.send(b"ping")
        assert await client.receive() == b"ping"


class PlainTransport(TLSTransport):
    """Its clients speak TLS, and its server does not: whatever comes is given to the handler."""

    name = "plain"

    async def listen(self):
        endpoint = await super().listen()
        endpoint.listener = endpoint.carrier.listener
        return endpoint


async def wrap(server, *, hostname=None, context=None):
    """A client of the test's own."""
    return await connect_tcp(
        server.host,
        server.port,
        tls=True,
        tls_hostname=hostname or server.host,
        ssl_context=context or server.client_ssl_context,
        tls_standard_compatible=False,
    )


async def test_both_sides_speak_tls(harness):
    sides = []

    async def handler(stream):
        sides.append(stream.extra(TLSAttribute.server_side))
        await stream.send(stream.extra(TLSAttribute.tls_version).encode())

    server = await harness.serve(handler)
    async with await server.connect() as client:
        assert (await client.receive()).startswith(b"TLSv1.")
        sides.append(client.extra(TLSAttribute.server_side))
        assert client.extra(TLSAttribute.alpn_protocol) is None
    assert sides == [True, False]


async def test_the_client_has_checked_the_certificate_for_the_address(harness):
    server = await harness.serve(echo)
    async with await server.connect() as client:
        names = client.extra(TLSAttribute.peer_certificate)["subjectAltName"]
    assert ("IP Address", server.host) in names
    assert server.client_ssl_context.verify_mode is ssl.CERT_REQUIRED
    assert server.client_ssl_context.check_hostname


async def test_a_wrong_host_name_is_refused(harness):
    server = await harness.serve(echo)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"wrong\.example"):
        await wrap(server, hostname="wrong.example")
    await assert_serves(server)


async def hang_up_at_once(stream):
    await stream.aclose()


async def hang_up_politely(stream):
    await stream.receive()
    await stream.aclose()


async def speak_plainly(stream):
    await stream.receive()
    await stream.send(b"220 this is no TLS")


@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "proxied"])
@pytest.mark.parametrize("standard_compatible", [True, False])
@pytest.mark.parametrize("handler", [hang_up_at_once, hang_up_politely, speak_plainly])
async def test_a_handshake_that_fails_is_a_connection_that_fails(
    harness, handler, standard_compatible, proxied
):
    """As ``anyio.abc.ByteStreamConnectable.connect`` has it, and with what it was as its cause."""
    transport = PlainTransport(standard_compatible=standard_compatible)
    server = await harness.serve(handler, transport=transport)
    connectable = await harness.proxy(server) if proxied else server
    for _ in range(3):
        with pytest.raises(ConnectionFailed, match=r"TLS handshake|SSL") as caught:
            await connectable.connect()
        assert caught.value.__cause__ is not None
    await server.wait_connections(0)


async def test_a_client_that_does_not_trust_the_authority_refuses(harness):
    server = await harness.serve(echo)
    with pytest.raises(ssl.SSLCertVerificationError, match="verify failed"):
        await wrap(server, context=ssl.create_default_context())
    await assert_serves(server)


async def test_a_client_without_tls_reaches_no_handler(harness):
    server = await harness.serve(echo)
    async with await connect_tcp(server.host, server.port) as client:
        await client.send(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises((EndOfStream, BrokenResourceError)):
            while True:
                await client.receive()
    assert server.accepted == 0
    await assert_serves(server)


@pytest.mark.parametrize("hostname", ["127.0.0.1", "localhost"])
async def test_the_certificate_is_good_for_the_names_of_loopback(harness, hostname):
    server = await harness.serve(echo)
    async with await wrap(server, hostname=hostname) as client:
        await client.send(b"ping")
        assert await client.receive() == b"ping"


async def test_client_ssl_context_is_all_that_anyios_own_client_needs(harness):
    server = await harness.serve(echo)
    async with await connect_tcp(
        server.host,
        server.port,
        ssl_context=server.client_ssl_context,
        tls_standard_compatible=False,
    ) as client:
        assert isinstance(client, TLSStream)
        await client.send(b"ping")
        assert await client.receive() == b"ping"


async def test_client_ssl_context_is_all_that_a_standard_library_client_needs(harness):
    server = await harness.serve(echo)

    def client():
        plain = socket.create_connection(server.address, timeout=60)
        with server.client_ssl_context.wrap_socket(plain, server_hostname=server.host) as stream:
            stream.sendall(b"ping")
            return stream.recv(100)

    assert await to_thread.run_sync(client) == b"ping"


async def test_the_authority_is_made_once(harness, monkeypatch):
    import trustme

    first = await harness.serve(echo)

    def refuse(*args, **kwargs):
        raise AssertionError("a second authority was made")

    monkeypatch.setattr(trustme, "CA", refuse)
    second = await harness.serve(echo, transport=TLSTransport())
    assert first.client_ssl_context is second.client_ssl_context
    assert authority() is authority()


@pytest.mark.parametrize(
    ("standard_compatible", "error"), [(False, EndOfStream), (True, BrokenResourceError)]
)
async def test_a_truncated_stream_is_an_error_only_if_the_standard_is_kept(
    harness, standard_compatible, error
):
    async def hang_up(stream):
        await stream.send(b"some")
        await stream.transport_stream.aclose()  # no close_notify

    server = await harness.serve(
        hang_up, transport=TLSTransport(standard_compatible=standard_compatible)
    )
    client = await server.connect()
    assert await client.receive() == b"some"
    with pytest.raises(error):
        await client.receive()
    await aclose_forcefully(client)


async def test_a_truncation_by_the_client_is_seen_by_the_handler(harness):
    seen = []

    async def handler(stream):
        try:
            await stream.receive()
        except BrokenResourceError as exc:
            seen.append(type(exc.__cause__))

    server = await harness.serve(handler, transport=TLSTransport(standard_compatible=True))
    client = await server.connect()
    await server.wait_connections(1)
    await client.transport_stream.aclose()
    await server.wait_connections(0)
    assert len(seen) == 1
    assert issubclass(seen[0], ssl.SSLError)


async def test_with_the_standard_kept_a_close_is_an_end_and_no_error(harness):
    async def handler(stream):
        async with stream:
            await stream.send(b"all of it")
            with pytest.raises(EndOfStream):
                await stream.receive()

    server = await harness.serve(handler, transport=TLSTransport(standard_compatible=True))
    async with await server.connect() as client:
        assert await client.receive() == b"all of it"
    await server.wait_connections(0)


async def test_by_default_the_standard_is_not_kept(harness):
    server = await harness.serve(echo)
    async with await server.connect() as client:
        assert client.extra(TLSAttribute.standard_compatible) is False
