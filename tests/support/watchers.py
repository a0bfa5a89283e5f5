"""Owners who keep reporting and viewers who note every location they get, to be judged after a revocation."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from picows import WSFrame, WSMsgType, WSTransport

from nearby.codecs import JSON
from nearby.messages import FriendEntry, Snapshot, Update
from nearby.model import UserId
from tests.support.light_clients import AT_ONCE, LightClient

HERE = (41.88, -87.63)


@dataclass(frozen=True, slots=True)
class Sight:
    """One entry of a friend that a viewer got, at ``at_ms`` of the Unix clock."""

    at_ms: int
    entry: FriendEntry


class Watcher(LightClient):
    """A client that keeps every friend entry it ever got, by friend."""

    def __init__(self, token: str) -> None:
        super().__init__(token)
        self.sights: dict[str, list[Sight]] = {}

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        super().on_ws_frame(transport, frame)
        if frame.msg_type != WSMsgType.TEXT:
            return
        match JSON.decode_server(frame.get_payload_as_bytes()):
            case Update(friends=friends) | Snapshot(friends=friends):
                at_ms = now_ms()
                for entry in friends:
                    self.sights.setdefault(entry.user_id, []).append(Sight(at_ms, entry))
            case _:
                pass


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def place(number: int) -> tuple[float, float]:
    """Return a point within 100 m of :data:`HERE`, another one for each number and its neighbours."""
    angle = number * 2.399963  # the golden angle
    return HERE[0] + 0.0008 * math.sin(angle), HERE[1] + 0.0008 * math.cos(angle)


@asynccontextmanager
async def watchers(tokens: Mapping[UserId, str], urls: Sequence[str]) -> AsyncIterator[dict[UserId, Watcher]]:
    """Connect a watcher for each token, in turns to ``urls``, and have each report where it is once."""
    clients = {user: Watcher(token) for user, token in tokens.items()}
    turn = asyncio.Semaphore(AT_ONCE)

    async def come(number: int, client: Watcher) -> None:
        async with turn:
            await client.connect(urls[number % len(urls)])
        client.report(*place(number), now_ms())

    await asyncio.gather(*(come(number, client) for number, client in enumerate(clients.values())))
    try:
        yield clients
    finally:
        for client in clients.values():
            client.close()


async def keep_reporting(owners: Sequence[Watcher], every_s: float) -> None:
    """Let each of ``owners`` report another place each ``every_s`` seconds, evenly spread, until cancelled."""
    number = 0
    while True:
        for owner in owners:
            if owner.is_open:
                owner.report(*place(number), now_ms())
            number += 1
            await asyncio.sleep(every_s / len(owners))
