"""Two streams: a server calls back the client that is waiting for its answer on the other one."""

from __future__ import annotations

import functools

import pytest
from anyio import Lock
from anyio.abc import ByteStream

from harness import Harness, Server

FOUND = [
    r"(?i)time(d )?[- ]?out",
    r"call_back\.py:\d+ in (Buggy\.)?handle: async with self\.lock",
    r"call_back\.py:\d+ in ask: .*receive\(\)",
]
NEEDS = "timeout"


async def ask(server: Server, question: bytes) -> bytes:
    async with await server.connect() as connection:
        await connection.send(question)
        return await connection.receive()


class Buggy:
    """A shop that asks the bank, and whom the bank asks; one thing at a time."""

    bank: Server

    def __init__(self) -> None:
        self.lock = Lock()

    async def buy(self) -> bytes:
        async with self.lock:
            return await ask(self.bank, b"pay")

    async def handle(self, stream: ByteStream) -> None:
        await stream.receive()
        async with self.lock:
            await stream.send(b"yes")


class Correct(Buggy):
    async def buy(self) -> bytes:
        async with self.lock:
            bank = self.bank
        return await ask(bank, b"pay")


async def bank_handler(shop: Server, stream: ByteStream) -> None:
    await stream.receive()
    await stream.send(b"paid" if await ask(shop, b"is it yours?") == b"yes" else b"refused")


@pytest.mark.parametrize("shop_class", [Buggy, Correct])
async def test_buy(harness: Harness, shop_class) -> None:
    shop = shop_class()
    server = await harness.serve(shop)
    shop.bank = await harness.serve(functools.partial(bank_handler, server), name="bank")
    assert await shop.buy() == b"paid"
