"""A chat: lines of text, sent on to everybody else."""

from __future__ import annotations

from .client import ChatClient, RefusedError
from .server import ChatServer

__all__ = ["ChatClient", "ChatServer", "RefusedError"]
