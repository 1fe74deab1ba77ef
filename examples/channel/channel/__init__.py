"""Request and reply over one byte stream: length-prefixed JSON, many requests in flight at once."""

from __future__ import annotations

from .client import Channel, ConnectionLostError, RemoteError, open_channel
from .messages import MAX_SIZE, MessageStream, MessageTooLargeError, ProtocolError
from .server import ChannelServer, RequestError

__all__ = [
    "MAX_SIZE",
    "Channel",
    "ChannelServer",
    "ConnectionLostError",
    "MessageStream",
    "MessageTooLargeError",
    "ProtocolError",
    "RemoteError",
    "RequestError",
    "open_channel",
]
