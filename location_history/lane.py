"""One stream's way into the store: read ahead, gather, store, acknowledge.

A point is acknowledged to the stream only once it is stored. While the store is away nothing is acknowledged and the
stream holds on; while the stream is away there is nothing to do. So each point is stored at least once, and the store
keeps it once.

Of several writers each takes new entries from streams of its own, so that points of one user meet in one writer. This
is only a division of labour: the consumer group gives an entry to one of them whatever they believe.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence

from location_history.consumer import RedisHistoryConsumer
from location_history.entries import StreamEntry
from location_history.fences import is_fenced
from location_history.gathering import Gathering
from location_history.metrics import WriterMetrics
from location_history.outages import Outages
from nearby.errors import StoreUnavailable
from nearby.ports import HistoryStore

BATCH_COUNT = 2_000
"""Points per write: one transaction of SQLite, whose fsync is shared by this many, or hundreds of statements of
Cassandra, at whose end nothing is under way for a moment."""
FIRST_DELAY_S = 0.2
MAX_DELAY_S = 5.0
"""The bounds of the back-off; it doubles in between."""


class Lane:
    """Moves points from ``consumer`` to ``store``; owns neither."""

    def __init__(
        self,
        consumer: RedisHistoryConsumer,
        store: HistoryStore,
        gathering: Gathering,
        metrics: WriterMetrics,
        outages: Outages,
    ) -> None:
        self.is_ours = True
        self._consumer = consumer
        self._store = store
        self._gathering = gathering
        self._metrics = metrics
        self._outages = outages
        self._stop = asyncio.Event()
        self._arrived = asyncio.Event()
        """Set when entries were added, or have ended coming."""
        self._may_read = asyncio.Event()
        """Set when entries were taken, or the stream may have become ours."""

    @property
    def held_count(self) -> int:
        """How many entries are in this writer's hands."""
        return self._gathering.held_count

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set; then finish what is in hand, as long as the store takes it, and return.

        Cancelling is safe too: what was not acknowledged is read again by whoever comes next.
        """
        self._stop = stop
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._read_until_stopped(), name="read a stream")
            looking = tasks.create_task(self._look_around_forever(), name="look who else is there")
            reading.add_done_callback(lambda _: self._arrived.set())
            await self._store_what_is_due(reading)
            looking.cancel()
        with contextlib.suppress(StoreUnavailable):
            await self._consumer.leave()

    async def _read_until_stopped(self) -> None:
        delay_s = FIRST_DELAY_S
        while not self._stop.is_set():
            if self._gathering.is_full or not self.is_ours:
                await _next(self._may_read, self._consumer.claim_after_s / 10)
                continue
            try:
                entries = await self._consumer.read(BATCH_COUNT)
            except StoreUnavailable as error:
                delay_s = await self._back_off(error, delay_s)
                continue
            delay_s = FIRST_DELAY_S
            self._outages.answered("history_stream")
            self._gathering.add(entries, _now_s())
            self._arrived.set()

    async def _store_what_is_due(self, reading: asyncio.Task[None]) -> None:
        while True:
            ending = reading.done()
            entries = self._gathering.take(BATCH_COUNT, _now_s(), everything=ending)
            if entries:
                self._may_read.set()
                stored = await self._store_all(entries)
                if ending and not stored:
                    return
            elif ending:
                return
            else:
                await _next(self._arrived, self._gathering.due_in_s(_now_s()))

    async def _store_all(self, entries: Sequence[StreamEntry]) -> bool:
        """Store ``entries`` however long it takes, then acknowledge them; whether that was done.

        On stopping it is tried once. What is given up is ours in the stream still, stored or not, and is read again.
        """
        delay_s = FIRST_DELAY_S
        while True:
            try:
                entries = await self._unfenced(entries)
                await self._store.write_many([entry.point for entry in entries])
                self._outages.answered("history")
                await self._consumer.acknowledge(entries)
                self._metrics.written.inc(len(entries))
                return True
            except StoreUnavailable as error:
                if error.store == "history_stream" or self._stop.is_set():
                    self._outages.failed(error)
                    self._consumer.give_back(entries)
                    return False
                delay_s = await self._back_off(error, delay_s)

    async def _unfenced(self, entries: Sequence[StreamEntry]) -> Sequence[StreamEntry]:
        """Return the ``entries`` that may be stored; those behind a fence leave the stream."""
        fences = await self._consumer.fences({entry.point.user_id for entry in entries})
        if not fences:
            return entries
        fenced = [entry for entry in entries if is_fenced(entry.point, fences)]
        await self._consumer.acknowledge(fenced)
        self._metrics.fenced.inc(len(fenced))
        return [entry for entry in entries if not is_fenced(entry.point, fences)]

    async def _look_around_forever(self) -> None:
        """Show that we live, also while entries linger or wait for the store, and see whose the stream is."""
        while True:
            try:
                await self._consumer.beat()
                live = await self._consumer.live()
            except StoreUnavailable as error:
                self._outages.failed(error)
            else:
                self._outages.answered("history_stream")
                self.is_ours = live[self._consumer.number % len(live)] == self._consumer.consumer_id
                self._may_read.set()
            await asyncio.sleep(self._consumer.claim_after_s / 5)

    async def _back_off(self, error: StoreUnavailable, delay_s: float) -> float:
        """Wait for up to ``delay_s`` seconds or until stopping; return the next delay."""
        self._outages.failed(error)
        # Half of it at random, so that writers do not come back as one.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s * random.uniform(0.5, 1)):  # noqa: S311
                await self._stop.wait()
        return min(2 * delay_s, MAX_DELAY_S)


async def _next(event: asyncio.Event, within_s: float | None) -> None:
    """Wait until ``event`` is set, or for ``within_s`` seconds; it is unset then, and its only waiter looks again."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await event.wait()
    event.clear()


def _now_s() -> float:
    return asyncio.get_running_loop().time()
