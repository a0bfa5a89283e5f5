"""The hub shows each viewer a friend at the tier in force, and nothing that is finer."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nearby.changes import FriendshipChanged
from nearby.channels import approximate_channel, location_channel
from nearby.geo import cell_centre
from nearby.model import FriendEdge, FriendList, GoneReason, UserId
from nearby.record import LocationRecord, approximate
from nearby.sharing import EXACT, NO_LIMITS, Limits, Tier, TierPlan, Window, ceiling
from tests.ws_gateway.test_hub import ANNA, BEN, CLEO, NOW_MS, SEOUL, TTL_MS, Screen, at, due
from ws_gateway.hub import Hub
from ws_gateway.tiers import edge_of
from ws_gateway.viewer import Changes, Viewer

APPROXIMATE, OFF = TierPlan(Tier.APPROXIMATE), TierPlan(Tier.OFF)
ALWAYS_APPROXIMATE = Limits(windows=(Window((0, 1, 2, 3, 4, 5, 6), 0, 1440, Tier.APPROXIMATE),))
NEAR = (37.5670, 126.9785)


class Subscriptions:
    """Counts the subscribers of each channel, as pub/sub does; what a channel is re-read for is in ``reread``."""

    def __init__(self) -> None:
        self.counts: Counter[bytes] = Counter()
        self.reread: list[bytes] = []

    def wanted(self, channel: bytes) -> None:
        self.counts[channel] += 1

    def unwanted(self, channel: bytes) -> None:
        self.counts[channel] -= 1
        assert self.counts[channel] >= 0

    def reopened(self, channel: bytes) -> None:
        self.reread.append(channel)


class Here:
    """A hub in which viewers watch Ben, with a clock that the test moves."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS
        self.hub = Hub(TTL_MS, lambda: self.now_ms)
        self.subscriptions = self.hub.channels = Subscriptions()

    def viewer(self, shows: TierPlan = EXACT, user_id: UserId = ANNA, **said: Any) -> Viewer:
        viewer = Viewer(user_id, 5_000, Screen())
        friends = FriendList(user_id, 1, True, 0, (FriendEdge(BEN, shows=shows, **said),))
        for channel in self.hub.attach(viewer, friends):
            self.subscriptions.wanted(channel)
        self.hub.move(viewer, *SEOUL)
        viewer.live = True
        viewer.snapshot()
        return viewer

    def publish(self, record: LocationRecord) -> None:
        """Publish for both tiers, as a publisher's gateway might."""
        self.hub.observe(location_channel(BEN), record, self.now_ms)
        self.hub.observe(approximate_channel(BEN), approximate(record), self.now_ms)

    def rule(self, viewer: Viewer, plan: TierPlan, **said: Any) -> None:
        self.hub.change_friend(viewer, FriendEdge(BEN, shows=plan, **said))


def entries(changes: Changes) -> list[Any]:
    return [json.loads(entry) for entry in changes.friends]


def test_an_approximate_viewer_gets_the_centre_of_the_cell_even_of_an_exact_record() -> None:
    here = Here()
    viewer = here.viewer(APPROXIMATE)
    exact = LocationRecord(1, NOW_MS, *NEAR, 5.0, 1.5, 90.0)
    here.hub.observe(approximate_channel(BEN), exact, NOW_MS)
    (entry,) = entries(due(here.hub, viewer))
    lat, lon = cell_centre(*NEAR)
    assert entry == {
        "user_id": BEN,
        "lat": lat,
        "lon": lon,
        "updated_at_ms": NOW_MS,
        "precision": "approximate",
        "distance_m": 0,
    }
    assert not here.hub.observe(location_channel(BEN), at(*NEAR, NOW_MS + 1), NOW_MS), "nobody watches that here"


def test_two_viewers_of_one_friend_are_told_each_at_their_tier() -> None:
    here = Here()
    anna, cleo = here.viewer(), here.viewer(APPROXIMATE, CLEO)
    here.publish(at(*NEAR))
    assert [entry["precision"] for entry in entries(due(here.hub, anna))] == ["exact"]
    assert [entry["precision"] for entry in entries(due(here.hub, cleo))] == ["approximate"]
    assert here.subscriptions.counts == {location_channel(BEN): 1, approximate_channel(BEN): 1}


