"""Points as they stand in the stream, and on which stream."""

from __future__ import annotations

import uuid
from collections import Counter

import pytest

from location_history.entries import FIELD, decode, encode, stream_of
from nearby.errors import RecordError
from nearby.model import HistoryPoint, Location, UserId

ALICE = UserId("00000000-0000-4000-8000-00000000000a")
FULL = Location(37.5665, -126.978, 1_795_237_200_000, 8.5, 1.25, 359.99)


@pytest.mark.parametrize(
    "point",
    [
        HistoryPoint(ALICE, FULL, True, 86_400, 5),
        HistoryPoint(ALICE, Location(-90.0, 180.0, 1), False, 0, 5),
        HistoryPoint(UserId(str(uuid.uuid4())), FULL, False, None, 5),
    ],
)
def test_an_entry_is_read_as_it_was_written(point: HistoryPoint) -> None:
    entry = decode(b"5-17", [FIELD, encode(point)])
    assert entry is not None
    assert (entry.entry_id, entry.point) == (b"5-17", point)


@pytest.mark.parametrize(
    "fields",
    [
        [b"q", encode(HistoryPoint(ALICE, FULL))],
        [FIELD, encode(HistoryPoint(ALICE, FULL)), b"r", b"1"],
        [FIELD, b""],
        [FIELD, encode(HistoryPoint(ALICE, FULL))[:-1]],
        [FIELD, b"\x02" + encode(HistoryPoint(ALICE, FULL))[1:]],
        [],
    ],
)
def test_what_is_no_entry_of_ours_is_told_apart(fields: list[bytes]) -> None:
    assert decode(b"1-1", fields) is None


@pytest.mark.parametrize(
    "point",
    [
        HistoryPoint(UserId("alice"), FULL),
        HistoryPoint(ALICE, FULL, retention_s=2**32),
        HistoryPoint(ALICE, FULL, retention_s=-1),
        HistoryPoint(ALICE, Location(1e9, 0.0, 1)),
    ],
)
def test_a_point_that_does_not_fit_is_refused(point: HistoryPoint) -> None:
    with pytest.raises(RecordError):
        encode(point)


def test_users_are_spread_evenly_and_stay_on_their_stream() -> None:
    # Pinned: processes of two versions run side by side.
    assert [stream_of(ALICE, count) for count in (1, 4, 64)] == [0, 1, 53]
    users = [UserId(str(uuid.UUID(int=number * 0x9E3779B97F4A7C15))) for number in range(4_000)]
    counts = Counter(stream_of(user, 4) for user in users)
    assert set(counts) == {0, 1, 2, 3}
    assert max(counts.values()) < 1_200
