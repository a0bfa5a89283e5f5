"""The outbox: one frame per change with headroom, merged frames without, and never more than its budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from nearby.channels import approximate_channel, location_channel
from nearby.model import FriendEdge, UserId
from nearby.sharing import Tier, TierPlan
from tests.ws_gateway.test_hub import ANNA, BEN, NOW_MS, SEOUL, TTL_MS, Screen, at, see, watching
from ws_gateway.hub import Hub
from ws_gateway.outbox import BUDGET_S, MAX_AT_ONCE, STALL_S, Outbox
from ws_gateway.viewer import Viewer

USERS = [UserId(f"00000000-0000-4000-8000-{n:012}") for n in range(200)]
STAR = USERS[0]


class Loop:
    """An event loop of one callback, with a clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.step_s = 0.0
        self.scheduled: list[Callable[[], None]] = []
        self.stalls: list[float] = []

    def clock(self) -> float:
        self.now_s += self.step_s
        return self.now_s

    def run_once(self) -> None:
        self.scheduled.pop(0)()


def outbox_of(hub: Hub, loop: Loop, at_once: int = MAX_AT_ONCE) -> Outbox:
    return Outbox(
        hub,
        later=loop.scheduled.append,
        clock=loop.clock,
        stalled=lambda: loop.stalls.append(loop.now_s),
        at_once=at_once,
    )


def frames_of(viewer: Viewer) -> list[dict[str, object]]:
    assert isinstance(viewer.client, Screen)
    return viewer.client.frames


def test_with_headroom_each_change_leaves_at_once_in_a_frame_of_its_own() -> None:
    hub, loop = Hub(TTL_MS), Loop()
    outbox = outbox_of(hub, loop)
    viewer = watching(hub, ANNA, *USERS[:3])
    for friend in USERS[:3]:
        see(hub, friend, *SEOUL)
        outbox.flush()
    assert len(frames_of(viewer)) == 3
    assert outbox.delivered_count == outbox.frame_count == 3


def test_changes_that_wait_are_merged_and_the_latest_per_friend_wins() -> None:
    hub, loop = Hub(TTL_MS), Loop()
    outbox = outbox_of(hub, loop)
    viewer = watching(hub, ANNA, *USERS[:3])
    for step in range(10):
        for friend in USERS[:3]:
            see(hub, friend, *SEOUL, recorded_at_ms=NOW_MS + step)
    outbox.flush()
    (frame,) = frames_of(viewer)
    friends = frame["friends"]
    assert isinstance(friends, list)
    assert {friend["user_id"]: friend["updated_at_ms"] for friend in friends} == dict.fromkeys(USERS[:3], NOW_MS + 9)
    assert hub.marked_count == outbox.compared_count == outbox.delivered_count == 3


FRIENDS = USERS[:4]
CLOAKED = USERS[3]
"""Whom one of the two viewers may only see approximately."""
PLACES = [(37.5665, 126.978 + 0.0005 * step) for step in range(30)]
"""Up to 1.3 km away from those who look; they look 1 km far."""

steps = st.lists(
    st.one_of(
        st.tuples(st.just("see"), st.sampled_from(FRIENDS), st.sampled_from(PLACES)),
        st.tuples(st.just("move"), st.sampled_from((0, 1)), st.sampled_from(PLACES)),
        st.tuples(st.just("share"), st.sampled_from(FRIENDS), st.booleans()),
        st.tuples(st.just("stop or go on reading"), st.sampled_from((0, 1)), st.booleans()),
        st.tuples(st.just("flush"), st.none(), st.none()),
    ),
    max_size=40,
)


SEEN_TWICE = [("see", CLOAKED, PLACES[0]), ("flush", None, None), ("see", CLOAKED, PLACES[5]), ("flush", None, None)]


@given(steps)
@example(SEEN_TWICE)
@settings(deadline=None)
def test_telling_at_once_and_merging_say_the_same(steps: list[tuple[str, Any, Any]]) -> None:
    assert told(steps, at_once=400) == told(steps, at_once=0)


def told(steps: list[tuple[str, Any, Any]], at_once: int) -> list[list[dict[str, Any]]]:
    """Carry out ``steps``; return for each viewer what they were told of each friend, by the number of the flush."""
    hub, loop = Hub(TTL_MS), Loop()
    outbox = outbox_of(hub, loop, at_once)
    viewers = [watching(hub, ANNA, *FRIENDS), watching(hub, BEN, *FRIENDS[1:])]
    hub.change_friend(viewers[1], FriendEdge(CLOAKED, shows=TierPlan(Tier.APPROXIMATE)))
    heard: list[list[dict[str, Any]]] = [[], []]
    for number, step in enumerate([*steps, ("stop or go on reading", 0, True), ("stop or go on reading", 1, True)], 1):
        match step:
            case ("see", friend, place):
                for channel in (location_channel(friend), approximate_channel(friend)):
                    hub.observe(channel, at(place[0], place[1], NOW_MS + number), NOW_MS)
            case ("move", index, place):
                hub.move(viewers[index], *place)
            case ("share", friend, sharing):
                hub.set_sharing(friend, sharing, number)
            case (_, index, True):
                viewers[index].client.writable = True
                outbox.resume(viewers[index])
                outbox.flush()
            case (_, index, False):
                viewers[index].client.writable = False
            case _:
                outbox.flush()
        for viewer, said in zip(viewers, heard, strict=True):
            frames, frames_of(viewer)[:] = list(frames_of(viewer)), []
            news = {entry["user_id"]: entry for frame in frames for entry in entries_in(frame)}
            if news:
                said.append({"flush": number, **news})
    return heard


