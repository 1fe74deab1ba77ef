"""What ``harness.serve`` takes beside a handler, and clients of other kinds; one module each.

``base`` is the contract of a shape of server. Each is imported when it is first asked for, with
whatever library it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .base import Handler, Shape, Site

if TYPE_CHECKING:
    from .asgi import ASGI
    from .asyncio_protocol import AsyncioProtocol
    from .asyncio_streams import AsyncioStreams
    from .blocking import serve_blocking
    from .bound import Bound
    from .datagram import Datagram
    from .dial import patch_dial
    from .http import Connector
    from .main import Main
    from .process import Process, ProcessEnded

#: name -> the module it is in
_MODULES = {
    "ASGI": "asgi",
    "AsyncioProtocol": "asyncio_protocol",
    "AsyncioStreams": "asyncio_streams",
    "Bound": "bound",
    "Connector": "http",
    "Datagram": "datagram",
    "Main": "main",
    "Process": "process",
    "ProcessEnded": "process",
    "patch_dial": "dial",
    "serve_blocking": "blocking",
}

__all__ = [
    "ASGI",
    "AsyncioProtocol",
    "AsyncioStreams",
    "Bound",
    "Connector",
    "Datagram",
    "Handler",
    "Main",
    "Process",
    "ProcessEnded",
    "Shape",
    "Site",
    "patch_dial",
    "serve_blocking",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
