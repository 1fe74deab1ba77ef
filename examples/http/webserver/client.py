"""The client: one connection over any byte stream, for where no HTTP library gets to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import h11
from anyio import EndOfStream
from anyio.abc import ByteStream


@dataclass(frozen=True)
class Reply:
    """A response with its whole body. ``informational`` has the 1xx statuses before it."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes
    informational: tuple[int, ...] = ()


class WebClient:
    """Makes requests one after another over a connected stream."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)

    async def request(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Reply:
        """Send a request and wait for the response.

        With ``Expect: 100-continue`` the body is sent when the server asks for it, and not at all
        if it answers instead. Raises :exc:`h11.RemoteProtocolError` for a response that breaks off.
        """
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        every = {"Host": "example", **(headers or {})}
        if body:
            every["Content-Length"] = str(len(body))
        await self._send(h11.Request(method=method, target=target, headers=list(every.items())))
        informational: list[int] = []
        if "Expect" not in every:
            await self._send_body(body)
        while isinstance(event := await self._next_event(), h11.InformationalResponse):
            informational.append(event.status_code)
            if event.status_code == 100:
                await self._send_body(body)
        if not isinstance(event, h11.Response):
            raise h11.RemoteProtocolError("the server hung up instead of responding")
        received = bytearray()
        while isinstance(data := await self._next_event(), h11.Data):
            received += data.data
        return Reply(
            event.status_code,
            {bytes(name): bytes(value) for name, value in event.headers},
            bytes(received),
            tuple(informational),
        )

    async def _send_body(self, body: bytes) -> None:
        await self._send(h11.Data(data=body))
        await self._send(h11.EndOfMessage())

    async def _next_event(self) -> h11.Event:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            try:
                self._http.receive_data(await self._stream.receive())
            except EndOfStream:
                self._http.receive_data(b"")
        assert not isinstance(event, type)  # h11.PAUSED: only between two cycles
        return event

    async def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            await self._stream.send(data)
