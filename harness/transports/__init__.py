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
#: imports nothing that only the others need.
BUILT_IN: Mapping[str, TransportFactory] = {
    "tcp": _tcp,
    "unix": _unix,
    "tls": _tls,
    "memory": _memory,
    "tcp6": _tcp6,
}

#: The ids a test runs on when nothing else is said.
DEFAULT: tuple[str, ...] = ("tcp", "unix", "tls", "memory")


def make_transport(
    transport: str | Transport, factories: Mapping[str, TransportFactory] = BUILT_IN
) -> Transport:
    """Turn a name into a fresh transport; hand a transport back as it is.

    Raises :exc:`ValueError` for an unknown name, and :exc:`TypeError` for anything that is neither
    or for a factory that makes something else.
    """
    if isinstance(transport, Transport):
        return transport
    if not isinstance(transport, str):
        raise TypeError(
            f"transport must be a Transport or one of the names {', '.join(factories)}, "
            f"not {transport!r}"
        )
    try:
        factory = factories[transport]
    except KeyError:
        raise ValueError(
            f"unknown transport {transport!r}; expected one of {', '.join(factories)}"
        ) from None
    made = factory()
    if not isinstance(made, Transport):
        raise TypeError(f"transport {transport!r} made {made!r}, which is no harness.Transport")
    return made


__all__ = ["BUILT_IN", "DEFAULT", "Endpoint", "Transport", "TransportFactory", "make_transport"]
