"""What every history store promises."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from location_history.stores import open_store
from nearby.model import HistoryPoint, Location, UserId
from nearby.ports import HistoryStore
from tests.support.eventually import eventually

ALICE, BOB = (UserId(f"00000000-0000-4000-8000-00000000000{digit}") for digit in "12")
END_MS = 2**53
DAY_MS = 86_400_000
BASE_MS = time.time_ns() // 1_000_000 - DAY_MS
"""Tests count instants from here: a store drops points that have ended long ago."""


@pytest.fixture(params=["sqlite", pytest.param("cassandra", marks=pytest.mark.xdist_group("cassandra"))])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "cassandra":
        return str(request.getfixturevalue("cassandra_url"))
    return f"sqlite:///{tmp_path / 'new folder' / 'history.sqlite'}"


@pytest.fixture
async def store(url: str) -> AsyncIterator[HistoryStore]:
    async with open_store(url, 90) as opened:
        yield opened


def point(user_id: UserId, recorded_at_ms: int, lat_deg: float = 1.0, *, flagged: bool = False) -> HistoryPoint:
    return HistoryPoint(user_id, Location(lat_deg, 2.0, BASE_MS + recorded_at_ms), flagged)


async def instants(store: HistoryStore, user_id: UserId = ALICE, from_ms: int = 0, to_ms: int = END_MS) -> list[int]:
    page = await store.read(user_id, BASE_MS + from_ms, BASE_MS + to_ms, 10_000)
    return [found.location.recorded_at_ms - BASE_MS for found in page.points]


async def test_a_point_is_read_back_as_it_was_written(store: HistoryStore) -> None:
    full = HistoryPoint(ALICE, Location(37.5665, -126.978, BASE_MS + 2, 8.5, 1.25, 359.99), flagged=True)
    bare = HistoryPoint(ALICE, Location(-90.0, 180.0, BASE_MS + 1), flagged=False)
    await store.write_many([bare, full])
    assert (await store.read(ALICE, 0, END_MS, 10)).points == (full, bare)


async def test_points_come_newest_first(store: HistoryStore) -> None:
    await store.write_many([point(ALICE, 2), point(ALICE, 3)])
    await store.write_many([point(ALICE, 1)])
    assert await instants(store) == [3, 2, 1]


async def test_a_point_written_again_changes_nothing(store: HistoryStore) -> None:
    for _ in range(3):
        await store.write_many([point(ALICE, 1, 10.0), point(ALICE, 1, 10.0)])
    assert (await store.read(ALICE, 0, END_MS, 10)).points == (point(ALICE, 1, 10.0),)


async def test_of_two_points_for_one_instant_one_remains_whole(store: HistoryStore) -> None:
    full = HistoryPoint(ALICE, Location(1.0, 2.0, BASE_MS, 8.5, 1.25, 90.0), flagged=True)
    bare = HistoryPoint(ALICE, Location(3.0, 4.0, BASE_MS))
    await store.write_many([full])
    await store.write_many([bare])
    assert (await store.read(ALICE, 0, END_MS, 10)).points in ((full,), (bare,))


async def test_a_user_reads_only_their_own_points(store: HistoryStore) -> None:
    await store.write_many([point(ALICE, 1), point(BOB, 1), point(BOB, 2)])
    assert await instants(store, ALICE) == [1]
    assert await instants(store, BOB) == [2, 1]


async def test_the_range_includes_its_start_and_excludes_its_end(store: HistoryStore) -> None:
    await store.write_many([point(ALICE, instant) for instant in range(10)])
    assert await instants(store, from_ms=3, to_ms=7) == [6, 5, 4, 3]
    assert await instants(store, from_ms=7, to_ms=7) == []


async def test_pages_join_without_gap_or_overlap(store: HistoryStore) -> None:
    await store.write_many([point(ALICE, instant) for instant in range(25)])
    seen: list[int] = []
    before_ms: int | None = END_MS
    sizes: list[int] = []
    while before_ms is not None:
        page = await store.read(ALICE, 0, before_ms, 10)
        seen += [found.location.recorded_at_ms - BASE_MS for found in page.points]
        sizes.append(len(page.points))
        before_ms = page.next_before_ms
    assert seen == list(range(24, -1, -1))
    assert sizes == [10, 10, 5]


async def test_a_page_that_ends_the_range_has_no_next(store: HistoryStore) -> None:
    await store.write_many([point(ALICE, instant) for instant in range(10)])
    assert (await store.read(ALICE, 0, END_MS, 10)).next_before_ms is None
    assert (await store.read(BOB, 0, END_MS, 10)).next_before_ms is None


async def test_how_long_it_is_kept_and_when_it_was_accepted_are_not_given_back(store: HistoryStore) -> None:
    await store.write_many([replace(point(ALICE, 1), retention_s=2 * 86_400, accepted_at_ms=BASE_MS + 5)])
    assert (await store.read(ALICE, 0, END_MS, 10)).points == (point(ALICE, 1),)


async def test_a_point_is_not_read_once_its_retention_is_over(store: HistoryStore) -> None:
    now_ms = time.time_ns() // 1_000_000 - BASE_MS
    short = [replace(point(ALICE, now_ms), retention_s=2), replace(point(BOB, now_ms), retention_s=90 * 86_400)]
    await store.write_many(short)

    async def gone() -> bool:
        return await instants(store) == []

    await eventually(gone, within_s=30)
    assert await instants(store, BOB) == [now_ms]


async def test_no_retention_is_longer_than_the_stores_own(url: str) -> None:
    async with open_store(url, 0.5) as store:
        await store.write_many([replace(point(ALICE, 0), retention_s=90 * 86_400), point(ALICE, 20)])
        assert await instants(store) == []


async def test_a_point_that_has_ended_already_is_dropped(store: HistoryStore) -> None:
    await store.write_many([point(ALICE, -90 * DAY_MS), replace(point(ALICE, 1), retention_s=3_600), point(ALICE, 2)])
    assert await instants(store, from_ms=-100 * DAY_MS) == [2]


async def test_nothing_that_has_not_ended_is_freed(store: HistoryStore) -> None:
    await store.write_many([point(user, instant) for user in (ALICE, BOB) for instant in range(10)])
    assert await store.delete_expired(BASE_MS + DAY_MS) == 0
    assert await instants(store) == list(range(9, -1, -1))


async def test_a_deletion_takes_one_users_points_of_its_range_only(store: HistoryStore) -> None:
    days = [point(user, day * DAY_MS) for user in (ALICE, BOB) for day in range(-5, 1)]
    await store.write_many(days)
    await store.delete(ALICE, BASE_MS - 3 * DAY_MS, BASE_MS - DAY_MS, BASE_MS)
    assert await instants(store, from_ms=-9 * DAY_MS) == [day * DAY_MS for day in (0, -1, -4, -5)]
    assert await instants(store, BOB, from_ms=-9 * DAY_MS) == [day * DAY_MS for day in range(0, -6, -1)]


async def test_everything_is_deleted_and_deleting_again_is_fine(store: HistoryStore) -> None:
    await store.write_many([point(ALICE, instant) for instant in range(2_500)])
    for _ in range(2):
        await store.delete(ALICE, 0, END_MS, BASE_MS)
        assert await instants(store, from_ms=-BASE_MS) == []
    await store.delete(BOB, 0, END_MS, BASE_MS)


async def test_what_was_deleted_does_not_come_back_with_a_late_write(store: HistoryStore) -> None:
    late = replace(point(ALICE, 5), accepted_at_ms=BASE_MS + 10)
    await store.write_many([late])
    await store.delete(ALICE, BASE_MS, BASE_MS + 10, BASE_MS + 11)
    await store.write_many([late, replace(point(ALICE, 6), accepted_at_ms=BASE_MS + 10)])
    assert await instants(store) == []


async def test_what_was_accepted_after_a_deletion_is_kept(store: HistoryStore) -> None:
    await store.write_many([replace(point(ALICE, instant), accepted_at_ms=BASE_MS + 20) for instant in (1, 2)])
    await store.delete(ALICE, BASE_MS, BASE_MS + 2, BASE_MS + 20)
    await store.delete(BOB, BASE_MS, BASE_MS + 2, BASE_MS + 30)
    await store.write_many([replace(point(ALICE, 0), accepted_at_ms=BASE_MS + 21), point(ALICE, 3)])
    assert await instants(store) == [3, 2, 1, 0]


async def test_no_points_are_no_work(store: HistoryStore) -> None:
    await store.write_many([])
    assert await instants(store) == []


async def test_points_outlive_the_store_object(url: str) -> None:
    async with open_store(url, 90) as store:
        await store.write_many([point(ALICE, 1)])
    async with open_store(url, 90) as store:
        assert await instants(store) == [1]


async def test_a_second_opening_reads_what_the_first_has_written(url: str, store: HistoryStore) -> None:
    async with open_store(url, 90) as reader:
        await store.write_many([point(ALICE, 1)])
        assert await instants(reader) == [1]
        await store.write_many([point(ALICE, 2)])
        assert await instants(reader) == [2, 1]


async def test_closing_twice_is_fine(url: str) -> None:
    async with open_store(url, 90) as store:
        await store.aclose()
        await store.aclose()
