"""One device of a person, spoken to message by message; :class:`nearby_client.NearbyClient` would think for itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import websockets

from nearby.codecs import JSON
from tests.support.people import Person
from tests.support.stack import Gateway

CLOSED_WITHIN_S = 30.0


class Device:
    """``shown`` is its own map: the distances of friends by user id."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self.shown: dict[str, int] = {}
        self._socket = socket
        self._seq = 0

    async def report(self, place: tuple[float, float], **fields: float) -> Any:
        """Report and return the acknowledgement."""
        return await self.ask("ack", {"type": "location", "lat": place[0], "lon": place[1], **fields})

    async def catch_up(self, points: Sequence[Mapping[str, float]]) -> Any:
        """Send a batch and return the acknowledgement."""
        return await self.ask("ack", {"type": "batch", "points": points})

    async def resync(self) -> None:
        """Ask for a snapshot and wait for it."""
        await self._socket.send('{"type":"resync"}')
        await self.told("snapshot")

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send ``message`` with a ``seq`` of its own, and wait for nothing."""
        self._seq += 1
        await self._socket.send(json.dumps({**message, "seq": self._seq}))

    async def ask(self, answer: str, message: Mapping[str, Any]) -> Any:
        """Send ``message`` with a ``seq`` of its own and return its ``answer``."""
        await self.send(message)
        return await self.told(answer, self._seq)

    async def told(self, kind: str, seq: int | None = None) -> Any:
        """Take messages up to the next one of ``kind``."""
        while True:
            message = json.loads(await self._socket.recv())
            self.shown.update({entry["user_id"]: entry["distance_m"] for entry in message.get("friends", ())})
            if message["type"] == kind and message.get("seq") == seq:
                return message

    async def close_code(self) -> int | None:
        """Take everything until the connection is closed, and say with which code."""
        with contextlib.suppress(websockets.ConnectionClosed):
            async with asyncio.timeout(CLOSED_WITHIN_S):
                async for _ in self._socket:
                    pass
        return self._socket.close_code


@asynccontextmanager
async def device_of(person: Person, gateway: Gateway) -> AsyncIterator[Device]:
    """Connect a device of ``person`` and wait for the welcome."""
    async with websockets.connect(
        gateway.ws_url,
        additional_headers={"Authorization": f"Bearer {person.account.access_token}"},
        subprotocols=[websockets.Subprotocol(JSON.name)],
        compression=None,
        proxy=None,
    ) as socket:
        device = Device(socket)
        await device.told("welcome")
        yield device
