"""Synthetic friends at their gateways: each reports now and then, and notes when they see the others."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from nearby.messages import Snapshot, Update
from nearby_client import Connected, Disconnected, Event, NearbyClient
from prober.friends import Friend
from prober.ledger import Ledger, Pair
from prober.metrics import ProberMetrics

LOST_AFTER_S = 65.0
PLACE = (-48.8767, -123.3933)
"""Point Nemo: nobody else is there."""
STEP_DEG = 0.0005
_LOOK_S = 1.0


class Session:
    """Some friends, each of whom stays at one gateway. The first ``len(urls)`` are at ``urls``, and so on."""

    def __init__(self, friends: Sequence[Friend], urls: Sequence[str], metrics: ProberMetrics) -> None:
        self._metrics = metrics
        self._ledger = Ledger(LOST_AFTER_S)
        self._seats = [_Seat(friend, urls[place % len(urls)], self) for place, friend in enumerate(friends)]
        self._gateway_of = {seat.user_id: seat.gateway for seat in self._seats}
        metrics.begin(dict.fromkeys(seat.gateway for seat in self._seats))

    @asynccontextmanager
    async def running(self, interval_s: float) -> AsyncIterator[None]:
        """Keep everybody connected and reporting every ``interval_s`` seconds, each at their own moments."""
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            for seat in self._seats:
                await stack.enter_async_context(seat.client)
            running = [tasks.create_task(self._report(seat, interval_s)) for seat in self._seats]
            running.append(tasks.create_task(self._look()))
            try:
                yield
            finally:
                for task in running:
                    task.cancel()

    def has_ended(self) -> bool:
        """Whether somebody has been told not to come back, as with a refresh token that is no good any more."""
        return any(seat.client.ended is not None for seat in self._seats)

    async def _report(self, seat: _Seat, interval_s: float) -> None:
        await asyncio.sleep(random.uniform(0, interval_s))  # noqa: S311 - spreads load, guards nothing
        while True:
            if seat.client.connected:
                self._send(seat)
            await asyncio.sleep(interval_s)

    def _send(self, sender: _Seat) -> None:
        lat, lon = (value + random.uniform(-STEP_DEG, STEP_DEG) for value in PLACE)  # noqa: S311 - a walk
        recorded_at_ms = time.time_ns() // 1_000_000
        now_s = time.monotonic()
        for viewer in self._seats:
            # Who is not connected is owed nothing: they get a snapshot when they are.
            if viewer is not sender and viewer.client.connected:
                self._ledger.sent(Pair(sender.user_id, viewer.user_id), recorded_at_ms, now_s)
        sender.client.report(lat, lon, recorded_at_ms=recorded_at_ms)

    def sees(self, viewer: _Seat, friend_id: str, updated_at_ms: int) -> None:
        """Note that ``viewer`` is shown where ``friend_id`` was at ``updated_at_ms``."""
        for took_s in self._ledger.seen(Pair(friend_id, viewer.user_id), updated_at_ms, time.monotonic()):
            self._metrics.seen(self._gateway_of[friend_id], viewer.gateway, took_s)

    def connections_changed(self, gateway: str) -> None:
        """Show whether everybody at ``gateway`` is connected."""
        here = [seat.connected for seat in self._seats if seat.gateway == gateway]
        self._metrics.connected(gateway, connected=all(here))

    async def _look(self) -> None:
        while True:
            for pair in self._ledger.lost(time.monotonic()):
                self._metrics.lost(self._gateway_of[pair.sender], self._gateway_of[pair.viewer])
            await asyncio.sleep(_LOOK_S)


class _Seat:
    """One friend at the gateway ``url``."""

    def __init__(self, friend: Friend, url: str, session: Session) -> None:
        self.user_id = friend.user_id
        self.gateway = urlsplit(url).netloc
        self.connected = False
        self.client = NearbyClient(friend.account.api, friend.account.token, url=url, on_event=self._told)
        self._session = session

    def _told(self, event: Event) -> None:
        match event:
            case Snapshot() | Update():
                for entry in event.friends:
                    self._session.sees(self, entry.user_id, entry.updated_at_ms)
            case Connected() | Disconnected():
                self.connected = isinstance(event, Connected)
                self._session.connections_changed(self.gateway)
