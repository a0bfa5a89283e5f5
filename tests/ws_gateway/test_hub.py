"""The hub decides what each map shows; everything here is pure and runs on a clock of its own."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearby.channels import location_channel
from nearby.codecs import JSON, MESSAGE_PACK, Codec
from nearby.geo import distance_m
from nearby.model import FriendEdge, FriendList, GoneReason, UserId
from nearby.record import LocationRecord
from ws_gateway.hub import MAX_SWITCHES, Hub
from ws_gateway.viewer import Changes, Viewer

TTL_MS = 600_000
NOW_MS = 1_795_237_200_000
ANNA, BEN, CLEO = (UserId(f"00000000-0000-4000-8000-00000000000{n}") for n in "abc")
SEOUL = (37.5665, 126.9780)


class Screen:
    """A client that keeps the frames it was sent."""

    def __init__(self) -> None:
        self.writable = True
        self.frames: list[Any] = []

    def send_frame(self, frame: bytes) -> None:
        self.frames.append(json.loads(frame))


def friends_of(user_id: UserId, *friends: UserId, sequence: int = 1, sharing: bool = True) -> FriendList:
    edges = tuple(FriendEdge(friend, sharing) for friend in friends)
    return FriendList(user_id, sequence, sharing=True, tokens_valid_from_ms=0, friends=edges)


def at(lat: float, lon: float, recorded_at_ms: int = NOW_MS) -> LocationRecord:
    return LocationRecord(recorded_at_ms * 1000, recorded_at_ms, lat, lon)


def watching(hub: Hub, user_id: UserId, *friends: UserId, radius_m: float = 1_000) -> Viewer:
    """Return a viewer in the middle of Seoul who has had its first snapshot."""
    viewer = Viewer(user_id, radius_m, Screen())
    hub.attach(viewer, friends_of(user_id, *friends))
    hub.move(viewer, *SEOUL)
    viewer.live = True
    viewer.snapshot()
    return viewer


def due(hub: Hub, viewer: Viewer) -> Changes:
    """Return what the outbox would send to ``viewer`` now."""
    hub.mark_moved()
    pending, viewer.pending = viewer.pending, {}
    viewer.queued = False
    if viewer in hub.queue:
        hub.queue.remove(viewer)
    return viewer.changes(pending)


def shown(changes: Changes) -> dict[str, int]:
    return {entry["user_id"]: entry["distance_m"] for entry in map(json.loads, changes.friends)}


def see(hub: Hub, user_id: UserId, lat: float, lon: float, recorded_at_ms: int = NOW_MS) -> bool:
    return hub.observe(location_channel(user_id), at(lat, lon, recorded_at_ms), NOW_MS)


def test_a_friend_within_the_radius_is_shown_with_the_distance() -> None:
    hub = Hub(TTL_MS)
    viewer = watching(hub, ANNA, BEN)
    see(hub, BEN, 37.57, 126.983)
    assert shown(due(hub, viewer)) == {BEN: round(distance_m(*SEOUL, 37.57, 126.983))}


def test_a_friend_out_of_the_radius_is_not_shown() -> None:
    hub = Hub(TTL_MS)
    viewer = watching(hub, ANNA, BEN)
    see(hub, BEN, 37.60, 126.978)
    assert due(hub, viewer) == Changes([], {})


def test_a_friend_at_the_edge_leaves_only_beyond_a_tenth_more_than_the_radius() -> None:
    hub = Hub(TTL_MS)
    viewer = watching(hub, ANNA, BEN)
    north = 1 / 111_195.08  # degrees of latitude per metre on the sphere of geo.EARTH_RADIUS_M
    steps = [(990, True), (1_050, True), (1_099, True), (1_101, False), (1_050, False), (1_001, False), (999, True)]
    for step, (metres, expected) in enumerate(steps):
        see(hub, BEN, SEOUL[0] + metres * north, SEOUL[1], NOW_MS + step)
        changes = due(hub, viewer)
        assert bool(changes.friends) is expected, metres
        assert (changes.gone == {BEN: GoneReason.OUT_OF_RANGE}) is (metres == 1_101)


def test_my_own_move_reevaluates_friends_who_stand_still() -> None:
    hub = Hub(TTL_MS)
    viewer = watching(hub, ANNA, BEN)
    see(hub, BEN, *SEOUL)
    due(hub, viewer)
    hub.move(viewer, 37.5700, 126.9780)
    assert shown(due(hub, viewer)) == {BEN: 389}
    hub.move(viewer, 37.70, 126.9780)
    assert due(hub, viewer).gone == {BEN: GoneReason.OUT_OF_RANGE}


def test_an_older_or_repeated_location_changes_nothing() -> None:
    hub = Hub(TTL_MS)
    viewer = watching(hub, ANNA, BEN)
    assert see(hub, BEN, *SEOUL, recorded_at_ms=NOW_MS + 5)
    due(hub, viewer)
    assert not see(hub, BEN, 37.6, 127.0, recorded_at_ms=NOW_MS + 5)
    assert not see(hub, BEN, 37.6, 127.0, recorded_at_ms=NOW_MS + 4)
    assert due(hub, viewer) == Changes([], {})


def test_a_friend_whose_entry_outlives_its_ttl_becomes_inactive() -> None:
    hub = Hub(TTL_MS)
    viewer = watching(hub, ANNA, BEN)
    see(hub, BEN, *SEOUL)
    due(hub, viewer)
    hub.expire(NOW_MS + TTL_MS - 1)
    assert due(hub, viewer) == Changes([], {})
    hub.expire(NOW_MS + TTL_MS + 1_000)
    assert due(hub, viewer) == Changes([], {BEN: GoneReason.INACTIVE})


def test_a_renewed_entry_lives_on() -> None:
    hub = Hub(TTL_MS)
    viewer = watching(hub, ANNA, BEN)
    see(hub, BEN, *SEOUL)
    hub.observe(location_channel(BEN), at(*SEOUL, recorded_at_ms=NOW_MS + 30_000), NOW_MS + 30_000)
    due(hub, viewer)
    hub.expire(NOW_MS + TTL_MS + 1_000)
    assert due(hub, viewer) == Changes([], {})
    hub.expire(NOW_MS + TTL_MS + 31_000)
    assert due(hub, viewer).gone == {BEN: GoneReason.INACTIVE}


def test_a_location_from_the_cache_lives_as_long_as_the_cache_says() -> None:
    hub = Hub(TTL_MS)
    viewer = watching(hub, ANNA, BEN)
    hub.observe(location_channel(BEN), at(*SEOUL), NOW_MS, remaining_ms=5_000)
    due(hub, viewer)
    hub.expire(NOW_MS + 7_000)
    assert due(hub, viewer).gone == {BEN: GoneReason.INACTIVE}


def test_a_friend_who_pauses_sharing_becomes_inactive_and_comes_back() -> None:
    hub = Hub(TTL_MS)
    viewer = watching(hub, ANNA, BEN)
    see(hub, BEN, *SEOUL)
    due(hub, viewer)
    hub.set_sharing(BEN, sharing=False, sequence=10)
    assert due(hub, viewer) == Changes([], {BEN: GoneReason.INACTIVE})
    see(hub, BEN, *SEOUL, recorded_at_ms=NOW_MS + 1)
    assert due(hub, viewer) == Changes([], {})
    hub.set_sharing(BEN, sharing=True, sequence=11)
    assert shown(due(hub, viewer)) == {BEN: 0}


def test_an_older_switch_does_not_undo_a_newer_one() -> None:
    hub = Hub(TTL_MS)
    viewer = watching(hub, ANNA, BEN)
    see(hub, BEN, *SEOUL)
    due(hub, viewer)
    hub.set_sharing(BEN, sharing=False, sequence=10)
    due(hub, viewer)
    hub.set_sharing(BEN, sharing=True, sequence=9)
    assert due(hub, viewer) == Changes([], {})


def test_I2_a_pause_heard_while_the_friend_list_was_on_its_way_is_not_undone_by_it() -> None:
    hub = Hub(TTL_MS)
    hub.set_sharing(BEN, sharing=False, sequence=10)
    viewer = Viewer(ANNA, 1_000, Screen())
    hub.attach(viewer, friends_of(ANNA, BEN, sequence=9))
    see(hub, BEN, *SEOUL)
    hub.move(viewer, *SEOUL)
    assert viewer.snapshot() == []


def test_the_memory_of_switches_is_bounded() -> None:
    hub = Hub(TTL_MS)
    for sequence in range(MAX_SWITCHES + 10):
        hub.set_sharing(UserId(str(sequence)), sharing=False, sequence=sequence)
    assert len(hub.switches) == MAX_SWITCHES


def test_a_paused_friend_is_in_no_snapshot() -> None:
    hub = Hub(TTL_MS)
    viewer = Viewer(ANNA, 1_000, Screen())
    hub.attach(viewer, friends_of(ANNA, BEN, sharing=False))
    see(hub, BEN, *SEOUL)
    hub.move(viewer, *SEOUL)
    assert viewer.snapshot() == []


def test_a_removed_friend_leaves_the_map_and_is_not_shown_again() -> None:
    hub = Hub(TTL_MS)
    viewer = watching(hub, ANNA, BEN)
    see(hub, BEN, *SEOUL)
    due(hub, viewer)
    assert hub.remove_friend(viewer, BEN, GoneReason.REMOVED) == location_channel(BEN)
    assert due(hub, viewer) == Changes([], {BEN: GoneReason.REMOVED})
    see(hub, BEN, *SEOUL, recorded_at_ms=NOW_MS + 1)
    assert due(hub, viewer) == Changes([], {})


def test_a_friend_removed_while_marked_is_not_sent() -> None:
    hub = Hub(TTL_MS)
    viewer = watching(hub, ANNA, BEN)
    see(hub, BEN, *SEOUL)
    hub.remove_friend(viewer, BEN, GoneReason.REMOVED)
    assert due(hub, viewer) == Changes([], {})


def test_a_friend_removed_and_added_again_is_shown_and_not_reported_gone() -> None:
    hub = Hub(TTL_MS)
    viewer, other = watching(hub, ANNA, BEN), watching(hub, CLEO, BEN)
    see(hub, BEN, *SEOUL)
    due(hub, viewer)
    hub.remove_friend(viewer, BEN, GoneReason.REMOVED)
    hub.add_friend(viewer, FriendEdge(BEN))
    changes = due(hub, viewer)
    assert shown(changes) == {BEN: 0}
    assert changes.gone == {}
    assert shown(due(hub, other)) == {BEN: 0}


def test_two_local_users_share_a_friend_and_one_disconnects_the_other_still_gets_updates() -> None:
    hub = Hub(TTL_MS)
    anna, cleo = watching(hub, ANNA, BEN), watching(hub, CLEO, BEN)
    assert hub.detach(anna) == [location_channel(BEN)]
    see(hub, BEN, *SEOUL)
    assert shown(due(hub, cleo)) == {BEN: 0}
    assert anna.pending == {}


def test_the_last_viewer_of_a_friend_leaves_nothing_behind() -> None:
    hub = Hub(TTL_MS)
    viewer = watching(hub, ANNA, BEN)
    see(hub, BEN, *SEOUL)
    hub.detach(viewer)
    assert hub.entries == {}
    hub.expire(NOW_MS + 2 * TTL_MS)


def test_a_snapshot_replaces_the_map_and_updates_continue_it() -> None:
    hub = Hub(TTL_MS)
    viewer = watching(hub, ANNA, BEN, CLEO)
    see(hub, BEN, *SEOUL)
    see(hub, CLEO, 37.9, 126.978)
    hub.mark_moved()
    frame = json.loads(JSON.snapshot(viewer.snapshot()))
    assert [friend["user_id"] for friend in frame["friends"]] == [BEN]
    assert due(hub, viewer) == Changes([], {})
    see(hub, CLEO, *SEOUL, recorded_at_ms=NOW_MS + 1)
    assert shown(due(hub, viewer)) == {CLEO: 0}


@pytest.mark.parametrize(("codec", "read"), [(JSON, json.loads), (MESSAGE_PACK, msgspec.msgpack.decode)])
def test_the_frames_are_those_of_the_protocol(codec: Codec, read: Callable[[bytes], Any]) -> None:
    hub = Hub(TTL_MS)
    viewer = watching(hub, ANNA, BEN)
    viewer.codec = codec
    record = LocationRecord(1, NOW_MS, 37.571, 126.982, 8.0, 1.5, 270.0)
    hub.observe(location_channel(BEN), record, NOW_MS)
    changes = due(hub, viewer)
    frame = codec.update(changes.friends, changes.gone)
    assert frame is not None
    assert read(frame) == {
        "type": "update",
        "friends": [
            {
                "user_id": BEN,
                "lat": 37.571,
                "lon": 126.982,
                "distance_m": 612,
                "updated_at_ms": NOW_MS,
                "precision": "exact",
                "accuracy_m": 8.0,
                "speed_mps": 1.5,
                "heading_deg": 270.0,
            }
        ],
    }


def test_an_entry_is_written_only_in_the_codecs_of_its_viewers_and_once_for_all_of_them() -> None:
    hub = Hub(TTL_MS)
    viewers = [watching(hub, user_id, BEN) for user_id in (ANNA, CLEO)]
    see(hub, BEN, *SEOUL)
    (entry,) = viewers[0].friends.values()
    for viewer in viewers:
        due(hub, viewer)
    written, not_asked_for = entry.fragments[JSON.place], entry.fragments[MESSAGE_PACK.place]
    assert written is not None
    assert not_asked_for is None
    viewers[1].codec = MESSAGE_PACK
    for viewer in viewers:
        viewer.snapshot()
    assert entry.fragments[JSON.place] is written
    assert entry.fragments[MESSAGE_PACK.place] is not None
    see(hub, BEN, *SEOUL, recorded_at_ms=NOW_MS + 1)
    assert entry.fragments == [None, None]


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["friend", "viewer", "pause", "resume", "expire"]),
        st.floats(37.55, 37.58),
        st.floats(126.96, 127.0),
    ),
    max_size=40,
)


@given(MOVES, st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_I1_the_map_kept_from_updates_equals_the_truth(moves: list[tuple[str, float, float]], flush_every: int) -> None:
    """Whatever happens in whatever order, however much of it is merged, the map ends up right."""
    hub = Hub(TTL_MS)
    viewer = watching(hub, ANNA, BEN)
    screen: dict[str, int] = {}
    mine, theirs, sharing = SEOUL, None, True
    for step, (what, lat, lon) in enumerate(moves, 1):
        match what:
            case "friend":
                theirs = (lat, lon)
                see(hub, BEN, lat, lon, NOW_MS + step)
            case "viewer":
                mine = (lat, lon)
                hub.move(viewer, lat, lon)
            case "pause" | "resume":
                sharing = what == "resume"
                hub.set_sharing(BEN, sharing, step)
            case _:
                theirs = None
                hub.expire(NOW_MS + 2 * TTL_MS)
        if step % flush_every == 0 or step == len(moves):
            changes = due(hub, viewer)
            screen.update(shown(changes))
            for user_id in changes.gone:
                del screen[user_id]
    visible = theirs if sharing else None
    distance = None if visible is None else distance_m(*mine, *visible)
    if distance is None or distance > 1_100:
        assert screen == {}
    elif distance < 999.9:
        assert screen == {BEN: int(distance + 0.5)}


class ScreenOfViewer(Screen):
    """A client that knows its viewer, as a connection does."""

    viewer: Viewer


def test_a_client_that_has_gone_is_freed_without_the_garbage_collector() -> None:
    """Which no longer looks at what has been there for long."""
    hub = Hub(TTL_MS)
    screen = ScreenOfViewer()
    screen.viewer = Viewer(ANNA, 1_000, screen)
    hub.attach(screen.viewer, friends_of(ANNA, BEN))
    hub.detach(screen.viewer)
    gone = weakref.ref(screen)
    gc.disable()
    try:
        del screen
        assert gone() is None
    finally:
        gc.enable()
