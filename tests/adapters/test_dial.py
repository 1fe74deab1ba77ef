"""Clients that cannot be told where to connect are connected to a server all the same."""

from __future__ import annotations

import dialling
import pytest

from harness.adapters import patch_dial


async def greet(stream):
    await stream.send(b"hello")


async def test_a_function_of_a_module(harness):
    server = await harness.serve(greet)
    before = dialling.connect_tcp
    with patch_dial("dialling.connect_tcp", server) as dialled:
        assert await dialling.fetch("db.example.com", 5432) == b"hello"
        assert await dialling.fetch(host="x", port=1) == b"hello"
    assert dialled.calls[0] == (("db.example.com", 5432), {"happy_eyeballs_delay": 1})
    assert len(dialled.calls) == 2
    assert dialling.connect_tcp is before
    assert server.accepted == 2


async def test_with_and_async_with(harness):
    server = await harness.serve(greet)
    before = dialling.connect_tcp
    async with patch_dial("dialling.connect_tcp", server) as dialled:
        assert await dialling.fetch("h", 1) == b"hello"
        with pytest.raises(RuntimeError, match="is in effect already"):
            dialled.__enter__()
        assert "dialling.connect_tcp" in repr(dialled)
    assert dialling.connect_tcp is before
    with dialled:  # and again
        assert await dialling.fetch("h", 1) == b"hello"


async def test_through_a_proxy(harness):
    server = await harness.serve(greet)
    proxy = await harness.proxy(server)
    with patch_dial("dialling.connect_tcp", proxy):
        assert await dialling.fetch("h", 1) == b"hello"
    assert proxy.connections or server.accepted == 1


@pytest.mark.harness(transports=["memory"])
async def test_methods(harness):
    server = await harness.serve(greet)
    before = dict(vars(dialling.Client))
    with patch_dial("dialling.Client._dial", server) as dialled:
        assert await dialling.Client().fetch("h") == b"hello"
        assert dialled.calls == [(("h",), {})]
    with patch_dial("dialling.Client.dial_anywhere", server) as dialled:
        assert await dialling.Client().fetch_anywhere("h") == b"hello"
        assert dialled.calls == [(("h",), {})]
    assert dict(vars(dialling.Client)) == before


@pytest.mark.harness(transports=["memory"])
async def test_an_inherited_method(harness):
    server = await harness.serve(greet)
    with patch_dial("dialling.Heir._dial", server):
        assert await dialling.Heir().fetch("h") == b"hello"
        assert dialling.Client._dial is not dialling.Heir._dial
    assert "_dial" not in vars(dialling.Heir)


@pytest.mark.harness(transports=["memory"])
async def test_it_goes_back_when_the_block_fails(harness):
    server = await harness.serve(greet)
    before = dialling.connect_tcp
    with pytest.raises(ZeroDivisionError), patch_dial("dialling.connect_tcp", server):
        _ = 1 / 0
    assert dialling.connect_tcp is before


async def test_the_seam_of_a_client_that_takes_a_callable(harness):
    server = await harness.serve(greet)
    assert await dialling.TakesACallable(connect=server.connect).fetch() == b"hello"


@pytest.mark.harness(transports=["memory"])
@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ("dialling.conect_tcp", AttributeError, r"dialling has no 'conect_tcp'; it has connect_"),
        ("dialling.Cliemt._dial", AttributeError, r"dialling has no 'Cliemt'"),
        ("dialling.Client.dail", AttributeError, r"dialling\.Client has no 'dail'; it has _dial"),
        ("dialing.connect_tcp", ModuleNotFoundError, "tcp'\\): there is no module 'dialing'"),
        ("asyncio.open_connection", TypeError, "wants a reader and a writer, .* server.address"),
        ("trio.open_tcp_stream", TypeError, "wants a stream of trio's, and"),
        ("dialling.Client.answer", AttributeError, "has no 'answer'"),
        ("dialling.connect_blocking", TypeError, "and no async function"),
        ("connect_tcp", ValueError, r"the dotted name of a function, such as 'client\.connect"),
        ("dialling.", ValueError, "not 'dialling.'"),
        ("", ValueError, "not ''"),
        (dialling.connect_tcp, TypeError, "takes the dotted name of a function, not <function"),
    ],
)
async def test_a_target_that_is_none(harness, target, error, message):
    server = await harness.serve(greet)
    with pytest.raises(error, match=message), patch_dial(target, server):
        pass  # pragma: no cover


def test_a_server_that_is_none():
    with pytest.raises(TypeError, match=r"expects a Server or another .*, not 5"):
        patch_dial("dialling.connect_tcp", 5)  # type: ignore[arg-type]
