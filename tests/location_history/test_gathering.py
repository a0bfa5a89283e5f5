"""What lingers, for how long, and what is due."""

from __future__ import annotations

from location_history.entries import StreamEntry
from location_history.gathering import DAY_MS, GROUP_COUNT, Gathering
from nearby.model import HistoryPoint, Location, UserId

ALICE, BOB = UserId("alice"), UserId("bob")


def entry(user_id: UserId, instant: int) -> StreamEntry:
    return StreamEntry(f"{instant}-0".encode(), HistoryPoint(user_id, Location(1.0, 2.0, instant)))


def entries(user_id: UserId, count: int, first: int = 0) -> list[StreamEntry]:
    return [entry(user_id, instant) for instant in range(first, first + count)]


def test_without_linger_everything_is_due_at_once_in_its_order() -> None:
    gathering = Gathering(0.0, 100)
    gathering.add(entries(ALICE, 3), 0.0)
    gathering.add(entries(BOB, 3), 0.0)
    assert gathering.due_in_s(0.0) == 0.0
    assert gathering.take(4, 0.0) == entries(ALICE, 3) + entries(BOB, 1)
    assert gathering.take(4, 0.0) == entries(BOB, 2, 1)
    assert (gathering.take(4, 0.0), gathering.held_count, gathering.due_in_s(0.0)) == ([], 0, None)


def test_entries_linger_until_their_time_is_over_the_first_first() -> None:
    gathering = Gathering(10.0, 100)
    gathering.add(entries(ALICE, 2), 0.0)
    gathering.add(entries(BOB, 1), 4.0)
    gathering.add(entries(ALICE, 1, 2), 5.0)
    assert (gathering.take(100, 9.9), gathering.due_in_s(9.0)) == ([], 1.0)
    assert gathering.take(100, 10.0) == entries(ALICE, 3)
    assert gathering.due_in_s(10.0) == 4.0
    assert gathering.take(100, 14.0) == entries(BOB, 1)
    assert gathering.due_in_s(14.0) is None


def test_a_full_group_is_due_at_once_and_the_next_begins_anew() -> None:
    gathering = Gathering(10.0, 1_000)
    gathering.add(entries(BOB, 1), 0.0)
    gathering.add(entries(ALICE, GROUP_COUNT + 1), 1.0)
    assert gathering.due_in_s(1.0) == 0.0
    assert gathering.take(100, 1.0) == entries(ALICE, GROUP_COUNT)
    assert gathering.take(100, 1.0) == []
    assert gathering.take(100, 11.0) == [*entries(BOB, 1), *entries(ALICE, 1, GROUP_COUNT)]


def test_days_of_one_user_are_groups_of_their_own() -> None:
    gathering = Gathering(10.0, 1_000)
    around_midnight = entries(ALICE, GROUP_COUNT, DAY_MS - GROUP_COUNT // 2)
    gathering.add(around_midnight, 0.0)
    assert gathering.take(100, 0.0) == []
    assert gathering.take(100, 10.0) == around_midnight


def test_above_the_limit_the_oldest_are_due_until_there_is_room() -> None:
    gathering = Gathering(1_000.0, 4)
    for number in range(5):
        gathering.add([entry(UserId(str(number)), number)], 0.0)
    assert gathering.is_full
    assert gathering.due_in_s(0.0) == 0.0
    assert [each.point.user_id for each in gathering.take(100, 0.0)] == ["0", "1"]
    assert (gathering.held_count, gathering.is_full) == (3, False)
    assert gathering.take(100, 0.0) == []


def test_everything_is_taken_when_asked_for() -> None:
    gathering = Gathering(1_000.0, 100)
    gathering.add(entries(ALICE, 3), 0.0)
    gathering.add(entries(BOB, 3), 0.0)
    assert gathering.take(4, 0.0, everything=True) == entries(ALICE, 3) + entries(BOB, 1)
    assert gathering.take(4, 0.0, everything=True) == entries(BOB, 2, 1)
    assert gathering.held_count == 0
