"""Two transactions take the same two locks, each in its own order."""

from __future__ import annotations

import pytest
from anyio import Lock, move_on_after
from anyio.abc import ByteStream

from harness import Harness

FOUND = [
    r"(?i)time(d )?[- ]?out",
    r"two_locks\.py:\d+ in (Buggy\.)?take: await self\.locks\[account\]\.acquire\(\)",
]
NEEDS = "timeout"


class Buggy:
    def __init__(self) -> None:
        self.locks = {b"a": Lock(), b"b": Lock()}

    async def take(self, account: bytes) -> bool:
        await self.locks[account].acquire()
        return True

    async def handle(self, stream: ByteStream) -> None:
        """A transaction locks the accounts that it names, one after the other."""
        held = []
        try:
            async for account in stream:
                if not await self.take(account):
                    await stream.send(b"rolled back")
                    return
                held.append(account)
                await stream.send(b"locked")
        finally:
            for account in held:
                self.locks[account].release()


class Correct(Buggy):
    async def take(self, account: bytes) -> bool:
        with move_on_after(0.05):
            return await super().take(account)
        return False


@pytest.mark.parametrize("bank", [Buggy, Correct])
async def test_crossing_transactions(harness: Harness, bank) -> None:
    server = await harness.serve(bank())
    clients = [await server.connect() for _ in range(2)]
    for client, account in zip(clients, [b"a", b"b"], strict=True):
        await client.send(account)
        assert await client.receive() == b"locked"
    for client, account in zip(clients, [b"b", b"a"], strict=True):
        await client.send(account)
    replies = {await client.receive() for client in clients}
    assert b"rolled back" in replies
