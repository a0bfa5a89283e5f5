"""The bytes of Cassandra's statements are those that the driver would make."""

from __future__ import annotations

import uuid
from datetime import date

import pytest
from cassandra.cqltypes import (
    BooleanType,
    DateType,
    DoubleType,
    Int32Type,
    LongType,
    SimpleDateType,
    UserType,
    UUIDType,
)

from location_history.cassandra_rows import DAY_MS, StoredFix, days, inserts, point_of
from nearby.model import HistoryPoint, Location, UserId

ALICE = UserId("00000000-0000-4000-8000-00000000000a")
NOW_MS = 20_000 * DAY_MS + 12 * 3_600_000
RETENTION_MS = 90 * DAY_MS
FIX = UserType.make_udt_class(
    "test",
    "fix",
    ("lat_deg", "lon_deg", "accuracy_m", "speed_mps", "heading_deg", "flagged"),
    (DoubleType, DoubleType, DoubleType, DoubleType, DoubleType, BooleanType),
)


@pytest.mark.parametrize("optional", [(8.5, 1.25, 359.99), (None, 1.25, None), (0.0, None, 90.0), (None, None, None)])
@pytest.mark.parametrize("flagged", [True, False])
def test_a_row_has_the_bytes_that_the_driver_would_make(
    optional: tuple[float | None, float | None, float | None], flagged: bool
) -> None:
    point = HistoryPoint(ALICE, Location(37.5665, -126.978, NOW_MS - 5, *optional), flagged, None, NOW_MS + 7)
    [insert] = inserts([point], RETENTION_MS, NOW_MS)
    assert insert.count == 1
    expected = [
        UUIDType.serialize(uuid.UUID(ALICE), 5),
        SimpleDateType.serialize(date(2024, 10, 4), 5),
        DateType.serialize(NOW_MS - 5, 5),
        FIX.serialize((37.5665, -126.978, *optional, flagged), 5),
        LongType.serialize((NOW_MS + 7) * 1000, 5),
        Int32Type.serialize(90 * 86_400, 5),
    ]
    assert insert.values == expected


def test_points_of_one_user_and_day_share_statements() -> None:
    points = [HistoryPoint(ALICE, Location(1.0, 2.0, NOW_MS + instant)) for instant in range(73)]
    points.insert(10, HistoryPoint(UserId(ALICE.replace("a", "b")), Location(1.0, 2.0, NOW_MS)))
    points.append(HistoryPoint(ALICE, Location(1.0, 2.0, NOW_MS - DAY_MS)))
    found = list(inserts(points, RETENTION_MS, NOW_MS))
    assert [insert.count for insert in found] == [50, 20, 3, 1, 1]
    assert [len(insert.values) for insert in found] == [300, 120, 18, 6, 6]
    assert {insert.values[0] for insert in found[:3]} == {uuid.UUID(ALICE).bytes}


@pytest.mark.parametrize(
    ("age_ms", "retention_s", "ttl_s"),
    [
        (0, None, 90 * 86_400),
        (0, 86_400, 86_400),
        (0, 91 * 86_400, 90 * 86_400),
        (1, 2, 2),
        (1_000, 2, 1),
        (1_999, 2, 1),
        (2_000, 2, None),
        (90 * DAY_MS, None, None),
        (-5_000, 2, 7),
    ],
)
def test_a_point_lives_for_what_remains_of_its_retention(
    age_ms: int, retention_s: int | None, ttl_s: int | None
) -> None:
    point = HistoryPoint(ALICE, Location(1.0, 2.0, NOW_MS - age_ms), retention_s=retention_s)
    found = list(inserts([point], RETENTION_MS, NOW_MS))
    expected = [] if ttl_s is None else [Int32Type.serialize(ttl_s, 5)]
    assert [insert.values[5] for insert in found] == expected


def test_the_days_of_a_range_come_newest_first() -> None:
    assert days(0, 1) == [0]
    assert days(DAY_MS - 1, DAY_MS + 1) == [1, 0]
    assert days(DAY_MS, 2 * DAY_MS) == [1]
    assert days(-1, 1) == [0, -1]
    assert days(5, 5) == []


def test_a_row_becomes_the_point_that_it_was() -> None:
    row = StoredFix(7, 1.0, 2.0, None, 3.0, None, True)
    assert point_of(ALICE, row) == HistoryPoint(ALICE, Location(1.0, 2.0, 7, None, 3.0, None), True)
