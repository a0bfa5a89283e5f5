"""The history writer: a lane for each stream, and beside them what is done once in a while."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from location_history.consumer import Backlog, RedisHistoryConsumer
from location_history.gathering import Gathering
from location_history.lane import BATCH_COUNT, Lane
from location_history.metrics import WriterMetrics
from location_history.outages import Outages
from nearby.errors import StoreUnavailable
from nearby.ports import Clock, HistoryStore

MEASURE_INTERVAL_S = 5.0
EXPIRE_INTERVAL_S = 3_600.0
READ_AHEAD = 2
"""Batches that a lane holds where nothing lingers: one that is being stored, and the next."""
MAX_AGE_S = 7 * 86_400.0
"""A fence stands for a day longer."""


class HistoryWriter:
    """Moves points from ``consumers``, one for each stream, to ``store``; owns none of them.

    Points linger for ``linger_s`` seconds (0: not at all), ``held_count`` of them at most, for others of their user and
    day. Entries that have waited for ``max_age_s`` seconds leave the streams, and are lost.
    """

    def __init__(
        self,
        consumers: Sequence[RedisHistoryConsumer],
        store: HistoryStore,
        metrics: WriterMetrics,
        clock: Clock,
        *,
        linger_s: float = 0.0,
        held_count: int = 100_000,
        max_age_s: float = MAX_AGE_S,
    ) -> None:
        self._consumers = consumers
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._max_age_s = max_age_s
        self._outages = Outages(metrics)
        limit_count = held_count // len(consumers) if linger_s else READ_AHEAD * BATCH_COUNT
        self._lanes = [
            Lane(consumer, store, Gathering(linger_s, limit_count), metrics, self._outages) for consumer in consumers
        ]

    def trouble(self) -> str | None:
        """Return what keeps points from being stored at the moment, ``None`` if nothing does."""
        return self._outages.reason()

    async def run(self, stop: asyncio.Event) -> None:
        """Write until ``stop`` is set; then finish what is in hand, as long as the store takes it, and return.

        Cancelling is safe too: what was not acknowledged is read again by whoever comes next.
        """
        async with asyncio.TaskGroup() as tasks:
            beside = [
                tasks.create_task(self._measure_forever(), name="measure the streams"),
                tasks.create_task(self._expire_forever(), name="delete expired points"),
            ]
            try:
                async with asyncio.TaskGroup() as lanes:
                    for lane in self._lanes:
                        lanes.create_task(lane.run(stop), name="store a stream")
            finally:
                for task in beside:
                    task.cancel()

    async def expire(self) -> int:
        """Free the points that have ended, where the store does not by itself, and return how many.

        Raises:
            StoreUnavailable: some may have been deleted.
        """
        deleted_count = await self._store.delete_expired(self._clock())
        self._metrics.expired.inc(deleted_count)
        return deleted_count

    async def _measure_forever(self) -> None:
        while True:
            try:
                await self._measure()
            except StoreUnavailable as error:
                self._outages.failed(error)
            await asyncio.sleep(MEASURE_INTERVAL_S)

    async def _measure(self) -> None:
        backlogs: list[Backlog] = []
        for consumer in self._consumers:
            await consumer.trim(self._max_age_s)
            backlogs.append(await consumer.backlog())
        self._metrics.show(backlogs)
        self._metrics.unreadable.set(sum(consumer.unreadable_count for consumer in self._consumers))
        self._metrics.held.set(sum(lane.held_count for lane in self._lanes))
        self._metrics.streams.set(sum(lane.is_ours for lane in self._lanes))

    async def _expire_forever(self) -> None:
        while True:
            try:
                await self.expire()
            except StoreUnavailable as error:
                self._outages.failed(error)
            await asyncio.sleep(EXPIRE_INTERVAL_S)