def entries_in(frame: dict[str, Any]) -> list[dict[str, Any]]:
    return [*frame.get("friends", ()), *frame.get("gone", ())]


def test_a_flush_ends_with_its_budget_and_goes_on_in_the_next_turn() -> None:
    hub, loop = Hub(TTL_MS), Loop()
    outbox = outbox_of(hub, loop)
    viewers = [watching(hub, user, STAR) for user in USERS[1:101]]
    see(hub, STAR, *SEOUL)
    loop.step_s = BUDGET_S
    outbox.flush()
    served = sum(bool(frames_of(viewer)) for viewer in viewers)
    assert 0 < served < 100
    while loop.scheduled:
        loop.run_once()
    assert all(len(frames_of(viewer)) == 1 for viewer in viewers)


def test_under_overload_everything_is_read_before_the_next_flush() -> None:
    hub, loop = Hub(TTL_MS), Loop()
    outbox = outbox_of(hub, loop)
    viewers = [watching(hub, user, *USERS[:2]) for user in USERS[2:102]]
    see(hub, USERS[0], *SEOUL)
    loop.step_s = BUDGET_S
    outbox.burst_ended()
    late = [viewer for viewer in viewers if not frames_of(viewer)]
    assert 0 < len(late) < 100
    see(hub, USERS[1], *SEOUL)
    outbox.burst_ended()
    assert not any(frames_of(viewer) for viewer in late), "the flush that is scheduled will serve them"
    assert len(loop.scheduled) == 1
    while loop.scheduled:
        loop.run_once()
    assert all(len(entries_in(frames_of(viewer)[0])) == 2 for viewer in late), "merged"


def test_with_headroom_a_burst_is_sent_at_its_end() -> None:
    hub, loop = Hub(TTL_MS), Loop()
    outbox = outbox_of(hub, loop)
    viewer = watching(hub, ANNA, STAR)
    see(hub, STAR, *SEOUL)
    outbox.schedule()
    outbox.burst_ended()
    assert len(frames_of(viewer)) == 1


def test_a_client_that_does_not_read_keeps_one_mark_per_friend_and_gets_the_latest_when_it_does() -> None:
    hub, loop = Hub(TTL_MS), Loop()
    outbox = outbox_of(hub, loop)
    stuck, other = watching(hub, ANNA, STAR), watching(hub, USERS[1], STAR)
    stuck.client.writable = False
    for step in range(50):
        see(hub, STAR, *SEOUL, recorded_at_ms=NOW_MS + step)
        outbox.flush()
    assert len(frames_of(other)) == 50
    assert frames_of(stuck) == []
    assert len(stuck.pending) == 1
    stuck.client.writable = True
    outbox.resume(stuck)
    loop.run_once()
    (frame,) = frames_of(stuck)
    friends = frame["friends"]
    assert isinstance(friends, list)
    assert friends[0]["updated_at_ms"] == NOW_MS + 49


def test_a_viewer_who_left_is_passed_over() -> None:
    hub, loop = Hub(TTL_MS), Loop()
    outbox = outbox_of(hub, loop)
    viewer = watching(hub, ANNA, STAR)
    screen = viewer.client
    assert isinstance(screen, Screen)
    hub.observe(location_channel(STAR), at(*SEOUL), NOW_MS)
    hub.detach(viewer)
    outbox.flush()
    assert screen.frames == []


def test_a_process_that_stood_still_sends_nothing_until_it_has_read_everything_again() -> None:
    hub, loop = Hub(TTL_MS), Loop()
    outbox = outbox_of(hub, loop)
    viewer = watching(hub, ANNA, STAR)
    see(hub, STAR, *SEOUL)
    loop.now_s += STALL_S
    outbox.flush()
    assert loop.stalls == [loop.now_s]
    assert not outbox.may_send()
    outbox.flush()
    assert frames_of(viewer) == []
    assert len(outbox) == 1, "somebody waits for what is held back"
    assert len(loop.stalls) == 1
    outbox.release()
    assert len(frames_of(viewer)) == 1
    assert outbox.may_send()


def test_what_expired_while_the_process_stood_still_is_never_sent() -> None:
    hub, loop = Hub(TTL_MS), Loop()
    outbox = outbox_of(hub, loop)
    viewer = watching(hub, ANNA, STAR, USERS[1])
    see(hub, STAR, *SEOUL)
    see(hub, USERS[1], *SEOUL)
    loop.now_s += STALL_S
    outbox.flush()
    assert set(hub.doubt()) == {location_channel(STAR), location_channel(USERS[1])}
    assert not hub.observe(location_channel(USERS[1]), at(*SEOUL), NOW_MS, remaining_ms=1_000)
    hub.settle(NOW_MS)
    outbox.release()
    (frame,) = frames_of(viewer)
    friends = frame["friends"]
    assert isinstance(friends, list)
    assert [friend["user_id"] for friend in friends] == [USERS[1]]


def test_a_shown_friend_who_expired_while_the_process_stood_still_leaves_the_map() -> None:
    hub, loop = Hub(TTL_MS), Loop()
    outbox = outbox_of(hub, loop)
    viewer = watching(hub, ANNA, STAR)
    see(hub, STAR, *SEOUL)
    outbox.flush()
    loop.now_s += STALL_S
    assert not outbox.may_send()
    hub.doubt()
    hub.settle(NOW_MS)
    outbox.release()
    assert frames_of(viewer)[-1]["gone"] == [{"user_id": STAR, "reason": "inactive"}]
    hub.expire(NOW_MS + 2 * TTL_MS)  # its place in the calendar is gone with it
