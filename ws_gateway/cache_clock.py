"""The cache's clock as a gateway knows it, so that all gateways date locations alike.

A phone that tells no time has its locations dated on arrival. If gateways did so by their own clocks, a user who leaves
one that is five minutes ahead would stand still on every map for five minutes: whatever comes from another is older.

What is known is an interval: the cache's clock was read between sending the question and having the answer. The offset
in use is left alone while it lies inside, so clocks that agree are never corrected. Invariant: what is told never goes
back. A correction forward is made at once; one backward lets the clock run at half its speed until it is made.
"""

from __future__ import annotations

import asyncio
import contextlib

from nearby.errors import StoreUnavailable
from nearby.ports import Clock, LocationCache

LOOK_S = 10.0
LOOK_TIMEOUT_S = 1.0
"""An answer that takes longer says little."""
SLEW = 0.5


class CacheClock:
    """Unix milliseconds by the cache's clock, as far as it is known; by ``clock``, this process's, until then."""

    def __init__(self, clock: Clock) -> None:
        self.local_ms = clock
        self._offset_ms = 0.0
        self._wanted_ms = 0.0
        self._told_at_ms: int | None = None

    def __call__(self) -> int:
        """Return the time of now."""
        now_ms = self.local_ms()
        if self._told_at_ms is None or self._wanted_ms >= self._offset_ms:
            self._offset_ms = self._wanted_ms
        else:
            slewed_ms = SLEW * max(0, now_ms - self._told_at_ms)
            self._offset_ms = max(self._wanted_ms, self._offset_ms - slewed_ms)
        self._told_at_ms = now_ms
        return now_ms + round(self._offset_ms)

    @property
    def offset_s(self) -> float:
        """By how many seconds the cache's clock is ahead of ours; negative if ours is ahead."""
        return self._wanted_ms / 1000

    def learn(self, asked_ms: int, cache_ms: int, answered_ms: int) -> None:
        """Take notice that the cache's clock was at ``cache_ms`` between two instants of our own clock."""
        least_ms, most_ms = cache_ms - answered_ms - 1, cache_ms - asked_ms + 1
        self._wanted_ms = min(max(self._wanted_ms, least_ms), most_ms)


async def look(clock: CacheClock, cache: LocationCache) -> None:
    """Ask the cache for its time once; one that does not answer leaves ``clock`` as it is."""
    with contextlib.suppress(StoreUnavailable, TimeoutError):
        async with asyncio.timeout(LOOK_TIMEOUT_S):
            asked_ms = clock.local_ms()
            cache_ms = await cache.now_ms()
            clock.learn(asked_ms, cache_ms, clock.local_ms())


async def follow(clock: CacheClock, cache: LocationCache) -> None:
    """Ask again every :data:`LOOK_S`, until cancelled."""
    while True:
        await asyncio.sleep(LOOK_S)
        await look(clock, cache)
