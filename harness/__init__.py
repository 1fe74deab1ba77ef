"""A pytest test harness for network servers and clients written against AnyIO."""

from __future__ import annotations

from .backends import Backend, WrongBackend
from .connection import Connection
from .core import Harness, open_harness
from .server import NotRaised, Server
from .supervisor import DidNotStop
from .transports import Endpoint, Transport
from .virtualtime import VirtualClock

__all__ = [
    "Backend",
    "Connection",
    "DidNotStop",
    "Endpoint",
    "Harness",
    "NotRaised",
    "Server",
    "Transport",
    "VirtualClock",
    "WrongBackend",
    "open_harness",
]
