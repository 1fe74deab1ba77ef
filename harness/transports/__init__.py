"""The transports, one module each. ``base`` is the contract, this is the list."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .base import Endpoint, Transport


def _tcp() -> Transport:
    from .tcp import TCPTransport

    return TCPTransport()


def _tcp6() -> Transport:
    from .tcp import TCP6Transport

    return TCP6Transport()


def _unix() -> Transport:
    from .unix import UnixTransport

    return UnixTransport()


def _tls() -> Transport:
    from .tls import TLSTransport

    return TLSTransport()


def _memory() -> Transport:
    from .memory import MemoryTransport

    return MemoryTransport()


#: What makes a transport: a class, or any callable without arguments.
TransportFactory = Callable[[], Transport]

#: The built-in transports. Each factory imports its module on first use, so that a run over memory
#: imports neither ``ssl`` nor ``trustme``.
BUILT_IN: Mapping[str, TransportFactory] = {
    "tcp": _tcp,
    "unix": _unix,
    "tls": _tls,
    "memory": _memory,
    "tcp6": _tcp6,
}

#: The ids a test runs on when nothing else is said.
DEFAULT: tuple[str, ...] = ("tcp", "unix", "tls", "memory")


def make_transport(transport: str | Transport) -> Transport:
    """Turn a name into a fresh transport; hand a transport back as it is.

    Raises :exc:`ValueError` for a name that is not built in and :exc:`TypeError` for anything that
    is neither.
    """
    if isinstance(transport, Transport):
        return transport
    if not isinstance(transport, str):
        raise TypeError(
            f"transport must be a Transport or one of the names {', '.join(BUILT_IN)}, "
            f"not {transport!r}"
        )
    try:
        factory = BUILT_IN[transport]
    except KeyError:
        raise ValueError(
            f"unknown transport {transport!r}; expected one of {', '.join(BUILT_IN)}"
        ) from None
    return factory()


__all__ = ["BUILT_IN", "DEFAULT", "Endpoint", "Transport", "TransportFactory", "make_transport"]