def test_narrowing_replaces_the_exact_place_in_the_next_frame_though_nothing_approximate_was_heard() -> None:
    here = Here()
    viewer = here.viewer()
    here.publish(at(*NEAR))
    assert due(here.hub, viewer).friends
    here.rule(viewer, APPROXIMATE)
    changes = due(here.hub, viewer)
    (entry,) = entries(changes)
    assert (entry["precision"], entry["updated_at_ms"], changes.gone) == ("approximate", NOW_MS, {})
    assert +here.subscriptions.counts == {approximate_channel(BEN): 1}
    assert list(here.hub.entries) == [approximate_channel(BEN)]


def test_narrowing_does_not_turn_time_back() -> None:
    here = Here()
    other, viewer = here.viewer(APPROXIMATE, CLEO), here.viewer()
    here.publish(at(*NEAR))
    here.hub.observe(location_channel(BEN), at(*NEAR, NOW_MS + 20_000), NOW_MS)  # no approximate one: same cell
    due(here.hub, viewer)
    due(here.hub, other)
    here.rule(viewer, APPROXIMATE)
    assert [entry["updated_at_ms"] for entry in entries(due(here.hub, viewer))] == [NOW_MS + 20_000]


def test_widening_waits_for_the_cache_and_keeps_the_approximate_place_meanwhile() -> None:
    here = Here()
    viewer = here.viewer(APPROXIMATE)
    here.publish(at(*NEAR))
    due(here.hub, viewer)
    here.rule(viewer, EXACT)
    assert due(here.hub, viewer) == Changes([], {})
    here.hub.observe(location_channel(BEN), at(*NEAR, NOW_MS), NOW_MS, 60_000)
    assert [entry["precision"] for entry in entries(due(here.hub, viewer))] == ["exact"]


def test_widening_to_a_friend_of_whom_the_cache_knows_nothing_takes_them_away() -> None:
    here = Here()
    viewer = here.viewer(APPROXIMATE)
    here.publish(at(*NEAR))
    due(here.hub, viewer)
    here.rule(viewer, EXACT)
    here.hub.unknown(here.hub.entries[location_channel(BEN)])
    assert due(here.hub, viewer) == Changes([], {BEN: GoneReason.INACTIVE})


@pytest.mark.parametrize(
    ("plan", "reason"),
    [(OFF, GoneReason.INACTIVE), (TierPlan(Tier.OFF, openly=True), GoneReason.NOT_SHARING)],
    ids=["quietly", "openly"],
)
def test_a_friend_who_ends_the_sharing_is_gone_and_no_channel_of_theirs_is_listened_to(
    plan: TierPlan, reason: GoneReason
) -> None:
    here = Here()
    viewer = here.viewer()
    here.publish(at(*NEAR))
    due(here.hub, viewer)
    here.rule(viewer, plan)
    assert due(here.hub, viewer) == Changes([], {BEN: reason})
    assert +here.subscriptions.counts == {}
    here.publish(at(*NEAR, NOW_MS + 1))
    assert due(here.hub, viewer) == Changes([], {})
    assert viewer.snapshot() == []
    here.rule(viewer, EXACT)
    here.publish(at(*NEAR, NOW_MS + 2))
    assert len(due(here.hub, viewer).friends) == 1


def test_a_timed_rule_ends_at_its_instant_before_anything_is_sent() -> None:
    here = Here()
    viewer = here.viewer(TierPlan(Tier.EXACT, ((NOW_MS + 5_000, Tier.APPROXIMATE), (NOW_MS + 9_000, Tier.OFF))))
    here.publish(at(*NEAR))
    assert here.hub.next_ms == NOW_MS + 5_000
    for seconds, precisions in ((4.999, ["exact"]), (5, ["approximate"]), (9, [])):
        here.now_ms = NOW_MS + round(seconds * 1000)
        here.publish(at(*NEAR, here.now_ms))
        here.hub.advance()
        changes = due(here.hub, viewer)
        assert [entry["precision"] for entry in entries(changes)] == precisions
    assert changes.gone == {BEN: GoneReason.INACTIVE}
    assert here.hub.next_ms > here.now_ms + 10**9


