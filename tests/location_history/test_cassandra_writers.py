"""History writers in front of a real Cassandra: killed with points in hand, several at once, lingering."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from location_history import writer as writer_module
from location_history.cassandra_rows import DAY_MS
from location_history.consumer import open_consumers
from location_history.metrics import WriterMetrics
from location_history.stores import open_store, unix_time_ms
from location_history.stream import open_stream
from location_history.writer import HistoryWriter
from nearby.model import HistoryPoint, Location, UserId
from tests.location_history.test_process import TOKEN, process
from tests.support.cassandra import SETTINGS, CassandraNode
from tests.support.eventually import eventually
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.xdist_group("cassandra")

USERS = [UserId(str(uuid.UUID(int=number))) for number in range(1, 201)]
STREAMS = 4
BASE_MS = time.time_ns() // 1_000_000 // DAY_MS * DAY_MS - DAY_MS // 2
"""Yesterday's noon: no midnight is near, where one day's points end and another's begin."""
TAKEN_OVER_WITHIN_S = 90.0
"""A dead writer is noticed after 15 s."""

Rows = set[tuple[str, int]]


@dataclass
class Running:
    """A writer in this process."""

    registry: CollectorRegistry
    stop: asyncio.Event

    def metric(self, name: str) -> float:
        return self.registry.get_sample_value(f"nearby_history_{name}") or 0.0


@asynccontextmanager
async def running(
    valkey: ValkeyServer, url: str, writer_id: str, linger_s: float = 0.0, claim_after_s: float = 15.0
) -> AsyncIterator[Running]:
    rig = Running(CollectorRegistry(), asyncio.Event())
    async with AsyncExitStack() as parts:
        consumers = await parts.enter_async_context(open_consumers(valkey.url, STREAMS, writer_id, claim_after_s))
        store = await parts.enter_async_context(open_store(url, 90))
        subject = HistoryWriter(consumers, store, WriterMetrics(rig.registry), unix_time_ms, linger_s=linger_s)
        tasks = await parts.enter_async_context(asyncio.TaskGroup())
        tasks.create_task(subject.run(rig.stop))
        try:
            yield rig
        finally:
            rig.stop.set()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "MEASURE_INTERVAL_S", 0.1)


def points(first: int, last: int) -> list[HistoryPoint]:
    return [HistoryPoint(user, Location(1.0, 2.0, BASE_MS + number)) for number in range(first, last) for user in USERS]


def expected(written: list[HistoryPoint]) -> Rows:
    return {(point.user_id, point.location.recorded_at_ms) for point in written}


async def rows(node: CassandraNode, url: str) -> Rows:
    """Every row there is; the key says that none is there twice."""
    keyspace = url.rpartition("/")[2]
    statement = f"SELECT user_id, toUnixTimestamp(recorded_at) FROM {keyspace}.history"
    found = await asyncio.to_thread(node.query, statement)
    assert len(found) == len(set(found))
    return {(str(user_id), int(str(at_ms))) for user_id, at_ms in found}


async def is_drained(valkey: ValkeyServer, within_s: float = TAKEN_OVER_WITHIN_S) -> None:
    async def check() -> bool:
        async with open_consumers(valkey.url, STREAMS, "looking on") as consumers:
            return not sum([(await consumer.backlog()).entries_count for consumer in consumers])

    await eventually(check, within_s)


async def test_F11_another_writer_takes_over_what_a_killed_one_had_in_hand(
    valkey: ValkeyServer, cassandra_url: str, shared_cassandra: CassandraNode, tmp_path: Path
) -> None:
    def environ(writer_id: str, **more: str) -> Mapping[str, str]:
        return {
            **SETTINGS,
            "NEARBY_DISCOVERY": f"file://{tmp_path}/discovery",
            "NEARBY_HISTORY_STREAM_URL": valkey.url,
            "NEARBY_HISTORY_STREAMS": str(STREAMS),
            "NEARBY_HISTORY_URL": cassandra_url,
            "NEARBY_HISTORY_WRITER_ID": writer_id,
            "NEARBY_ADMIN_TOKEN": TOKEN,
            **more,
        }

    # Ten of each user are stored at once, the eleventh to fifteenth linger: it is killed in the middle of its work.
    written = points(0, 15)
    async with open_stream(valkey.url, 100_000, STREAMS) as stream:
        async with process(dict(environ("first", NEARBY_HISTORY_LINGER_S="3600"))) as first:
            await stream.append_many(written)

            async def ten_of_each_are_stored() -> bool:
                return len(await rows(shared_cassandra, cassandra_url)) == 10 * len(USERS)

            await eventually(ten_of_each_are_stored, within_s=60)
            first.kill()
            await first.wait()
        async with process(dict(environ("second"))):
            await is_drained(valkey)
    assert await rows(shared_cassandra, cassandra_url) == expected(written)


async def test_several_writers_share_the_streams_and_the_rest_takes_over_those_of_one_that_leaves(
    valkey: ValkeyServer, cassandra_url: str, shared_cassandra: CassandraNode
) -> None:
    written = points(0, 10)
    async with (
        open_stream(valkey.url, 100_000, STREAMS) as stream,
        running(valkey, cassandra_url, "one", claim_after_s=5) as one,
    ):
        async with running(valkey, cassandra_url, "two", claim_after_s=5) as two:
            await eventually(lambda: one.metric("streams") == two.metric("streams") == 2, within_s=30)
            await stream.append_many(written)
            await is_drained(valkey)
            assert one.metric("points_written_total") > 0
            assert two.metric("points_written_total") > 0
        await eventually(lambda: one.metric("streams") == 4, within_s=30)
        more = points(1_000_000, 1_000_002)
        await stream.append_many(more)
        await is_drained(valkey)
    assert await rows(shared_cassandra, cassandra_url) == expected(written + more)


async def test_points_linger_in_the_stream_until_there_are_ten_of_a_user_and_day(
    valkey: ValkeyServer, cassandra_url: str, shared_cassandra: CassandraNode
) -> None:
    async with (
        open_stream(valkey.url, 100_000, STREAMS) as stream,
        running(valkey, cassandra_url, "one", linger_s=3_600) as one,
    ):
        first = points(0, 9)
        await stream.append_many(first)
        await eventually(lambda: one.metric("points_held") == len(first), within_s=20)
        assert await rows(shared_cassandra, cassandra_url) == set()
        # Nothing is at risk: they are in the stream as well.
        assert one.metric("stream_entries") == len(first)
        tenth = points(1_000, 1_001)
        await stream.append_many(tenth)
        await is_drained(valkey)
        assert await rows(shared_cassandra, cassandra_url) == expected(first + tenth)


async def test_points_linger_no_longer_than_they_may_and_stopping_stores_them(
    valkey: ValkeyServer, cassandra_url: str, shared_cassandra: CassandraNode
) -> None:
    async with open_stream(valkey.url, 100_000, STREAMS) as stream:
        written = points(0, 1)
        async with running(valkey, cassandra_url, "one", linger_s=1.0):
            await stream.append_many(written)
            await is_drained(valkey)
        async with running(valkey, cassandra_url, "two", linger_s=3_600) as two:
            more = points(1_000, 1_001)
            await stream.append_many(more)
            await eventually(lambda: two.metric("points_held") == len(more), within_s=20)
        await is_drained(valkey, within_s=5)
    assert await rows(shared_cassandra, cassandra_url) == expected(written + more)
