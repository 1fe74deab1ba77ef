"""A server that answers with what it gets."""

from __future__ import annotations


async def echo(stream):
    async for data in stream:
        await stream.send(data)


async def is_answered(client, message=b"x"):
    await client.send(message)
    return await client.receive() == message
