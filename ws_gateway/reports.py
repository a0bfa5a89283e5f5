"""Location reports on their way to the cache, the history stream and the friends, many at a time.

While one batch is with the servers the next one gathers, so a batch is as large as the load makes it and a lone report
waits for nobody. Order: first the cache, with the stream beside it; then publish, with the version that the cache
gave. So "subscribe, then read the cache" never misses a location.

The cache away: locations are published all the same, versioned by our clock, and reported as not stored. A version
always exceeds every one that was heard of for that user, whoever gave it: the cache is told the newest with each write,
so that neither a clock of ours that is ahead nor a standby that lacks the last writes turns the order round.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from nearby.channels import approximate_channel, location_channel
from nearby.errors import StoreUnavailable
from nearby.model import HistoryPoint, Location
from nearby.ports import Clock, HistoryStream, LocationCache, PubSub, WriteResult
from nearby.record import LocationRecord, pack
from nearby.record import approximate as coarsened
from ws_gateway.viewer import Viewer

T = TypeVar("T")

MAX_BATCH = 256
MAX_WAITING = 50_000
STORE_TIMEOUT_S = 0.5
STORE_PAUSE_S = 1.0
"""After a failure a store is left alone this long, so that live traffic does not wait for it each time."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a report.

    ``shown``: it is the user's live location now, and friends have been told. ``stored``: every store took it.
    """

    shown: bool
    stored: bool


@dataclass(frozen=True, slots=True, eq=False)
class PendingReport:
    """One report; ``done`` is told its outcome on the event loop.

    ``flagged`` in the history for good, as implausible; ``live`` if it may become the user's live location.
    """

    viewer: Viewer
    location: Location
    flagged: bool
    live: bool
    done: Callable[[Outcome], None]


class ReportPipeline:
    """Takes reports by :meth:`submit` and works them off in :meth:`run`.

    Within a cell an approximate location is published once per ``heartbeat_ms``.
    """

    def __init__(
        self, cache: LocationCache, stream: HistoryStream, pubsub: PubSub, clock: Clock, heartbeat_ms: int
    ) -> None:
        self.refused_count = 0
        self._clock = clock
        self._heartbeat_ms = heartbeat_ms
        self._cache = cache
        self._stream = stream
        self._pubsub = pubsub
        self._waiting: list[PendingReport] = []
        self._wake = asyncio.Event()
        self.cache_guard = StoreGuard()
        self.stream_guard = StoreGuard()

    def submit(self, report: PendingReport) -> None:
        """Take ``report``; refused as unavailable where too many are waiting."""
        if len(self._waiting) >= MAX_WAITING:
            self.refused_count += 1
            report.done(Outcome(shown=False, stored=False))
            return
        self._waiting.append(report)
        self._wake.set()

    async def run(self) -> None:
        """Work off reports until cancelled."""
        while True:
            await self._wake.wait()
            batch = self._waiting[:MAX_BATCH]
            del self._waiting[:MAX_BATCH]
            if not self._waiting:
                self._wake.clear()
            await self._work_off(batch)

    async def _work_off(self, batch: Sequence[PendingReport]) -> None:
        live = [report for report in batch if report.live]
        results, stored = await asyncio.gather(self._write_cache(live), self._append(batch))
        cached = results is not None
        if results is None:
            results = [_versioned_here(report.viewer) for report in live]
        shown = set()
        for report, result in zip(live, results, strict=True):
            report.viewer.version = max(report.viewer.version, result.version)
            if result.accepted:
                shown.add(report)
                self._publish(report.viewer, LocationRecord.of(report.location, result.version))
        for report in batch:
            report.done(Outcome(shown=report in shown, stored=stored and (cached or not report.live)))

    def _publish(self, viewer: Viewer, record: LocationRecord) -> None:
        """Publish ``record`` for each tier at which somebody may see this user now."""
        now_ms = self._clock()
        exact, approximate = viewer.audience.tiers(now_ms)
        if exact:
            self._pubsub.publish(location_channel(viewer.user_id), pack(record))
        if approximate:
            coarse = coarsened(record)
            if viewer.audience.is_due(coarse, now_ms, self._heartbeat_ms):
                self._pubsub.publish(approximate_channel(viewer.user_id), pack(coarse))

    async def _write_cache(self, reports: Sequence[PendingReport]) -> list[WriteResult] | None:
        """Return the results, ``None`` if the cache did not take them."""
        if not reports:
            return []
        entries = [
            (report.viewer.user_id, LocationRecord.of(report.location, report.viewer.version)) for report in reports
        ]
        return await self.cache_guard.call(lambda: self._cache.write_many(entries))

    async def _append(self, reports: Sequence[PendingReport]) -> bool:
        points = history_points(((each.viewer, each.location, each.flagged) for each in reports), self._clock())
        if not points:
            return True

        async def append() -> bool:
            await self._stream.append_many(points)
            return True

        return bool(await self.stream_guard.call(append))


def history_points(fixes: Iterable[tuple[Viewer, Location, bool]], now_ms: int) -> list[HistoryPoint]:
    """Return the points of the ``fixes``, each with its viewer and whether it is flagged.

    Those of users who want nothing kept are left out. What a user shares with nobody at all is flagged: no friend has
    seen it.
    """
    points = []
    for viewer, location, flagged in fixes:
        _, retention_s = viewer.history_retention
        if retention_s != 0:
            points.append(
                HistoryPoint(viewer.user_id, location, flagged or not viewer.audience.shares(now_ms), retention_s)
            )
    return points


def _versioned_here(viewer: Viewer) -> WriteResult:
    viewer.version = max(time.time_ns() // 1000, viewer.version + 1)
    return WriteResult(viewer.version, accepted=True)


class StoreGuard:
    """Keeps a store that does not answer from holding up live traffic."""

    def __init__(self) -> None:
        self.failures_count = 0
        self._away_until_s = 0.0

    async def call(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        """Return what ``ask`` returns, or ``None`` if the store fails, is slow, or has just failed."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._away_until_s:
            return None
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                return await ask()
        except (StoreUnavailable, TimeoutError):
            self.failures_count += 1
            self._away_until_s = loop.time() + STORE_PAUSE_S
            return None
