"""A small HTTP/1.1 server and client on h11, for whatever AnyIO has a byte stream for."""

from __future__ import annotations

from .client import Reply, WebClient
from .server import Handler, Request, Response, WebServer

__all__ = ["Handler", "Reply", "Request", "Response", "WebClient", "WebServer"]
