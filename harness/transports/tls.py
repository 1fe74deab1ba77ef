"""TLS over TCP, with a certificate authority that the session makes on first use."""

from __future__ import annotations

import functools
import ssl
from typing import TYPE_CHECKING, Any, ClassVar

from anyio import aclose_forcefully
from anyio.abc import ByteStream, Listener
from anyio.streams.tls import TLSListener, TLSStream

from .base import Endpoint, Transport
from .tcp import TCPEndpoint, TCPTransport

if TYPE_CHECKING:
    import trustme


class Authority:
    """A trustme CA with one server certificate for every name that loopback has."""

    def __init__(self) -> None:
        import trustme

        self.ca: trustme.CA = trustme.CA()
        certificate = self.ca.issue_cert("127.0.0.1", "::1", "localhost")
        self.server_context: ssl.SSLContext = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(self.server_context)
        # Session tickets follow the handshake (RFC 8446, 4.6.1). A client that closes before it
        # reads anything leaves them unread, so that the kernel answers with RST and the handler
        # gets BrokenResourceError where it gets EndOfStream over every other transport.
        self.server_context.num_tickets = 0
        self.client_context: ssl.SSLContext = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
        self.ca.configure_trust(self.client_context)
        for context in (self.server_context, self.client_context):
            # Where this option is on by default, a truncated stream looks like a closed one.
            # AnyIO turns it off only in contexts of its own (anyio/streams/tls.py, TLSStream.wrap).
            context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)


@functools.cache
def authority() -> Authority:
    """The one authority of this process."""
    return Authority()


class TLSEndpoint(Endpoint):
    """A TCP endpoint whose connections do a TLS handshake before the handler sees them."""

    def __init__(self, tcp: TCPEndpoint, standard_compatible: bool) -> None:
        self._tcp = tcp
        self._standard_compatible = standard_compatible
        self._wrap_listener()

    @property
    def address(self) -> tuple[str, int]:
        return self._tcp.address

    @property
    def client_ssl_context(self) -> ssl.SSLContext:
        return authority().client_context

    @property
    def carrier(self) -> TCPEndpoint:
        return self._tcp

    async def connect(self) -> ByteStream:
        stream = await self._tcp.connect()
        try:
            return await self.dress(stream)
        except BaseException:
            await aclose_forcefully(stream)
            raise

    async def dress(self, stream: ByteStream) -> ByteStream:
        return await TLSStream.wrap(
            stream,
            server_side=False,
            hostname=self._tcp.address[0],
            ssl_context=authority().client_context,
            standard_compatible=self._standard_compatible,
        )

    async def listen_again(self) -> None:
        await self._tcp.listen_again()
        self._wrap_listener()

    def release(self) -> None:
        self._tcp.release()

    def _wrap_listener(self) -> None:
        self.listener: Listener[Any] = TLSListener(
            self._tcp.listener,
            ssl_context=authority().server_context,
            standard_compatible=self._standard_compatible,
        )


class TLSTransport(Transport):
    """TLS on ``127.0.0.1``; the client checks the certificate and the host name.

    :param standard_compatible: do the closing handshake and treat its absence as a truncation
        (RFC 8446, 6.1). Off by default, as most peers on the internet hang up without it.
    """

    name: ClassVar[str] = "tls"

    def __init__(self, *, standard_compatible: bool = False) -> None:
        self.standard_compatible = standard_compatible

    @property
    def carrier(self) -> TCPTransport:
        return TCPTransport()

    async def listen(self) -> TLSEndpoint:
        authority()  # before a socket is bound: a failure here leaves nothing open
        return TLSEndpoint(await TCPTransport().listen(), self.standard_compatible)
