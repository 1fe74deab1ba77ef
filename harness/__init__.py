"""A pytest test harness for network servers and clients written against AnyIO.

Each name is imported when it is first asked for: pytest imports this package for its plugin, in
runs, too, that have no test for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backends import Backend, WrongBackend
    from .connection import Connection
    from .core import Harness, open_harness
    from .server import NotRaised, Server
    from .supervisor import DidNotStop
    from .transports import Endpoint, Transport
    from .virtualtime import VirtualClock

#: name -> the module it is in
_MODULES = {
    "Backend": "backends",
    "Connection": "connection",
    "DidNotStop": "supervisor",
    "Endpoint": "transports",
    "Harness": "core",
    "NotRaised": "server",
    "Server": "server",
    "Transport": "transports",
    "VirtualClock": "virtualtime",
    "WrongBackend": "backends",
    "open_harness": "core",
}

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


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, getattr(import_module(f".{_MODULES[name]}", __name__), name))


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
