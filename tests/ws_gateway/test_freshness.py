"""How old what the maps show is, as operators count it."""

from __future__ import annotations

import pytest

from nearby.channels import location_channel
from tests.ws_gateway.test_hub import ANNA, BEN, CLEO, NOW_MS, SEOUL, TTL_MS, Screen, at, friends_of
from ws_gateway.freshness import Age, Freshness, stale_after_ms
from ws_gateway.hub import Hub
from ws_gateway.viewer import Viewer

STALE_AFTER_MS = 65_000


class Maps:
    """Anna's map, on which Ben is and Cleo, whose place nobody knows, is not."""

    def __init__(self) -> None:
        self.hub = Hub(TTL_MS)
        viewer = Viewer(ANNA, 1_000, Screen())
        self.hub.attach(viewer, friends_of(ANNA, BEN, CLEO))
        self.hub.observe(location_channel(BEN), at(*SEOUL), NOW_MS)
        self.ben = self.hub.entries[location_channel(BEN)]
        self.ben.fresh = True
        self.hub.move(viewer, *SEOUL)
        viewer.live = True
        viewer.snapshot()
        self.freshness = Freshness()

    def sample(self, after_ms: int) -> dict[Age, int]:
        self.freshness.sample(self.hub.entries.values(), NOW_MS + after_ms, STALE_AFTER_MS)
        return {age: count for age, count in self.freshness.counts.items() if count}


def test_a_friend_heard_of_lately_is_fresh() -> None:
    assert Maps().sample(STALE_AFTER_MS) == {Age.FRESH: 1}


def test_a_friend_of_whom_the_cache_has_nothing_newer_is_silent() -> None:
    assert Maps().sample(STALE_AFTER_MS + 1) == {Age.SILENT: 1}


def test_a_friend_unheard_of_for_whom_the_cache_has_not_answered_is_stale() -> None:
    maps = Maps()
    maps.ben.fresh = False
    assert maps.sample(STALE_AFTER_MS + 1) == {Age.STALE: 1}


def test_a_friend_on_nobodys_map_is_not_counted() -> None:
    maps = Maps()
    for viewer in maps.ben.viewers:
        maps.ben.viewers[viewer] = False
    assert maps.sample(0) == {}


@pytest.mark.parametrize(("report_interval_s", "expected_ms"), [(30, 65_000), (1, 7_000)])
def test_one_report_may_be_lost(report_interval_s: float, expected_ms: int) -> None:
    assert stale_after_ms(report_interval_s) == expected_ms
