"""A small Redis: a key-value server with expiry and pub/sub that speaks RESP2 and RESP3."""

from __future__ import annotations

from .client import RespClient
from .resp import ErrorReply, ProtocolError, Push
from .server import KeyValueServer
from .store import Store

__all__ = ["ErrorReply", "KeyValueServer", "ProtocolError", "Push", "RespClient", "Store"]
