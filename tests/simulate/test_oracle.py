from __future__ import annotations

import random
from typing import Any

import pytest

from cli.simulate.oracle import REPORTS_KEPT, CrossingOracle, EntryJudge, Report, Reports, must_show
from cli.simulate.walk import Area, Walker
from nearby.geo import distance_m

FRIENDS: list[set[int]] = [{1}, {0}, set()]
LAT = 0.01  # degrees; on the meridian 1,112 m


def reports_of(*rows: tuple[int, int, float]) -> Reports:
    """Reports as (person, time, latitude), all acknowledged."""
    reports = Reports(3)
    for person, recorded_at_ms, lat_deg in rows:
        reports.sent(person, Report(recorded_at_ms, lat_deg, 0.0, sent_s=0.0))
        reports.acked(person, recorded_at_ms, 1.0)
    return reports


def verdict(reports: Reports, shown: tuple[float, float, int, int], **changes: Any) -> str | None:
    arguments: dict[str, Any] = {"viewer": 0, "friend": 1, "before_ms": 0} | changes
    return EntryJudge(FRIENDS, reports).judge(**arguments, shown=shown)[0]


def test_a_true_entry_passes() -> None:
    assert verdict(reports_of((0, 1, 0.0), (1, 2, LAT)), (LAT, 0.0, 1112, 2)) is None


def test_a_distance_off_by_more_than_a_metre_is_wrong() -> None:
    reports = reports_of((0, 1, 0.0), (1, 2, LAT))
    assert verdict(reports, (LAT, 0.0, 1114, 2)) == "wrong_distance"
    assert verdict(reports, (LAT, 0.0, 1110, 2)) == "wrong_distance"


def test_a_stranger_and_somebody_unknown_are_found() -> None:
    reports = reports_of((0, 1, 0.0), (1, 2, LAT), (2, 3, LAT))
    assert verdict(reports, (LAT, 0.0, 1112, 3), friend=2) == "stranger_shown"
    assert verdict(reports, (LAT, 0.0, 1112, 3), friend=None) == "stranger_shown"


def test_a_location_that_gets_older_is_found() -> None:
    reports = reports_of((0, 1, 0.0), (1, 2, LAT), (1, 5, LAT))
    assert verdict(reports, (LAT, 0.0, 1112, 2), before_ms=5) == "went_back"


def test_a_location_nobody_sent_and_one_at_another_time_are_found() -> None:
    reports = reports_of((0, 1, 0.0), (1, 2, LAT))
    assert verdict(reports, (LAT, 0.0, 1112, 4)) == "unknown_location"
    assert verdict(reports, (LAT + 1e-5, 0.0, 1112, 2)) == "wrong_position"


def test_either_of_the_viewers_two_latest_positions_may_have_made_the_distance_and_no_older_one() -> None:
    reports = reports_of((0, 1, 3 * LAT), (0, 2, 2 * LAT), (0, 3, 0.0), (1, 2, LAT))
    assert verdict(reports, (LAT, 0.0, 1112, 2)) is None
    reports = reports_of((0, 1, 4 * LAT), (0, 2, 3 * LAT), (0, 3, 0.0), (1, 2, LAT))
    assert verdict(reports, (LAT, 0.0, 2224, 2)) is None
    assert verdict(reports, (LAT, 0.0, 3336, 2)) == "wrong_distance"


def test_a_position_that_is_not_acknowledged_yet_may_have_made_the_distance() -> None:
    reports = reports_of((0, 1, 0.0), (1, 2, LAT))
    reports.sent(0, Report(9, 5 * LAT, 0.0, sent_s=0.0))
    assert verdict(reports, (LAT, 0.0, 4448, 2)) is None
    assert not reports.settled(0)


def test_memory_of_reports_is_bounded() -> None:
    reports = Reports(1)
    for number in range(REPORTS_KEPT + 5):
        reports.sent(0, Report(number, 0.0, 0.0, sent_s=0.0))
    assert reports.of(0, 4) is None
    assert reports.of(0, 5) is not None


@pytest.mark.parametrize(("distance", "wanted"), [(999.9, True), (1_050.0, None), (1_101.0, False)])
def test_between_radius_and_hysteresis_either_is_right(distance: float, wanted: bool | None) -> None:
    assert must_show(distance, 1_000) is wanted


def test_a_friend_enters_at_the_radius_and_leaves_beyond_a_tenth_more_on_both_screens() -> None:
    oracle = CrossingOracle(FRIENDS, radius_m=1_112)
    assert oracle.report(0, 0.0, 0.0).changes == ()
    assert oracle.report(1, 1.05 * LAT, 0.0).changes == ()
    entering = oracle.report(1, 0.99 * LAT, 0.0)
    assert set(entering.changes) == {(0, 1, "enter"), (1, 0, "enter")}
    assert entering.refreshed == (0,)
    staying = oracle.report(1, 1.05 * LAT, 0.0)
    assert (staying.changes, staying.refreshed) == ((), (0,))
    leaving = oracle.report(0, -0.06 * LAT, 0.0)
    assert set(leaving.changes) == {(0, 1, "leave"), (1, 0, "leave")}
    assert leaving.refreshed == ()


def test_a_pair_on_the_edge_is_left_open_until_the_answer_is_adopted() -> None:
    radius_m = distance_m(0, 0, LAT, 0)
    oracle = CrossingOracle(FRIENDS, radius_m)
    oracle.report(0, 0.0, 0.0)
    result = oracle.report(1, LAT, 0.0)
    assert set(result.unsure) == {(0, 1), (1, 0)}
    assert not oracle.inside(0, 1)
    oracle.adopt((0, 1), shown=True)
    assert oracle.inside(0, 1)


def test_over_a_long_walk_the_oracle_agrees_with_a_plain_recomputation() -> None:
    radius_m = 1_000.0
    people = [Walker(Area(41.88, -87.63, 1_000), random.Random(seed)) for seed in range(4)]
    friends = [{1, 2}, {0, 3}, {0}, {1}]
    oracle = CrossingOracle(friends, radius_m)
    at: dict[int, tuple[float, float]] = {}
    inside: set[tuple[int, int]] = set()
    crossings = 0
    for turn in range(4_000):
        mover = turn % 4
        at[mover] = people[mover].at(turn)
        expected = oracle.report(mover, *at[mover])
        changes = set(expected.changes)
        wanted = set()
        for viewer in at:
            for friend in friends[viewer] & at.keys():
                far_m = distance_m(*at[viewer], *at[friend])
                pair = (viewer, friend)
                now = far_m <= (radius_m * 1.1 if pair in inside else radius_m)
                if pair in expected.unsure:
                    oracle.adopt(pair, shown=now)
                elif now != (pair in inside):
                    wanted.add((*pair, "enter" if now else "leave"))
                (inside.add if now else inside.discard)(pair)
        assert changes == wanted
        crossings += len(changes)
    assert crossings > 10
