from __future__ import annotations

import pytest

from loadtest.verdict import Goal


@pytest.mark.parametrize(
    ("count", "good", "met"), [(100, 99, True), (100, 98, False), (3, 3, True), (1000, 989, False)]
)
def test_a_goal_is_met_by_the_share_that_is_good(count: int, good: int, met: bool) -> None:
    assert Goal("updates", count, good, 99).met is met


def test_a_goal_of_which_nothing_was_measured_is_missed() -> None:
    goal = Goal("updates", 0, 0, 99)
    assert not goal.met
    assert str(goal) == "MISSED updates: nothing was measured, wanted 99 %"
