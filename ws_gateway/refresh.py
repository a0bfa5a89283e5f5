"""Brings the hub in line with the location cache, which is the truth.

For arriving viewers; for channels that may have missed messages; and, round after round, for friends who are overdue or
whose shard does not answer, so that a dead shard means locations half a minute old and not silence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from nearby.errors import StoreUnavailable
from nearby.ports import CachedLocation, Clock, LocationCache
from ws_gateway.entry import Entry
from ws_gateway.freshness import Freshness, stale_after_ms
from ws_gateway.hub import Hub
from ws_gateway.shared_reads import SharedReads
from ws_gateway.viewer import Viewer

log = logging.getLogger(__name__)

MAX_BATCH = 512
RETRY_S = 0.5
PATROL_TURN_S = 0.5
LOG_S = 1.0


class Refresher:
    """Reads the cache into ``hub``; ``refreshed`` is called when entries may have changed."""

    def __init__(self, hub: Hub, cache: LocationCache, clock: Clock, refreshed: Callable[[], None]) -> None:
        self.failures_count = 0
        self.reread_count = 0
        self.freshness = Freshness()
        self._hub = hub
        self._cache = cache
        self._arrivals = SharedReads(cache)
        self._clock = clock
        self._refreshed = refreshed
        self._log_again_at_s = 0.0
        self._stale: dict[bytes, None] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def _failed(self, what: str, error: StoreUnavailable) -> None:
        """Count each failure and log one per second: hundreds may arrive in each while the cache is away."""
        self.failures_count += 1
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._log_again_at_s:
            self._log_again_at_s = now_s + LOG_S
            log.warning("%s: %s; %d failures so far", what, error, self.failures_count)

    async def settled(self) -> None:
        """Return once nothing waits to be read again."""
        await self._idle.wait()

    async def arrive(self, viewer: Viewer) -> CachedLocation | None:
        """Make every friend of ``viewer`` known, and return the viewer's own last location.

        Friends whom somebody here already watches are known and cost nothing. A cache that does not answer
        leaves them unknown, which is not the same as gone; they are read again until it does.
        """
        unknown = [entry for entry in viewer.friends.values() if not entry.fresh]
        try:
            found = await self._arrivals.read([viewer.user_id, *(entry.user_id for entry in unknown)])
        except StoreUnavailable as error:
            self._failed("an arrival", error)
            self.later(entry.channel for entry in unknown)
            return None
        self._take(unknown, [found[entry.user_id] for entry in unknown])
        return found[viewer.user_id]

    def later(self, channels: Iterable[bytes]) -> None:
        """Read these channels' users again as soon as the cache answers."""
        for channel in channels:
            entry = self._hub.entries.get(channel)
            if entry is not None:
                entry.fresh = False
                self._stale[channel] = None
        if self._stale:
            self._wake.set()
            self._idle.clear()

    async def patrol(self, reachable: Callable[[bytes], bool], interval_s: float) -> None:
        """Look at every entry twice per report interval of ``interval_s`` seconds, until cancelled.

        One is read again whose friend is overdue by half an interval, or whose channel is not ``reachable``. The round
        is spread over its time, so that the cache sees a steady trickle.
        """
        round_s = interval_s / 2
        while True:
            entries = list(self._hub.entries.values())
            turns = max(1, round(round_s / PATROL_TURN_S))
            size = -(-len(entries) // turns)
            for turn in range(turns):
                now_ms = self._clock()
                overdue_ms = now_ms - round(1.5 * interval_s * 1000)
                part = entries[turn * size : (turn + 1) * size]
                self.freshness.sample(part, now_ms, stale_after_ms(interval_s))
                self.later(
                    entry.channel
                    for entry in part
                    if (entry.record is not None and entry.heard_ms < overdue_ms) or not reachable(entry.channel)
                )
                await asyncio.sleep(round_s / turns)

    async def run(self) -> None:
        """Work off what :meth:`later` was told, until cancelled."""
        while True:
            await self._wake.wait()
            channels = list(self._stale)[:MAX_BATCH]
            for channel in channels:
                del self._stale[channel]
            if not self._stale:
                self._wake.clear()
            entries = [entry for channel in channels if (entry := self._hub.entries.get(channel))]
            try:
                found = await self._cache.read_many([entry.user_id for entry in entries])
            except StoreUnavailable as error:
                self._failed(f"re-reading {len(entries)} locations", error)
                self.later(channels)
                await asyncio.sleep(RETRY_S)
                continue
            self.reread_count += len(entries)
            self._take(entries, found)
            if not self._stale:
                self._idle.set()
            self._refreshed()

    def _take(self, entries: Sequence[Entry], found: Sequence[CachedLocation | None]) -> None:
        now_ms = self._clock()
        for entry, cached in zip(entries, found, strict=True):
            entry.fresh = True
            if cached is None:
                self._hub.unknown(entry)
            else:
                self._hub.observe(entry.channel, cached.record, now_ms, cached.remaining_ms)
