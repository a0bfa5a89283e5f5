"""What every history store promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from location_history.stores import open_store
from nearby.model import HistoryPoint, Location, UserId
from nearby.ports import HistoryStore

ALICE, BOB = (UserId(f"00000000-0000-4000-8000-00000000000{digit}") for digit in "12")
END_MS = 2**53


@pytest.fixture(params=["sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {"sqlite": f"sqlite:///{tmp_path / 'new folder' / 'history.sqlite'}"}[request.param]


@pytest.fixture
async def store(url: str) -> AsyncIterator[HistoryStore]:
    async with open_store(url, 90) as opened:
        yield opened


def point(user_id: UserId, recorded_at_ms: int, lat_deg: float = 1.0, *, flagged: bool = False) -> HistoryPoint:
    return HistoryPoint(user_id, Location(lat_deg, 2.0, recorded_at_ms), flagged)


async def instants(store: HistoryStore, user_id: UserId = ALICE, from_ms: int = 0, to_ms: int = END_MS) -> list[int]:
    page = await store.read(user_id, from_ms, to_ms, 10_000)
    return [found.location.recorded_at_ms for found in page.points]


async def test_a_point_is_read_back_as_it_was_written(store: HistoryStore) -> None:
    full = HistoryPoint(ALICE, Location(37.5665, -126.978, 1_795_237_200_120, 8.5, 1.25, 359.99), flagged=True)
    bare = HistoryPoint(ALICE, Location(-90.0, 180.0, 1), flagged=False)
    await store.write_many([bare, full])
    assert (await store.read(ALICE, 0, END_MS, 10)).points == (full, bare)


async def test_points_come_newest_first(store: HistoryStore) -> None:
    await store.write_many([point(ALICE, 2), point(ALICE, 3)])
    await store.write_many([point(ALICE, 1)])
    assert await instants(store) == [3, 2, 1]


async def test_a_point_written_again_changes_nothing(store: HistoryStore) -> None:
    await store.write_many([point(ALICE, 1, 10.0)])
    await store.write_many([point(ALICE, 1, 20.0), point(ALICE, 1, 30.0)])
    assert (await store.read(ALICE, 0, END_MS, 10)).points == (point(ALICE, 1, 10.0),)


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
        seen += [found.location.recorded_at_ms for found in page.points]
        sizes.append(len(page.points))
        before_ms = page.next_before_ms
    assert seen == list(range(24, -1, -1))
    assert sizes == [10, 10, 5]


async def test_a_page_that_ends_the_range_has_no_next(store: HistoryStore) -> None:
    await store.write_many([point(ALICE, instant) for instant in range(10)])
    assert (await store.read(ALICE, 0, END_MS, 10)).next_before_ms is None
    assert (await store.read(BOB, 0, END_MS, 10)).next_before_ms is None


async def test_expired_points_are_deleted_and_counted(store: HistoryStore) -> None:
    await store.write_many([point(user, instant) for user in (ALICE, BOB) for instant in range(10)])
    assert await store.delete_expired(7) == 14
    assert await store.delete_expired(7) == 0
    assert await instants(store) == [9, 8, 7]


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
