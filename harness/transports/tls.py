"""TLS over TCP, with a certificate authority that the session makes on first use."""

from __future__ import annotations

import functools
import os
import socket
import ssl
from typing import TYPE_CHECKING, Any, ClassVar

from anyio import BrokenResourceError, ConnectionFailed, EndOfStream, aclose_forcefully
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
        self.certificate: trustme.LeafCert = self.ca.issue_cert("127.0.0.1", "::1", "localhost")
        self.server_context: ssl.SSLContext = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.certificate.configure_cert(self.server_context)
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

    def write_to(self, directory: str) -> dict[str, str]:
        """Write what another process needs, as PEM.

        :returns: the paths: ``certfile``, the chain of the server's certificate; ``keyfile``;
            ``cafile``, what a client has to trust
        """
        chain = b"".join(blob.bytes() for blob in self.certificate.cert_chain_pems)
        contents = {
            "certfile": chain,
            "keyfile": self.certificate.private_key_pem.bytes(),
            "cafile": self.ca.cert_pem.bytes(),
        }
        paths = {}
        for name, content in contents.items():
            paths[name] = os.path.join(directory, f"{name}.pem")
            with open(paths[name], "wb") as file:
                file.write(content)
        return paths


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
        try:
            return await TLSStream.wrap(
                stream,
                server_side=False,
                hostname=self._tcp.address[0],
                ssl_context=authority().client_context,
                standard_compatible=self._standard_compatible,
            )
        except (BrokenResourceError, EndOfStream) as exc:  # a stream's words, and there is none yet
            raise ConnectionFailed("the peer has cut the TLS handshake off") from exc

    def bind(self) -> socket.socket:
        return self._tcp.bind()

    def make_way(self) -> None:
        self._tcp.make_way()

    def keep(self) -> None:
        self._tcp.keep()

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

    has_sockets: ClassVar[bool] = True

    @property
    def server_ssl_context(self) -> ssl.SSLContext:
        return authority().server_context

    def reserve(self) -> TLSEndpoint:
        authority()
        return TLSEndpoint(TCPTransport().reserve(), self.standard_compatible)

    def at(self, address: Any) -> TLSEndpoint:
        return TLSEndpoint(TCPTransport().at(address), self.standard_compatible)

    async def listen(self) -> TLSEndpoint:
        authority()  # before a socket is bound: a failure here leaves nothing open
        return TLSEndpoint(await TCPTransport().listen(), self.standard_compatible)