def test_a_pause_with_an_end_is_over_at_its_instant_and_the_cache_is_read() -> None:
    here = Here()
    viewer = here.viewer()
    here.publish(at(*NEAR))
    due(here.hub, viewer)
    here.hub.set_sharing(BEN, False, 7, Limits(paused_until_ms=NOW_MS + 5_000))
    assert due(here.hub, viewer).gone == {BEN: GoneReason.INACTIVE}
    here.now_ms += 5_000
    here.hub.advance()
    assert len(due(here.hub, viewer).friends) == 1
    assert here.subscriptions.reread == [location_channel(BEN)]


def test_a_window_narrows_everybody_at_once_and_their_own_plans_hold_within_it() -> None:
    here = Here()
    anna, cleo = here.viewer(), here.viewer(OFF, CLEO)
    here.publish(at(*NEAR))
    due(here.hub, anna)
    here.hub.set_sharing(BEN, True, 7, ALWAYS_APPROXIMATE)
    assert [entry["precision"] for entry in entries(due(here.hub, anna))] == ["approximate"]
    assert +here.subscriptions.counts == {approximate_channel(BEN): 1}
    here.rule(cleo, EXACT, sharing=True, limits=ALWAYS_APPROXIMATE, switch_sequence=8)
    assert [entry["precision"] for entry in entries(due(here.hub, cleo))] == ["approximate"]
    here.hub.set_sharing(BEN, True, 9, NO_LIMITS)
    here.publish(at(*NEAR, NOW_MS + 1))
    for viewer in (anna, cleo):
        assert [entry["precision"] for entry in entries(due(here.hub, viewer))] == ["exact"]


def test_somebody_who_arrives_with_an_older_list_sees_what_was_said_since() -> None:
    here = Here()
    here.hub.set_sharing(BEN, True, 7, ALWAYS_APPROXIMATE)
    assert here.viewer(switch_sequence=3).friends[BEN].tier is Tier.APPROXIMATE


def test_a_viewer_who_leaves_leaves_nothing_behind() -> None:
    here = Here()
    for plan in (EXACT, APPROXIMATE, OFF, TierPlan(Tier.EXACT, ((NOW_MS + 5_000, Tier.OFF),))):
        viewer = here.viewer(plan)
        here.publish(at(*NEAR))
        for channel in here.hub.detach(viewer):
            here.subscriptions.unwanted(channel)
    assert not here.hub.entries
    assert not here.hub.hidden
    assert not here.hub._timed_pairs
    assert +here.subscriptions.counts == {}


def test_a_change_tells_each_side_what_the_other_shows_them() -> None:
    change = FriendshipChanged(7, ANNA, BEN, True, False, True, Limits(paused_until_ms=9), NO_LIMITS, OFF, APPROXIMATE)
    assert edge_of(change, ANNA) == FriendEdge(BEN, True, 7, NO_LIMITS, shows=APPROXIMATE, sees=OFF)
    assert edge_of(change, BEN) == FriendEdge(ANNA, False, 7, Limits(paused_until_ms=9), shows=OFF, sees=APPROXIMATE)


# ------------------------------------------------------------------------------------------ all of it at random

