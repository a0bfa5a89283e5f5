from __future__ import annotations

import pytest

from loadtest.scenarios import DEFAULT_RUN_S, SCENARIOS, Schedule, city, ramp

PARTS = [step / 100 for step in range(100)]


@pytest.mark.parametrize("name", SCENARIOS)
def test_everybody_comes_and_never_more(name: str) -> None:
    counts = [SCENARIOS[name](part, 40) for part in PARTS]
    assert max(counts) == 40
    assert min(counts) > 0


def test_a_ramp_has_ten_steps_and_does_not_go_down() -> None:
    counts = [ramp(part, 50) for part in PARTS]
    assert counts == sorted(counts)
    assert sorted(set(counts)) == list(range(5, 51, 5))


def test_a_city_has_two_rush_hours() -> None:
    assert [city(part, 100) for part in (0, 0.25, 0.5, 0.75)] == [40, 100, 40, 100]


def test_a_schedule_ends_with_the_run() -> None:
    schedule = Schedule("ramp", 10, 100.0)
    assert [schedule.people(elapsed_s) for elapsed_s in (0.0, 99.9, 100.0)] == [1, 10, None]


def test_a_scenario_that_must_have_an_end_has_one_though_nobody_said_when() -> None:
    assert Schedule("storm", 10, 0.0).people(DEFAULT_RUN_S) is None
    assert Schedule("steady", 10, 0.0).people(1e6) == 10


def test_a_storm_breaks_once_at_half_time() -> None:
    schedule = Schedule("storm", 10, 100.0)
    assert [schedule.storm_breaks(elapsed_s) for elapsed_s in (0.0, 49.9, 50.1, 50.2, 99.0)] == [
        *(False, False, True),
        *(False, False),
    ]
    assert not Schedule("steady", 10, 100.0).storm_breaks(60.0)
