"""From the history stream into the history store: a point is acknowledged to the stream only once it is stored.

While the store is away nothing is acknowledged and the stream holds on; while the stream is away there is nothing
to do. A writer that dies leaves its unfinished entries to the others. So each point is stored at least once,
and the store keeps it once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Sequence

from location_history.fences import is_fenced
from location_history.metrics import WriterMetrics
from location_history.stream import RedisHistoryConsumer, StreamEntry
from nearby.errors import StoreUnavailable
from nearby.ports import Clock, HistoryStore

_log = logging.getLogger(__name__)

BATCH_COUNT = 512
"""Points per write: one transaction each, so an fsync is shared by this many."""
FIRST_DELAY_S = 0.2
MAX_DELAY_S = 5.0
"""The bounds of the back-off; it doubles in between."""
MEASURE_INTERVAL_S = 5.0
EXPIRE_INTERVAL_S = 3_600.0


class HistoryWriter:
    """Moves points from ``consumer`` to ``store``; owns neither."""

    def __init__(
        self,
        consumer: RedisHistoryConsumer,
        store: HistoryStore,
        metrics: WriterMetrics,
        clock: Clock,
    ) -> None:
        self._consumer = consumer
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._stop = asyncio.Event()
        self._away: dict[str, StoreUnavailable] = {}

    def not_ready(self) -> str | None:
        """Return what keeps points from being stored at the moment, ``None`` if nothing does."""
        return "; ".join(str(error) for error in self._away.values()) or None

    async def run(self, stop: asyncio.Event) -> None:
        """Write until ``stop`` is set; then finish the batch in hand, if the store takes it, and return.

        Cancelling is safe too: what was not acknowledged is read again by whoever comes next.
        """
        self._stop = stop
        async with asyncio.TaskGroup() as tasks:
            beside = [
                tasks.create_task(self._measure_forever(), name="measure the stream"),
                tasks.create_task(self._expire_forever(), name="delete expired points"),
            ]
            try:
                while not stop.is_set():
                    await self._write_batch(await self._read_batch())
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

    async def _read_batch(self) -> list[StreamEntry]:
        """Return the next entries; empty if there are none for now, or on stopping."""
        delay_s = FIRST_DELAY_S
        while not self._stop.is_set():
            try:
                entries = await self._consumer.read(BATCH_COUNT)
            except StoreUnavailable as error:
                delay_s = await self._back_off(error, delay_s)
            else:
                self._answered("history_stream")
                self._metrics.unreadable.set(self._consumer.unreadable_count)
                return entries
        return []

    async def _write_batch(self, entries: Sequence[StreamEntry]) -> None:
        """Store ``entries`` however long it takes, then acknowledge them; on stopping try once and give up."""
        delay_s = FIRST_DELAY_S
        while entries:
            try:
                entries = await self._unfenced(entries)
                await self._store.write_many([entry.point for entry in entries])
                self._answered("history")
                await self._consumer.acknowledge(entries)
                self._metrics.written.inc(len(entries))
                return
            except StoreUnavailable as error:
                if error.store == "history_stream" or self._stop.is_set():
                    # Stored or not, they are still ours in the stream and will be read again.
                    self._failed(error)
                    return
                delay_s = await self._back_off(error, delay_s)

    async def _unfenced(self, entries: Sequence[StreamEntry]) -> list[StreamEntry]:
        """Return the ``entries`` that may be stored; those behind a fence leave the stream."""
        fences = await self._consumer.fences({entry.point.user_id for entry in entries})
        if not fences:
            return list(entries)
        fenced = [entry for entry in entries if is_fenced(entry.point, fences)]
        await self._consumer.acknowledge(fenced)
        self._metrics.fenced.inc(len(fenced))
        return [entry for entry in entries if not is_fenced(entry.point, fences)]

    async def _back_off(self, error: StoreUnavailable, delay_s: float) -> float:
        """Wait for up to ``delay_s`` seconds or until stopping; return the next delay."""
        self._failed(error)
        # Half of it at random, so that writers do not come back as one.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s * random.uniform(0.5, 1)):  # noqa: S311
                await self._stop.wait()
        return min(2 * delay_s, MAX_DELAY_S)

    async def _measure_forever(self) -> None:
        while True:
            try:
                self._metrics.show(await self._consumer.backlog())
            except StoreUnavailable as error:
                self._failed(error)
            await asyncio.sleep(MEASURE_INTERVAL_S)

    async def _expire_forever(self) -> None:
        while True:
            try:
                await self.expire()
            except StoreUnavailable as error:
                self._failed(error)
            await asyncio.sleep(EXPIRE_INTERVAL_S)

    def _failed(self, error: StoreUnavailable) -> None:
        self._metrics.failures.labels(error.store).inc()
        if error.store not in self._away:
            _log.warning("%s", error)
        self._away[error.store] = error

    def _answered(self, store: str) -> None:
        if self._away.pop(store, None) is not None:
            _log.info("%s answers again", store)
