"""Clients that cannot be told where to connect."""

from __future__ import annotations

import anyio
from anyio import connect_tcp


async def fetch(host: str, port: int) -> bytes:
    async with await connect_tcp(host, port, happy_eyeballs_delay=1) as stream:
        return await stream.receive()


class Client:
    answer = None

    async def _dial(self, host: str) -> anyio.abc.ByteStream:
        return await connect_tcp(host, 80)

    @staticmethod
    async def dial_anywhere(host: str) -> anyio.abc.ByteStream:
        return await connect_tcp(host, 80)

    async def fetch(self, host: str) -> bytes:
        async with await self._dial(host) as stream:
            return await stream.receive()

    async def fetch_anywhere(self, host: str) -> bytes:
        async with await self.dial_anywhere(host) as stream:
            return await stream.receive()


class Heir(Client):
    pass


def connect_blocking(host: str) -> None:
    raise NotImplementedError


class TakesACallable:
    """The seam that makes all of this unnecessary."""

    def __init__(self, connect) -> None:
        self._connect = connect

    async def fetch(self) -> bytes:
        async with await self._connect() as stream:
            return await stream.receive()
