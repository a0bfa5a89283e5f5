"""A lane that is full, because its store is away, waits."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from location_history import sqlite
from location_history.consumer import open_consumer
from location_history.gathering import Gathering
from location_history.lane import Lane
from location_history.metrics import WriterMetrics
from location_history.outages import Outages
from location_history.stores import open_store
from location_history.stream import open_stream
from nearby.model import HistoryPoint, Location, UserId
from tests.support.eventually import eventually
from tests.support.valkey import ValkeyServer

ALICE = UserId("00000000-0000-4000-8000-000000000001")
LIMIT_COUNT, AT_ONCE_COUNT = 10, 20
WATCHED_S = 1.0
CLAIM_AFTER_S = 1.0
"""A full lane looks again ten times in this, and shows that it lives five times."""
MOST_TURNS = 200


class WatchedGathering(Gathering):
    """Counts how often the lane asks whether there is room, and does not let it ask for ever."""

    turns_count = 0

    @property
    def is_full(self) -> bool:
        self.turns_count += 1
        # A lane that spins lets nobody else work, a test that watches it included.
        assert self.turns_count < 10 * MOST_TURNS, "the lane spins"
        return super().is_full


def points(first: int) -> list[HistoryPoint]:
    return [HistoryPoint(ALICE, Location(1.0, 2.0, instant)) for instant in range(first, first + AT_ONCE_COUNT)]


async def test_a_full_lane_waits_for_room_and_then_goes_on(
    valkey: ValkeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "history.sqlite"
    gathering = WatchedGathering(0.0, LIMIT_COUNT)
    metrics = WriterMetrics(CollectorRegistry())
    stop = asyncio.Event()
    async with (
        open_stream(valkey.url, 100_000) as stream,
        open_consumer(valkey.url, "one", CLAIM_AFTER_S) as consumer,
        open_store(f"sqlite:///{path}", 90, lambda: 0) as store,
    ):
        outages = Outages(metrics)
        lane = Lane(consumer, store, gathering, metrics, outages)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(lane.run(stop))
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                await stream.append_many(points(0))
                await eventually(lambda: "history is unavailable" in (outages.reason() or ""))
                await stream.append_many(points(100))
                await eventually(lambda: lane.held_count == AT_ONCE_COUNT)
                await stream.append_many(points(200))

                gathering.turns_count = 0
                await asyncio.sleep(WATCHED_S)
                assert 0 < gathering.turns_count < MOST_TURNS
                # What it has no room for stays in the stream.
                assert lane.held_count == AT_ONCE_COUNT

            async def all_are_stored() -> bool:
                assert (await consumer.backlog()).entries_count == 0
                return len((await store.read(ALICE, 0, 2**53, 1_000)).points) == 3 * AT_ONCE_COUNT

            await eventually(all_are_stored, within_s=20)
            stop.set()
