"""A network in memory: no file descriptor, no kernel, the same bytes."""

from __future__ import annotations

import random
from typing import Any, ClassVar

from anyio.abc import Listener
from anyio.lowlevel import checkpoint

from ..network import MemoryListener, MemoryStream, Network
from ..network.pipe import DEFAULT_CAPACITY
from .base import Endpoint, Transport


class MemoryEndpoint(Endpoint):
    """A listening address of a simulated network."""

    def __init__(self, network: Network, chunking: random.Random | None) -> None:
        self._network = network
        self._chunking = chunking
        socket = network.listen()
        self._address = socket.address
        self.listener: Listener[Any] = MemoryListener(socket, chunking=chunking)

    @property
    def address(self) -> tuple[str, int]:
        return self._address

    async def connect(self) -> MemoryStream:
        await checkpoint()
        return MemoryStream(self._network.connect(self._address), chunking=self._chunking)

    async def listen_again(self) -> None:
        self.listener = MemoryListener(self._network.listen(self._address), chunking=self._chunking)


class MemoryTransport(Transport):
    """Byte streams between tasks of one event loop, with TCP's behaviour at the edges.

    :param capacity: what each direction of a connection buffers before ``send`` blocks, in bytes
    :param chunking_seed: cut every ``receive`` short at places that follow from this seed, to find
        code that takes one receive for one message; ``None`` cuts nothing
    """

    name: ClassVar[str] = "memory"

    def __init__(
        self, *, capacity: int = DEFAULT_CAPACITY, chunking_seed: int | None = None
    ) -> None:
        self.network: Network = Network(capacity=capacity)
        self._chunking = None if chunking_seed is None else random.Random(chunking_seed)

    async def listen(self) -> MemoryEndpoint:
        return MemoryEndpoint(self.network, self._chunking)
