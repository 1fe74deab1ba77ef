"""Where a server says that it is: the many forms in which servers report that."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

from anyio import TypedAttributeProvider
from anyio.abc import SocketAttribute

from ..transports.base import Endpoint


def address_of(reported: Any) -> Any:
    """The address that ``reported`` is or has: a port, ``(host, port)``, a path or an endpoint.

    Raises :exc:`TypeError` for what has none.
    """
    if isinstance(reported, bool) or (reported == 0 and isinstance(reported, int)):
        pass
    elif isinstance(reported, (Endpoint, bytes, int)):
        return reported
    elif isinstance(reported, str):
        if "://" in reported or reported.startswith("unix:"):
            return address_in(reported)
        if os.sep in reported or "\0" in reported:  # and not a number, or the name of a host
            return reported
    elif isinstance(reported, os.PathLike):
        return os.fspath(reported)
    elif isinstance(reported, tuple) and len(reported) in (2, 4) and isinstance(reported[0], str):
        return tuple(reported[:2])
    elif isinstance(reported, TypedAttributeProvider):
        local = reported.extra(SocketAttribute.local_address, None)
        if local is not None:
            return address_of(local)
        below = getattr(reported, "listener", None) or getattr(reported, "listeners", None)
        if below:  # AnyIO's TLSListener, its MultiListener
            return address_of(below)
    else:
        below = _below(reported)
        if below is not None:
            return address_of(below)
    raise TypeError(
        "a server has to say where it is - the number of its port, (host, port), a path with a "
        f"{os.sep} in it, a URL, a socket or a listener - and has said {reported!r}; `endpoint=` "
        "can turn that into one of these"
    )


def _below(reported: Any) -> Any:
    """What an object has that has an address."""
    if hasattr(reported, "getsockname"):
        return reported.getsockname()
    if hasattr(reported, "sockets"):  # asyncio.Server
        return reported.sockets
    if hasattr(reported, "socket"):  # trio.SocketListener
        return reported.socket
    return next(iter(reported), None) if isinstance(reported, Iterable) else None


def address_in(url: str) -> Any:
    """The address in a URL: ``scheme://host:port``, ``unix:///path`` or ``http+unix://%2Fpath``."""
    parts = urlsplit(url)
    if parts.scheme == "unix" or parts.scheme.endswith("+unix"):
        return unquote(parts.netloc) + parts.path
    if parts.hostname is None or parts.port is None:
        raise TypeError(f"a server has to say where it is, and {url!r} has no host and port")
    return (parts.hostname, parts.port)
