from __future__ import annotations

import pytest

from cli.simulate import replay
from cli.simulate.people import SimulationFailed
from cli.simulate.replay import Confirmation, Crossings, ReplayPlan
from cli.simulate.tracks import Fix
from cli.simulate.watch import Screen


async def test_a_report_is_confirmed_once_everything_expected_has_happened_in_any_order() -> None:
    confirmation = Confirmation()
    confirmation.expect({("ack", 1, 5), ("seen", 2, 1, 5)})
    confirmation.happened(("seen", 2, 1, 5))
    confirmation.happened(("enter", 9, 9))
    confirmation.happened(("ack", 1, 5))
    assert await confirmation.wait()


async def test_a_report_that_lacks_an_effect_is_not_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "CONFIRM_TIMEOUT_S", 0.01)
    confirmation = Confirmation()
    confirmation.expect({("ack", 1, 5), ("seen", 2, 1, 5)})
    confirmation.happened(("ack", 1, 5))
    assert not await confirmation.wait()


async def test_crossings_are_noted_in_their_order_and_mere_updates_are_not() -> None:
    crossings, screen = Crossings(Confirmation()), Screen(0)
    crossings.on_entry(screen, 1, 10, entered=True)
    crossings.on_entry(screen, 1, 20, entered=False)
    crossings.on_leave(screen, 1)
    crossings.on_entry(screen, 1, 30, entered=True)
    assert crossings.seen[0, 1] == ["enter", "leave", "enter"]


def test_tracks_wider_than_a_witness_can_see_are_refused() -> None:
    narrow = ReplayPlan([Fix("a", 0, 39.8, 116.0), Fix("b", 1, 40.2, 116.4)], 120, 0, None)
    narrow.check()
    assert narrow.centre == (40.0, 116.2)
    with pytest.raises(SimulationFailed):
        ReplayPlan([Fix("a", 0, 39.0, 116.0), Fix("b", 1, 41.0, 116.0)], 120, 0, None).check()
