"""A balance is read, awaited over, and written back: one of two deposits is lost."""

from __future__ import annotations

import pytest
from anyio import Event, Lock
from anyio.abc import ByteStream

from harness import Harness

FOUND = [r"^E +AssertionError: a deposit was lost", r"^E +assert 10 == 20"]


class Buggy:
    def __init__(self) -> None:
        self.balance = 0
        self.audited = Event()

    async def deposit(self, amount: int) -> None:
        balance = self.balance
        await self.audited.wait()
        self.balance = balance + amount

    async def handle(self, stream: ByteStream) -> None:
        await self.deposit(int(await stream.receive()))
        await stream.send(b"ok")


class Correct(Buggy):
    def __init__(self) -> None:
        super().__init__()
        self.lock = Lock()

    async def deposit(self, amount: int) -> None:
        async with self.lock:
            await super().deposit(amount)


@pytest.mark.parametrize("account_class", [Buggy, Correct])
async def test_two_deposits(harness: Harness, account_class) -> None:
    account = account_class()
    server = await harness.serve(account)
    clients = [await server.connect() for _ in range(2)]
    for client in clients:
        await client.send(b"10")
    await harness.settle()
    account.audited.set()
    for client in clients:
        assert await client.receive() == b"ok"
    assert account.balance == 20, "a deposit was lost"
