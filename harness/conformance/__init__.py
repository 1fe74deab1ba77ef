"""Checks of what AnyIO's streams, listeners and connectables promise. They need no pytest."""

from __future__ import annotations

from .byte_stream import byte_stream_checks, check_byte_stream
from .connectable import check_connectable, connectable_checks
from .contract import PromiseBroken
from .datagram import check_datagram_socket, datagram_checks
from .half_close import check_half_closeable, half_close_checks
from .listener import check_listener, listener_checks
from .object_stream import check_object_stream, object_stream_checks
from .truncation import check_truncation, truncation_checks

__all__ = [
    "PromiseBroken",
    "byte_stream_checks",
    "check_byte_stream",
    "check_connectable",
    "check_datagram_socket",
    "check_half_closeable",
    "check_listener",
    "check_object_stream",
    "check_truncation",
    "connectable_checks",
    "datagram_checks",
    "half_close_checks",
    "listener_checks",
    "object_stream_checks",
    "truncation_checks",
]
