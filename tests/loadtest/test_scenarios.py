from __future__ import annotations

import pytest

from loadtest.scenarios import SCENARIOS, city, ramp

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
