from __future__ import annotations

import pytest

from cli.simulate.oracle import Report, Reports
from cli.simulate.watch import Screen, Watch
from nearby.messages import Ack, Error, FriendEntry, GoneEntry, Snapshot, Update
from nearby_client import Disconnected

LAT = 0.01


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reports(clock: Clock) -> Reports:
    """Person 1 reported at 10 and, 2 s later, at 20 ms; person 0 stands at the origin."""
    reports = Reports(3)
    reports.sent(0, Report(1, 0.0, 0.0, sent_s=99.0))
    reports.sent(1, Report(10, LAT, 0.0, sent_s=100.0))
    reports.sent(1, Report(20, LAT, 0.0, sent_s=102.0))
    return reports


@pytest.fixture
def watch(clock: Clock, reports: Reports) -> Watch:
    return Watch({"zero": 0, "one": 1, "two": 2}, [{1}, {0}, set()], reports, clock)


def entry(updated_at_ms: int, user_id: str = "one") -> FriendEntry:
    return FriendEntry(user_id, LAT, 0.0, 1112, updated_at_ms, "exact")


def test_the_latency_runs_from_the_report_to_the_screen(watch: Watch, clock: Clock) -> None:
    screen = Screen(0)
    watch.on_event(screen, Snapshot([entry(10)]))
    clock.now_s = 102.5
    watch.on_event(screen, Update([entry(20)]))
    assert watch.tally.news == 1
    assert watch.tally.latency.max_s == 0.5
    assert watch.tally.violations == {}


def test_an_old_location_that_comes_into_view_and_a_mere_new_distance_are_not_timed(watch: Watch) -> None:
    screen = Screen(0)
    watch.on_event(screen, Update([entry(10)]))
    watch.on_event(screen, Update([entry(10)]))
    assert (watch.tally.entries, watch.tally.news) == (2, 0)


def test_the_screen_follows_snapshots_updates_and_leavings(watch: Watch) -> None:
    screen = Screen(0)
    watch.on_event(screen, Update([entry(10)]))
    assert screen.shown == {1}
    watch.on_event(screen, Update(gone=[GoneEntry("one", "out_of_range")]))
    assert screen.shown == set()
    watch.on_event(screen, Snapshot([entry(20)]))
    assert screen.shown == {1}
    watch.on_event(screen, Snapshot([]))
    assert screen.shown == set()


def test_a_location_that_gets_older_is_a_violation_even_after_the_friend_was_gone(watch: Watch) -> None:
    screen = Screen(0)
    watch.on_event(screen, Update([entry(20)]))
    watch.on_event(screen, Update(gone=[GoneEntry("one", "out_of_range")]))
    watch.on_event(screen, Update([entry(10)]))
    assert watch.tally.violations == {"went_back": 1}


def test_strangers_in_the_crowd_and_from_elsewhere_are_violations(watch: Watch) -> None:
    screen = Screen(0)
    watch.on_event(screen, Update([entry(10, "two"), entry(10, "from elsewhere")]))
    assert watch.tally.violations == {"stranger_shown": 2}
    assert len(watch.tally.examples) == 2


def test_an_acknowledged_report_settles_its_sender(watch: Watch, reports: Reports) -> None:
    assert not reports.settled(0)
    watch.on_event(Screen(0), Ack(seq=1, recorded_at_ms=1, live=True))
    assert reports.settled(0)


def test_errors_and_ends_are_counted_and_a_final_end_is_a_violation(watch: Watch) -> None:
    screen = Screen(0)
    watch.on_event(screen, Error("unavailable", "no store"))
    watch.on_event(screen, Disconnected(1012, "drain", 0.1))
    assert watch.tally.violations == {}
    watch.on_event(screen, Disconnected(4409, "replaced", None))
    assert watch.tally.errors == {"unavailable": 1}
    assert watch.tally.ends == {"1012": 1, "4409": 1}
    assert watch.tally.violations == {"session_ended": 1}
