"""The in-memory network: a kernel of pipes and sockets, and AnyIO's streams on top of it."""

from __future__ import annotations

from .kernel import ListeningSocket, Network, Socket
from .pipe import Pipe
from .stream import MemoryListener, MemoryStream

__all__ = ["ListeningSocket", "MemoryListener", "MemoryStream", "Network", "Pipe", "Socket"]
