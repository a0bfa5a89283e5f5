"""The history in a real Cassandra that dies, freezes and comes back, alone and one of three."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from location_history.stores import open_store
from nearby.errors import StoreUnavailable
from nearby.model import HistoryPoint, Location, UserId
from nearby.ports import HistoryStore
from nearby.settings import CassandraSettings, load
from tests.support.cassandra import SETTINGS, CassandraCluster, CassandraNode, migrate

pytestmark = pytest.mark.xdist_group("cassandra")

ALICE = UserId("00000000-0000-4000-8000-00000000000a")
NOW_MS = time.time_ns() // 1_000_000
END_MS = 2**53
LATE = 1_000
"""Of the point that is written while nobody answers: it may or may not arrive."""
BACK_WITHIN_S = 90.0
"""A node needs 6 s to start, on a machine with nothing else to do."""


@pytest.fixture
def node() -> Iterator[CassandraNode]:
    with closing(CassandraNode()) as own:
        own.start()
        yield own


@pytest.fixture
def cluster() -> Iterator[CassandraCluster]:
    with closing(CassandraCluster()) as own:
        own.start()
        yield own


def points(first: int, last: int) -> list[HistoryPoint]:
    return [
        HistoryPoint(ALICE, Location(1.0, 2.0, NOW_MS + number), accepted_at_ms=NOW_MS) for number in range(first, last)
    ]


async def instants(store: HistoryStore) -> list[int]:
    page = await store.read(ALICE, 0, END_MS, 100_000)
    return [point.location.recorded_at_ms - NOW_MS for point in reversed(page.points)]


async def is_unavailable(store: HistoryStore) -> None:
    began_s = time.monotonic()
    results = await asyncio.gather(
        store.write_many(points(LATE, LATE + 1)),
        store.read(ALICE, 0, END_MS, 10),
        store.delete(UserId(ALICE.replace("a", "b")), 0, END_MS, NOW_MS),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [StoreUnavailable] * 3, results
    # 5 s, where nothing else is to be done.
    assert time.monotonic() - began_s < 25


async def until_written(store: HistoryStore, written: list[HistoryPoint]) -> None:
    async with asyncio.timeout(BACK_WITHIN_S):
        while True:
            try:
                await store.write_many(written)
                return
            except StoreUnavailable:
                await asyncio.sleep(0.2)


async def test_F10_a_store_lives_through_the_death_and_the_stillness_of_its_only_node(node: CassandraNode) -> None:
    url = node.fresh_url()
    migrate(url, SETTINGS)
    async with open_store(url, 90) as store:
        await store.write_many(points(0, 10))

        node.kill()
        await is_unavailable(store)
        async with open_store(url, 90) as opened_meanwhile:
            await is_unavailable(opened_meanwhile)
            node.start(wait=False)
            await until_written(store, points(10, 20))
            await until_written(opened_meanwhile, points(10, 30))
        assert await instants(store) == list(range(30))

        node.freeze()
        await is_unavailable(store)
        node.thaw()
        await until_written(store, points(30, 40))
        # What timed out is carried out after all, once and for all.
        assert set(await instants(store)) - {LATE} == set(range(40))


async def test_F10_of_three_nodes_one_may_die_and_no_failed_write_counts_as_done(cluster: CassandraCluster) -> None:
    url = cluster.fresh_url()
    migrate(url, {"NEARBY_CASSANDRA_REPLICATION": "datacenter1=3"})
    quorum = load(CassandraSettings, {"NEARBY_CASSANDRA_CONSISTENCY": "QUORUM"})
    async with open_store(url, 90, cassandra=quorum) as store:
        failed: list[StoreUnavailable] = []
        acknowledged: set[int] = set()
        for first in range(0, 1_000, 50):
            if first == 400:
                cluster.nodes[1].kill()
            try:
                await store.write_many(points(first, first + 50))
                acknowledged.update(range(first, first + 50))
                assert acknowledged <= set(await instants(store))
            except StoreUnavailable as error:
                failed.append(error)
        # What was under way on the dead node is tried on another; a machine that does other things besides may be late.
        assert len(failed) <= 4, failed

        # Without a second one there is no quorum, and nothing is said to be stored.
        cluster.nodes[2].kill()
        with pytest.raises(StoreUnavailable):
            await store.write_many(points(1_100, 1_200))
        with pytest.raises(StoreUnavailable):
            await store.read(ALICE, 0, END_MS, 10)
