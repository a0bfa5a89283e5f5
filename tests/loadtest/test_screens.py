from __future__ import annotations

import pytest

from loadtest.screens import LOST_AFTER_S, Screen, Screens
from nearby.messages import FriendEntry, GoneEntry, Snapshot, Update


def entry(user_id: str, updated_at_ms: int) -> FriendEntry:
    return FriendEntry(user_id, 0.0, 0.0, 100, updated_at_ms, "exact")


@pytest.fixture
def screens() -> Screens:
    return Screens()


@pytest.fixture
def screen(screens: Screens) -> Screen:
    """A screen that shows Ann as of 1."""
    screen = Screen()
    assert screens.take(screen, Snapshot([entry("ann", 1)]), 0.0) == []
    return screen


def test_a_report_is_timed_from_its_sending_to_the_screen(screens: Screens, screen: Screen) -> None:
    screens.sent("ann", 2, 10.0)
    assert screens.take(screen, Update([entry("ann", 2)]), 10.5) == [0.5]
    assert screens.take(screen, Update([entry("ann", 2)]), 11.0) == []


def test_a_newer_report_answers_for_those_it_overtook(screens: Screens, screen: Screen) -> None:
    screens.sent("ann", 2, 10.0)
    screens.sent("ann", 3, 11.0)
    screens.sent("ann", 4, 12.0)
    assert screens.take(screen, Update([entry("ann", 3)]), 12.0) == [2.0, 1.0]


def test_a_report_that_does_not_come_is_overdue_once(screens: Screens, screen: Screen) -> None:
    screens.sent("ann", 2, 10.0)
    assert screens.overdue(screen, 10.0 + LOST_AFTER_S) == 0
    assert screens.overdue(screen, 10.1 + LOST_AFTER_S) == 1
    assert screens.overdue(screen, 10.2 + LOST_AFTER_S) == 0
    assert screens.take(screen, Update([entry("ann", 2)]), 30.0) == []


def test_a_friend_who_is_not_on_the_screen_is_not_awaited(screens: Screens, screen: Screen) -> None:
    screens.sent("ben", 2, 10.0)
    assert screens.take(screen, Update([entry("ben", 2)]), 10.5) == []
    assert screens.overdue(screen, 100.0) == 0


@pytest.mark.parametrize("leaving", [Update(gone=[GoneEntry("ann", "out_of_range")]), Snapshot([])])
def test_a_friend_who_left_the_screen_is_awaited_no_longer(
    screens: Screens, screen: Screen, leaving: Update | Snapshot
) -> None:
    screens.sent("ann", 2, 10.0)
    screens.take(screen, leaving, 10.5)
    screens.sent("ann", 3, 11.0)
    assert screens.overdue(screen, 100.0) == 0


def test_a_dark_screen_awaits_nothing(screens: Screens, screen: Screen) -> None:
    screens.sent("ann", 2, 10.0)
    screens.darken(screen)
    screens.sent("ann", 3, 11.0)
    assert screens.overdue(screen, 100.0) == 0


def test_a_report_that_the_server_did_not_take_is_awaited_no_longer(screens: Screens, screen: Screen) -> None:
    screens.sent("ann", 2, 10.0)
    screens.sent("ann", 3, 11.0)
    screens.withdraw("ann", 2)
    assert screens.take(screen, Update([entry("ann", 3)]), 11.5) == [0.5]
