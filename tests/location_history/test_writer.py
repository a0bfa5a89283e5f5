"""The history writer with real servers, which fail in turn."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from location_history import sqlite, writer
from location_history.consumer import RedisHistoryConsumer, open_consumer
from location_history.metrics import WriterMetrics
from location_history.stores import open_store
from location_history.stream import RedisHistoryStream, open_stream
from location_history.writer import HistoryWriter
from nearby.model import HistoryPoint, Location, UserId
from nearby.ports import HistoryStore
from tests.conftest import ValkeyServers
from tests.support.eventually import eventually
from tests.support.valkey import ValkeyServer

ALICE = UserId("00000000-0000-4000-8000-000000000001")
NOW_MS = 1_795_237_200_000
DAY_MS = 86_400_000


@dataclass
class Rig:
    stream: RedisHistoryStream
    consumer: RedisHistoryConsumer
    store: HistoryStore
    writer: HistoryWriter
    registry: CollectorRegistry
    stop: asyncio.Event
    now_ms: int = NOW_MS

    async def stored(self) -> list[int]:
        page = await self.store.read(ALICE, 0, 2**53, 100_000)
        return [point.location.recorded_at_ms for point in reversed(page.points)]

    async def waiting_count(self) -> int:
        return (await self.consumer.backlog()).entries_count

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"nearby_history_{name}", labels) or 0.0


@asynccontextmanager
async def running(server: ValkeyServer, path: Path) -> AsyncIterator[Rig]:
    registry = CollectorRegistry()
    async with (
        open_stream(server.url, 100_000) as stream,
        open_consumer(server.url, "one") as consumer,
        open_store(f"sqlite:///{path}", 90, lambda: rig.now_ms) as store,
    ):
        subject = HistoryWriter([consumer], store, WriterMetrics(registry), lambda: rig.now_ms)
        rig = Rig(stream, consumer, store, subject, registry, asyncio.Event())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(subject.run(rig.stop))
            try:
                yield rig
            finally:
                rig.stop.set()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MEASURE_INTERVAL_S", 0.05)
    monkeypatch.setattr(sqlite, "_BUSY_TIMEOUT_S", 0.05)


def points(instants: Sequence[int]) -> list[HistoryPoint]:
    return [HistoryPoint(ALICE, Location(1.0, 2.0, NOW_MS + instant)) for instant in instants]


def at(instants: Sequence[int]) -> list[int]:
    return [NOW_MS + instant for instant in instants]


async def is_stored(rig: Rig, expected: list[int]) -> None:
    async def check() -> bool:
        assert await rig.stored() == expected
        return True

    await eventually(check, within_s=10)


async def is_drained(rig: Rig) -> None:
    async def check() -> bool:
        return await rig.waiting_count() == 0

    await eventually(check)


async def test_what_is_appended_is_stored_and_leaves_the_stream(valkey: ValkeyServer, path: Path) -> None:
    async with running(valkey, path) as rig:
        await rig.stream.append_many(points(range(1_300)))
        await is_stored(rig, at(range(1_300)))
        await is_drained(rig)
        await eventually(lambda: rig.metric("points_written_total") == 1_300)
        assert rig.writer.trouble() is None


async def test_nothing_is_acknowledged_while_the_store_is_away(valkey: ValkeyServer, path: Path) -> None:
    async with running(valkey, path) as rig:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await rig.stream.append_many(points(range(10)))
        await eventually(lambda: rig.metric("failures_total", store="history") >= 2)
        assert await rig.waiting_count() == 10
        assert "history is unavailable" in (rig.writer.trouble() or "")
        await eventually(lambda: rig.metric("stream_entries") == 10 and rig.metric("stream_oldest_seconds") > 0)
        other.close()
        await is_stored(rig, at(range(10)))
        await is_drained(rig)
        await eventually(lambda: rig.writer.trouble() is None)
        await eventually(lambda: rig.metric("points_written_total") == 10)


async def test_the_writer_waits_for_a_stream_that_is_away(valkey_servers: ValkeyServers, path: Path) -> None:
    server = valkey_servers()
    async with running(server, path) as rig:
        await eventually(lambda: rig.writer.trouble() is None)
        server.kill()
        await eventually(lambda: "history_stream" in (rig.writer.trouble() or ""))
        server.start()
        await eventually(lambda: rig.writer.trouble() is None)
        await rig.stream.append_many(points([1]))
        await is_stored(rig, at([1]))


async def test_points_stored_but_not_acknowledged_are_stored_once(valkey_servers: ValkeyServers, path: Path) -> None:
    server = valkey_servers()
    async with running(server, path) as rig:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await rig.stream.append_many(points(range(10)))
        await eventually(lambda: rig.metric("failures_total", store="history") >= 1)
        server.freeze()
        other.close()
        await is_stored(rig, at(range(10)))
        await eventually(lambda: rig.metric("failures_total", store="history_stream") >= 1)
        server.thaw()
        await is_drained(rig)
        assert await rig.stored() == at(range(10))


async def test_stopping_finishes_what_was_read(valkey: ValkeyServer, path: Path) -> None:
    async with running(valkey, path) as rig:
        await rig.stream.append_many(points(range(10)))
        await is_stored(rig, at(range(10)))
    async with open_consumer(valkey.url, "two") as consumer:
        assert (await consumer.backlog()).entries_count == 0


async def test_stopping_does_not_wait_for_a_store_that_is_away(valkey: ValkeyServer, path: Path) -> None:
    async with running(valkey, path) as rig:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await rig.stream.append_many(points(range(10)))
        await eventually(lambda: rig.metric("failures_total", store="history") >= 1)
        stopping_s = time.monotonic()
    assert time.monotonic() - stopping_s < 5
    other.close()
    async with running(valkey, path) as rig:
        await is_stored(rig, at(range(10)))


async def test_points_older_than_the_retention_are_deleted(valkey: ValkeyServer, path: Path) -> None:
    async with running(valkey, path) as rig:
        await rig.stream.append_many(points([-90 * DAY_MS, -90 * DAY_MS + 1, -90 * DAY_MS + 2, 0]))
        await is_stored(rig, at([-90 * DAY_MS + 1, -90 * DAY_MS + 2, 0]))
        rig.now_ms += 1
        assert await rig.stored() == at([-90 * DAY_MS + 2, 0])
        assert await rig.writer.expire() == 1
        rig.now_ms += 1
        assert await rig.writer.expire() == 1
        assert rig.metric("points_expired_total") == 2
        assert await rig.stored() == at([0])


async def test_points_behind_a_fence_are_dropped_and_counted_apart(valkey: ValkeyServer, path: Path) -> None:
    async with running(valkey, path) as rig:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await rig.stream.append_many(points(range(10)))
        await eventually(lambda: b"one" in valkey.command("XPENDING", "history:0", "writers"))
        fence = await rig.stream.fence(ALICE, NOW_MS + 3, NOW_MS + 8)
        # The batch is in the writer's hands: the fence is seen before its next attempt.
        await eventually(lambda: rig.metric("points_fenced_total") == 5, within_s=20)
        assert await rig.stream.passed(fence)
        other.close()
        await is_stored(rig, at([0, 1, 2, 8, 9]))
        await is_drained(rig)
        await eventually(lambda: rig.metric("points_written_total") == 5)
        assert (await rig.consumer.backlog()).lost_count == 0
        # Appended after the fence, so it stays.
        await rig.stream.append_many(points([5]))
        await is_stored(rig, at([0, 1, 2, 5, 8, 9]))


async def test_a_fence_that_lasts_drops_what_comes_after_it(valkey: ValkeyServer, path: Path) -> None:
    async with running(valkey, path) as rig:
        await rig.stream.fence(ALICE, 0, 2**53, 60)
        await rig.stream.append_many(points(range(5)))
        await eventually(lambda: rig.metric("points_fenced_total") == 5)
        await is_drained(rig)
        assert await rig.stored() == []


async def test_expired_points_are_deleted_without_being_asked(
    valkey: ValkeyServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "EXPIRE_INTERVAL_S", 0.05)
    async with running(valkey, path) as rig:
        await rig.stream.append_many(points([0]))
        await is_stored(rig, at([0]))
        rig.now_ms += 91 * DAY_MS
        await is_stored(rig, [])