PLANS = st.builds(
    TierPlan,
    st.sampled_from(Tier),
    st.lists(st.tuples(st.integers(0, 100), st.sampled_from(Tier)), max_size=2, unique_by=lambda step: step[0]).map(
        lambda steps: tuple((NOW_MS + at_s * 1000, tier) for at_s, tier in sorted(steps))
    ),
)
LIMITS = st.builds(
    Limits,
    st.one_of(st.none(), st.integers(0, 100).map(lambda at_s: NOW_MS + at_s * 1000)),
    st.sampled_from([(), ALWAYS_APPROXIMATE.windows]),
)


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order, each map holds what the tier in force lets through, and nothing finer."""

    def __init__(self) -> None:
        super().__init__()
        self.here = Here()
        self.said: tuple[bool, Limits] = (True, NO_LIMITS)
        self.sequence = 10
        self.plans: dict[Viewer, TierPlan] = {}
        self.maps: dict[Viewer, dict[str, Any]] = {}
        self.latest: LocationRecord | None = None

    @precondition(lambda self: len(self.plans) < 3)
    @rule(plan=PLANS)
    def arrive(self, plan: TierPlan) -> None:
        sharing, limits = self.said
        viewer = self.here.viewer(plan, sharing=sharing, limits=limits, switch_sequence=self.sequence)
        self.plans[viewer], self.maps[viewer] = plan, {}
        self.read_cache()
        self.maps[viewer] = {entry["user_id"]: entry for entry in map(json.loads, viewer.snapshot())}

    @precondition(lambda self: self.plans)
    @rule()
    def leave(self) -> None:
        viewer = next(iter(self.plans))
        for channel in self.here.hub.detach(viewer):
            self.here.subscriptions.unwanted(channel)
        del self.plans[viewer], self.maps[viewer]

    @precondition(lambda self: self.plans)
    @rule(plan=PLANS, data=st.data())
    def change_rule(self, plan: TierPlan, data: st.DataObject) -> None:
        viewer = data.draw(st.sampled_from(list(self.plans)))
        sharing, limits = self.said
        self.sequence += 1
        self.here.rule(viewer, plan, sharing=sharing, limits=limits, switch_sequence=self.sequence)
        self.plans[viewer] = plan

    @rule(sharing=st.booleans(), limits=LIMITS)
    def say(self, sharing: bool, limits: Limits) -> None:
        self.said = sharing, limits
        self.sequence += 1
        self.here.hub.set_sharing(BEN, sharing, self.sequence, limits)

    @rule(lat=st.floats(37.56, 37.57), lon=st.floats(126.97, 126.98))
    def move(self, lat: float, lon: float) -> None:
        recorded_at_ms = NOW_MS + 1 if self.latest is None else self.latest.recorded_at_ms + 1
        self.latest = at(lat, lon, recorded_at_ms)
        self.here.publish(self.latest)

    @rule(seconds=st.integers(0, 30))
    def wait(self, seconds: int) -> None:
        self.here.now_ms += seconds * 1000

    def read_cache(self) -> None:
        """What the gateway does after each change of channel."""
        if self.latest is not None:
            for entry in list(self.here.hub.entries.values()):
                self.here.hub.observe(entry.channel, self.latest, self.here.now_ms, TTL_MS)

    @invariant()
    def maps_are_as_they_should_be(self) -> None:
        here = self.here
        here.hub.advance()
        self.read_cache()
        for viewer, plan in self.plans.items():
            tier = min(plan.at(here.now_ms), ceiling(*self.said, here.now_ms).tier)
            shown = self.maps[viewer]
            changes = due(here.hub, viewer)
            for user_id in changes.gone:
                shown.pop(user_id, None)
            for entry in entries(changes):
                before = shown.get(entry["user_id"], {"updated_at_ms": 0})
                assert entry["updated_at_ms"] >= before["updated_at_ms"]
                shown[entry["user_id"]] = entry
            if tier is Tier.OFF or self.latest is None:
                assert shown == {}
                continue
            record = self.latest if tier is Tier.EXACT else approximate(self.latest)
            entry = shown[BEN]
            assert (entry["lat"], entry["lon"], entry["precision"]) == (record.lat_deg, record.lon_deg, tier.label)

    @invariant()
    def channels_are_those_of_the_entries_watched(self) -> None:
        watched: Counter[bytes] = Counter()
        for viewer in self.plans:
            entry = viewer.friends[BEN]
            if entry.tier is not Tier.OFF:
                watched[entry.channel] += 1
        assert +self.here.subscriptions.counts == watched
        assert set(self.here.hub.entries) == set(watched)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
