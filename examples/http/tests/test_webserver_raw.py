"""The web server under bytes of our own, over every transport."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import h11
import pytest
from anyio import EndOfStream, Event, sleep_forever
from anyio.abc import ByteStream
from webserver import Request, Response, WebClient, WebServer

from harness import Harness


async def hello(request: Request) -> Response:
    return Response(b"hello\n")


async def echo(request: Request) -> Response:
    return Response(request.body)


#: What h11 buffers of a request's headers.
LIMIT = h11._connection.DEFAULT_MAX_INCOMPLETE_EVENT_SIZE

ROUTES = {"GET /": hello, "POST /": echo}


async def receive_all(stream: ByteStream) -> bytes:
    received = b""
    try:
        while True:
            received += await stream.receive()
    except EndOfStream:
        return received


async def test_keep_alive(harness: Harness) -> None:
    server = await harness.serve(WebServer(ROUTES))
    client = WebClient(await server.connect())

    for _ in range(3):
        reply = await client.request("GET", "/")
        assert (reply.status, reply.body) == (200, b"hello\n")
        reply = await client.request("POST", "/", body=b"payload")
        assert (reply.status, reply.body) == (200, b"payload")
    assert server.accepted == 1


async def test_pipelined_requests_are_answered_in_order(harness: Harness) -> None:
    server = await harness.serve(WebServer(ROUTES))
    stream = await server.connect()

    await stream.send(
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\none"
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nConnection: close\r\n\r\ntwo"
    )
    received = await receive_all(stream)

    assert received.count(b"HTTP/1.1 200") == 2
    assert 0 < received.index(b"one") < received.index(b"two")


async def test_request_may_arrive_byte_by_byte(harness: Harness) -> None:
    server = await harness.serve(WebServer(ROUTES))
    stream = await server.connect()

    request = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody"
    for position in range(len(request)):
        await stream.send(request[position : position + 1])
    received = await receive_all(stream)

    assert received.startswith(b"HTTP/1.1 200")
    assert received.endswith(b"\r\n\r\nbody")


async def test_http_1_0_ends_with_the_connection(harness: Harness) -> None:
    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"no "
        yield b"chunks"

    async def stream_of_chunks(request: Request) -> Response:
        return Response(chunks())

    server = await harness.serve(WebServer({"GET /": stream_of_chunks}))
    stream = await server.connect()
    await stream.send(b"GET / HTTP/1.0\r\n\r\n")

    assert (await receive_all(stream)).endswith(b"\r\n\r\nno chunks")


@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: many\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nBad Header: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00",
    ],
    ids=["garbage", "no-host", "bad-length", "bad-header", "bad-chunk", "tls-hello"],
)
async def test_malformed_request_is_refused(harness: Harness, sent: bytes) -> None:
    server = await harness.serve(WebServer(ROUTES))
    stream = await server.connect()
    await stream.send(sent)
    received = await receive_all(stream)

    assert received.startswith(b"HTTP/1.1 400")
    assert b"\r\nConnection: close\r\n" in received
    await server.wait_connections(0)
    assert not server.errors


async def test_headers_without_end_are_refused(harness: Harness) -> None:
    server = await harness.serve(WebServer(ROUTES))
    stream = await server.connect()
    # One byte too many and not two: what is left unread when the server closes would make TCP reset
    # the connection, and the response might be lost with it.
    await stream.send((b"GET / HTTP/1.1\r\nX: " + b"y" * LIMIT)[: LIMIT + 1])

    assert (await receive_all(stream)).startswith(b"HTTP/1.1 431")


async def test_expect_100_continue(harness: Harness) -> None:
    server = await harness.serve(WebServer(ROUTES, max_body=10))
    client = WebClient(await server.connect())

    reply = await client.request("POST", "/", headers={"Expect": "100-continue"}, body=b"wanted")
    assert (reply.informational, reply.status, reply.body) == ((100,), 200, b"wanted")

    reply = await client.request("POST", "/", headers={"Expect": "100-continue"}, body=b"x" * 11)
    assert (reply.informational, reply.status) == ((), 413)


async def test_chunked_body_that_is_too_large(harness: Harness) -> None:
    server = await harness.serve(WebServer(ROUTES, max_body=10))
    stream = await server.connect()
    await stream.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    await stream.send(b"b\r\n01234567890\r\n")

    assert (await receive_all(stream)).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf",
    ],
    ids=["before-the-request", "in-the-headers", "in-the-body"],
)
async def test_client_that_leaves(harness: Harness, sent: bytes) -> None:
    server = await harness.serve(WebServer(ROUTES))
    stream = await server.connect()
    await stream.send(sent)
    await server.wait_connections(1)
    await stream.aclose()
    await server.wait_connections(0)

    assert not server.errors


async def test_response_that_fails_halfway_is_seen_to_be_cut(harness: Harness) -> None:
    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"the first half"
        raise LookupError("no second half")

    async def halves(request: Request) -> Response:
        return Response(chunks())

    server = await harness.serve(WebServer({"GET /": halves}), expect=LookupError)
    client = WebClient(await server.connect())

    with pytest.raises(h11.RemoteProtocolError):
        await client.request("GET", "/")
    await server.wait_connections(0)
    assert [str(error) for error in server.errors] == ["no second half"]


async def test_server_that_stops_cuts_the_response_off(harness: Harness) -> None:
    asked = Event()

    async def never(request: Request) -> Response:
        asked.set()
        await sleep_forever()
        raise AssertionError("not reached")

    server = await harness.serve(WebServer({"GET /": never}))
    client = WebClient(await server.connect())

    async def stop() -> None:
        await asked.wait()
        await server.stop(grace=0)

    harness.task_group.start_soon(stop)
    with pytest.raises(h11.RemoteProtocolError):
        await client.request("GET", "/")
