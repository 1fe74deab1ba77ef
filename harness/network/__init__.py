"""The in-memory network: a kernel of pipes and sockets, and AnyIO's streams on top of it."""

from __future__ import annotations

from .datagram_stream import ConnectedMemoryDatagramSocket, MemoryDatagramSocket
from .datagrams import DatagramSocket
from .kernel import ListeningSocket, Network, Socket
from .pipe import Pipe
from .stream import MemoryListener, MemoryStream

__all__ = [
    "ConnectedMemoryDatagramSocket",
    "DatagramSocket",
    "ListeningSocket",
    "MemoryDatagramSocket",
    "MemoryListener",
    "MemoryStream",
    "Network",
    "Pipe",
    "Socket",
]
