"""smtpproto, an SMTP client on AnyIO, and aiosmtpd, a server that is an asyncio protocol.

On trio the server is in a thread, with an event loop of asyncio's.
"""

from __future__ import annotations

import warnings
from email import message_from_bytes
from email.message import EmailMessage
from typing import Any

import anyio
import pytest
from aiosmtpd.smtp import SMTP

from harness import Harness, Server
from harness.adapters import AsyncioProtocol, serve_blocking
from harness.adapters.blocking import BlockingServer
from harness.faults import Proxy

with warnings.catch_warnings():
    # smtpproto 2.0.0 imports a name from where AnyIO 4.16 no longer wants it.
    warnings.filterwarnings("ignore", "The anyio.abc.BlockingPortal", DeprecationWarning)
    from smtpproto.client import AsyncSMTPClient

#: The client connects by itself, without TLS from the start.
pytestmark = pytest.mark.harness(transports=["tcp", "tcp6"], backends=["asyncio", "uvloop"])


class Inbox:
    """What aiosmtpd calls a handler: it keeps what comes."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, list[str], str]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        text = message_from_bytes(envelope.content).get_payload()
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, text.strip()))
        return "250 OK"


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
async def server(harness: Harness, inbox: Inbox) -> Server:
    return await harness.serve(AsyncioProtocol(lambda: SMTP(inbox)))


def client(server: Server | Proxy | BlockingServer) -> AsyncSMTPClient:
    return AsyncSMTPClient(server.host, server.port, domain="localhost")


def mail(text: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = "a@example.org", "b@example.org"
    message.set_content(text)
    return message


async def test_a_mail(server: Server, inbox: Inbox) -> None:
    await client(server).send_message(mail("hello"))
    assert inbox.mails == [("a@example.org", ["b@example.org"], "hello")]


async def test_several_clients(server: Server, inbox: Inbox) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(client(server).send_message, mail(f"mail {number}"))
    assert {text for _, _, text in inbox.mails} == {f"mail {number}" for number in range(5)}
    assert server.accepted == 5


async def test_a_client_that_stays(server: Server, inbox: Inbox) -> None:
    stream = await server.connect()
    assert (await stream.receive()).startswith(b"220 ")
    await server.stop(grace=0)
    with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
        await stream.receive()
    await server.restart()
    await client(server).send_message(mail("after all"))
    assert len(inbox.mails) == 1


async def test_a_reset_before_the_mail(harness: Harness, server: Server, inbox: Inbox) -> None:
    proxy = await harness.proxy(server)
    with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError, AttributeError)):
        async with client(proxy).connect() as session:
            await proxy.reset_all()
            await session.send_message(mail("lost"))
    assert inbox.mails == []


@pytest.mark.harness(backends=["asyncio", "uvloop", "trio"], transports=["tcp"])
async def test_a_server_in_a_thread(harness: Harness, inbox: Inbox) -> None:
    with serve_blocking(AsyncioProtocol(lambda: SMTP(inbox))) as server:
        for number in range(2):
            await client(server).send_message(mail(f"mail {number}"))
    assert [text for _, _, text in inbox.mails] == ["mail 0", "mail 1"]
