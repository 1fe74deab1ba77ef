"""Leaving a resource fails: its ``__aexit__`` takes the last entry of a list that may be empty."""

from __future__ import annotations

from types import TracebackType

import pytest
from anyio import EndOfStream
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint

from harness import Harness

FOUND = [r"^E +IndexError: pop from empty list", r"in_aexit\.py:\d+: IndexError"]


class Buggy:
    """A transaction: what was written last is the commit message."""

    def __init__(self) -> None:
        self.pending: list[bytes] = []
        self.committed: list[bytes] = []

    async def __aenter__(self) -> Buggy:
        await checkpoint()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await checkpoint()
        self.committed.append(self.pending.pop())


class Correct(Buggy):
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await checkpoint()
        if self.pending:
            self.committed.append(self.pending.pop())


@pytest.mark.parametrize("transaction", [Buggy, Correct])
async def test_an_empty_transaction(harness: Harness, transaction) -> None:
    async def handler(stream: ByteStream) -> None:
        async with transaction() as current:
            line = await stream.receive()
            if line != b"quit":
                current.pending.append(line)

    server = await harness.serve(handler)
    client = await server.connect()
    await client.send(b"quit")
    with pytest.raises(EndOfStream):
        await client.receive()
