"""A gateway that follows a script: a real WebSocket server that says what a test has it say."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from nearby.codecs import CODECS, JSON, MESSAGE_PACK
from nearby.messages import FriendEntry, ServerMessage, Welcome
from nearby_client import NearbyClient
from nearby_client.events import Event

TIMEOUT_S = 5


def welcome(**changes: Any) -> Welcome:
    fields: dict[str, Any] = {
        "connection_id": "c-1",
        "user_id": "me",
        "gateway_id": "gw-1",
        "server_time_ms": 1_000,
        "report_interval_s": 30,
        "inactive_after_s": 600,
        "radius_m": 8047,
        "expires_at_ms": 9_000,
    }
    return Welcome(**(fields | changes))


def friend(user_id: str, updated_at_ms: int, distance_m: int = 100) -> FriendEntry:
    return FriendEntry(user_id, 41.88, -87.63, distance_m, updated_at_ms, "exact")


class Peer:
    """The gateway's side of one connection."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        assert socket.request is not None
        assert socket.subprotocol is not None
        self.codec = CODECS[socket.subprotocol]
        self.path = socket.request.path
        self.token = socket.request.headers["Authorization"].removeprefix("Bearer ")

    async def send(self, *messages: ServerMessage | dict[str, Any]) -> None:
        for message in messages:
            await self.socket.send(self.codec.encode(message), text=not self.codec.binary)

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(TIMEOUT_S):
            frame = await self.socket.recv()
        if self.codec.binary:
            assert isinstance(frame, bytes)
            return msgspec.msgpack.decode(frame, type=dict[str, Any])
        assert isinstance(frame, str)
        return msgspec.json.decode(frame, type=dict[str, Any])

    async def close(self, code: int, reason: str = "") -> None:
        await self.socket.close(code, reason)

    async def closed_with(self) -> int | None:
        async with asyncio.timeout(TIMEOUT_S):
            await self.socket.wait_closed()
        return self.socket.close_code


class ScriptedGateway:
    """Connections in the order in which they came; refuses upgrades with ``refusals`` first."""

    def __init__(self) -> None:
        self.url = ""
        self.refusals: list[int] = []
        self.upgrades: list[Request] = []
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()

    async def next_peer(self) -> Peer:
        async with asyncio.timeout(TIMEOUT_S):
            return await self._peers.get()

    async def on_connection(self, socket: ServerConnection) -> None:
        self._peers.put_nowait(Peer(socket))
        await socket.wait_closed()

    def on_upgrade(self, connection: ServerConnection, request: Request) -> Response | None:
        self.upgrades.append(request)
        if not self.refusals:
            return None
        response = connection.respond(HTTPStatus(self.refusals.pop(0)), "refused\n")
        response.headers["Retry-After"] = "7"
        return response


@asynccontextmanager
async def scripted_gateway(
    subprotocols: Sequence[str] = (MESSAGE_PACK.name, JSON.name),
) -> AsyncIterator[ScriptedGateway]:
    gateway = ScriptedGateway()
    server: Server
    async with serve(
        gateway.on_connection,
        "127.0.0.1",
        0,
        subprotocols=[Subprotocol(name) for name in subprotocols] or None,
        process_request=gateway.on_upgrade,
        close_timeout=1,
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        gateway.url = f"ws://127.0.0.1:{port}/v1/ws"
        yield gateway


class Pauses:
    """Stands in for sleeping between connections: notes how long, and returns at once."""

    def __init__(self) -> None:
        self.taken_s: list[float] = []

    async def __call__(self, delay_s: float) -> None:
        self.taken_s.append(delay_s)
        await asyncio.sleep(0)


class LongestJitter(random.Random):
    """Always draws the upper bound, so that a test sees it."""

    def uniform(self, a: float, b: float) -> float:
        return b


async def until(client: NearbyClient, kind: type[Event]) -> Any:
    """Return the next event of one kind, leaving out others."""
    async with asyncio.timeout(TIMEOUT_S):
        async for event in client.events():
            if isinstance(event, kind):
                return event
    raise AssertionError(f"the events ended without a {kind}")
